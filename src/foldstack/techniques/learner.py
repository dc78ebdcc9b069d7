"""The registry of learners: to define a learner's settings class is to register it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import BeforeValidator

from foldstack.errors import InputError, cut, nearest
from foldstack.kinds import Kind
from foldstack.settings import FileName, Listed, Settings, none_from_text, one_in_a_list
from foldstack.techniques.loop_settings import LoopSettings
from foldstack.techniques.registry import check_path, load
from foldstack.techniques.teaching import Distillation, PseudoLabels


@dataclass(frozen=True)
class Traits:
    """Capabilities of a learner.

    torch: it uses torch, so its bytes depend on the machine's torch version. processes: several
    processes can train one run. int8: it has `in_int8`. epochs: it can select an epoch by the rows
    to select by. features: it reads feature columns. auxiliary: it learns auxiliary columns.
    pretraining: it has `pretrain`. start: it can start from another model's weights. difficulty: it
    can sample rows by another model's losses. weights: it weights rows by `Rows.weights`. tempered: it
    learns the probabilities in `Rows.taught` at a temperature. mixes: its updates mix training rows
    and pseudo-labelled ones in a ratio.
    """

    torch: bool = False
    processes: bool = False
    int8: bool = False
    epochs: bool = False
    features: bool = False
    auxiliary: bool = False
    pretraining: bool = False
    start: bool = False
    difficulty: bool = False
    weights: bool = False
    mixes: bool = False
    tempered: bool = False


def _external_files(value: Any) -> Any:
    value = none_from_text(value)
    return value if value == "all" else one_in_a_list(value)


class LearnerSettings(Settings):
    """Settings of a preset; its `learner` selects the class.

    A subclass with `learner: Literal["name"]` registers itself under that name. Stages read the
    properties below; a subclass overrides those that depend on its settings.

    Class variables:
        registered: the settings classes of all learners by name.
        implementation: `module:class` of `(settings, learners.LearnerContext) -> learners.Learner`,
            imported on first use.
        traits: capabilities of the implementation.

    external_files: which files of the competition's `external` are learned: all, none, or names.
    pseudo_labels: learn unlabelled rows too, with the labels that other models predict.
    distil: learn training rows from what other models predict of them too.
    """

    registered: ClassVar[dict[str, type[LearnerSettings]]] = {}
    implementation: ClassVar[str] = ""
    traits: ClassVar[Traits] = Traits()
    external_files: Annotated[
        Literal["all"] | Listed[FileName], BeforeValidator(_external_files)
    ] = "all"
    pseudo_labels: Annotated[PseudoLabels | None, BeforeValidator(none_from_text)] = None
    distil: Annotated[Distillation | None, BeforeValidator(none_from_text)] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        field = cls.__pydantic_fields__.get("learner")
        if field is None or get_origin(field.annotation) is not Literal:
            return
        for name in get_args(field.annotation):
            if name in cls.registered:
                raise TypeError(f"{cls.__name__}: the learner '{name}' is registered already")
            check_path(cls.implementation, cls)
            cls.registered[name] = cls

    @classmethod
    def load(cls) -> Any:
        """Return the implementation."""
        return load(cls.implementation, cls)

    @classmethod
    def check_implementation(cls) -> None:
        """Raise InputError, before rows are read, if the implementation of an added learner is missing.

        Those of this package exist, and importing them takes long.
        """
        if not cls.implementation.startswith("foldstack."):
            cls.load()

    def fit_mb(self, rows: int) -> int | None:
        """Return the memory of a fit on this number of rows, in MB; None if it is not known.

        Rows and libraries are not counted.
        """
        return None

    @property
    def is_sharded(self) -> bool:
        """Whether the processes of a run share out its weights, so that it requires several."""
        return False

    def check_backbone(self) -> None:
        """Raise InputError if the backbone's folder or package is missing, or its checksum differs."""

    @property
    def input_files(self) -> dict[str, str]:
        """Names of files in input/ that training reads, by setting."""
        return {}

    @property
    def models_read(self) -> dict[str, str]:
        """Folders, packages or hub names of the models that training reads, by setting."""
        return {}

    @property
    def untouched_backbone(self) -> dict[str, Any] | None:
        """Settings of the backbone before training, as learner vectors has them; None without one."""
        return None

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that predicting imports beside those of every learner, for a bundle."""
        return ()

    def check_inputs(self, files: dict[str, Path]) -> None:
        """Raise InputError if a file that training reads is missing or wrong.

        files: the paths of `input_files`.
        """
        for setting, path in files.items():
            if not path.is_file():
                raise InputError(
                    f"{setting}: there is no file {path}: put it there, or name another"
                )

    @property
    def reads_pool(self) -> bool:
        """Whether training reads the texts of the competition's `pool` files."""
        pseudo = () if self.pseudo_labels is None else self.pseudo_labels.texts
        return self.pretrains or "pool" in {*pseudo, *self.consistent_on}

    @property
    def consistent_on(self) -> tuple[str, ...]:
        """Unlabelled rows, `test` or `pool`, that training reads without labels of teachers."""
        return ()

    @property
    def mixed_ratio(self) -> float | None:
        """Pseudo-labelled rows per training row in each update; None to mix at random."""
        return None if self.pseudo_labels is None else self.pseudo_labels.ratio

    @property
    def epoch_chosen_by(self) -> str:
        """Rows that select the epoch: `last` (none), `inner` or `fold`."""
        return "last"

    @property
    def text_vectors(self) -> Literal["backbone", "run"] | None:
        """Where a single text's vector is from: the frozen backbone, or a run; None without any."""
        return None

    @property
    def joins_features(self) -> bool:
        """Whether the competition's feature columns are read."""
        return False

    @property
    def learns_auxiliary(self) -> bool:
        """Whether the competition's auxiliary columns are learned."""
        return False

    @property
    def weighs_by_drift(self) -> bool:
        """Whether rows are weighted to the test file."""
        return False

    @property
    def pretrains(self) -> bool:
        """Whether the backbone is pre-trained on the workspace's texts first."""
        return False

    @property
    def start_model(self) -> str | None:
        """Model whose run gives the initial weights, or None."""
        return None

    @property
    def hard_model(self) -> str | None:
        """Model whose losses define hard rows, or None."""
        return None

    @property
    def copies(self) -> int:
        """Number of augmented copies per training row."""
        return 0

    @property
    def judge_model(self) -> str | None:
        """Model whose runs judge the copies, or None."""
        return None

    @property
    def repeated(self) -> int | str:
        """Number of fits in a run, from different seeds, whose logits are averaged; or `auto`."""
        return 1

    @property
    def rules(self) -> str | None:
        """Digest of the rules that choose what is `auto`; None if nothing is, or no rule is needed."""
        return None

    def check_traits(self) -> None:
        """Raise ValueError if a setting requires a capability that the learner's traits lack."""
        can = self.traits
        for asked, able, what in (
            (self.epoch_chosen_by != "last", can.epochs, "has no epochs to choose among"),
            (self.joins_features, can.features, "reads no feature columns"),
            (self.learns_auxiliary, can.auxiliary, "learns no auxiliary columns"),
            (self.pretrains, can.pretraining, "has no backbone to pretrain"),
            (self.start_model, can.start, "starts from no other model"),
            (self.hard_model, can.difficulty, "samples no rows by another model's losses"),
            (self.weighs_by_drift, can.weights, "weights no rows"),
            (
                self.pseudo_labels is not None and self.pseudo_labels.compares_vectors,
                self.untouched_backbone is not None,
                "has no backbone, whose vectors pseudo_labels.recombine.by semantic compares",
            ),
            (
                self.distil is not None and self.distil.is_tempered,
                can.tempered,
                "learns from teachers at distil.temperature 1 only",
            ),
        ):
            if asked and not able:
                raise ValueError(f"learner {self.learner} {what}: leave the setting for it out")
        if self.mixed_ratio and not can.mixes:
            raise ValueError(
                f"learner {self.learner} takes no updates in which pseudo_labels.ratio could mix rows: "
                "set pseudo_labels.weight instead"
            )

    def check_external(self, known: Collection[str]) -> None:
        """Raise ValueError if `external_files` names none of the competition's external files."""
        for name in () if self.external_files == "all" else self.external_files:
            if name not in known:
                raise ValueError(
                    f"external_files names '{cut(name)}', which is no file of `external` in "
                    f"competition.yaml: {nearest(name, known)}"
                )

    def check_kind(self, kind: Kind) -> None:
        """Raise ValueError if a setting does not apply to this kind of competition."""

    def of_segments(self, count: int) -> Self:
        """Return the settings with those chosen that depend on the number of texts of a row.

        Raises ValueError if a setting does not apply to it.
        """
        return self

    def check_names(
        self, texts: tuple[str, ...], numeric: tuple[str, ...], auxiliary: tuple[str, ...]
    ) -> None:
        """Raise ValueError if a setting names a text, or a column of these, that a row has not."""

    def check_unlabelled(self, kind: Kind, pool: Sequence[str], segments: int = 1) -> None:
        """Raise ValueError if what reads unlabelled rows does not apply, or there are none.

        pool: names of the competition's pool files.
        segments: texts of a row that are read apart.
        """
        if self.pseudo_labels is not None:
            self.pseudo_labels.check(kind, pool, segments)

    def check_columns(self, features: tuple[str, ...], auxiliary: tuple[str, ...]) -> None:
        """Raise ValueError if a setting requires columns of which the competition has none."""
        if self.joins_features and not features:
            raise ValueError(
                "join_features joins the competition's feature columns, but competition.yaml names "
                "none: list some under `numeric` or `categorical`, or leave join_features out"
            )
        if self.learns_auxiliary and not auxiliary:
            raise ValueError(
                "training.auxiliary learns the competition's auxiliary columns, but competition.yaml "
                "names none: list some under `auxiliary`, or leave it out"
            )


class LoopLearnerSettings(LearnerSettings):
    """Settings of a learner whose network `training.loop` trains in one stage, as `training` says."""

    learner: str
    training: LoopSettings = LoopSettings()

    @property
    def epoch_chosen_by(self) -> str:
        return self.training.select

    @property
    def learns_auxiliary(self) -> bool:
        return self.training.auxiliary > 0

    @property
    def hard_model(self) -> str | None:
        return self.training.sampling.model if self.training.draws_hard_rows else None

    def check_kind(self, kind: Kind) -> None:
        self.training.check_kind(kind)
