"""The registry of learners: to define a learner's settings class is to register it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from foldstack.settings import Settings
from foldstack.techniques.loop_settings import LoopSettings


@dataclass(frozen=True)
class Traits:
    """Capabilities of a learner.

    torch: it computes with torch, whose version of the machine its bytes depend on. processes: several
    processes may train a run of it together. int8: it has `in_int8`. epochs: it chooses among epochs by
    the rows to select by. features: it reads the competition's feature columns. auxiliary: it learns
    auxiliary columns. pretraining: it has `pretrain`. start: it may begin from another model's run.
    difficulty: it may draw rows by the losses of another model's run.
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


class LearnerSettings(Settings):
    """Settings of a preset; its `learner` says which class.

    A subclass with `learner: Literal["name"]` registers itself under that name. Stages ask the
    properties below of every learner; a subclass overrides those that its settings decide.

    Class variables:
        registered: the settings classes of all learners by name.
        implementation: `module:class` of `(settings, learners.LearnerContext) -> learners.Learner`,
            imported when it is first used.
        traits: what the implementation can do.
    """

    registered: ClassVar[dict[str, type[LearnerSettings]]] = {}
    implementation: ClassVar[str] = ""
    traits: ClassVar[Traits] = Traits()

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        field = cls.__pydantic_fields__.get("learner")
        if field is None or get_origin(field.annotation) is not Literal:
            return
        for name in get_args(field.annotation):
            if name in cls.registered:
                raise TypeError(f"{cls.__name__}: the learner '{name}' is registered already")
            cls.registered[name] = cls

    @property
    def epoch_chosen_by(self) -> str:
        """Which rows choose the epoch: `last` (none do), `inner` or `fold`."""
        return "last"

    @property
    def joins_features(self) -> bool:
        """Whether the competition's feature columns are read."""
        return False

    @property
    def learns_auxiliary(self) -> bool:
        """Whether the competition's auxiliary columns are learned."""
        return False

    @property
    def pretrains(self) -> bool:
        """Whether a backbone learns from the workspace's texts first."""
        return False

    @property
    def start_model(self) -> str | None:
        """The model whose run gives the weights to begin with, if one does."""
        return None

    @property
    def hard_model(self) -> str | None:
        """The model whose losses say which rows are hard, if one does."""
        return None

    @property
    def copies(self) -> int:
        """Changed copies of each row to learn from."""
        return 0

    @property
    def judge_model(self) -> str | None:
        """The model whose runs judge the copies, if one does."""
        return None

    def check_traits(self) -> None:
        """Raise ValueError if a setting asks for what the learner's traits do not have."""
        can = self.traits
        for asked, able, what in (
            (self.epoch_chosen_by != "last", can.epochs, "has no epochs to choose among"),
            (self.joins_features, can.features, "reads no feature columns"),
            (self.learns_auxiliary, can.auxiliary, "learns no auxiliary columns"),
            (self.pretrains, can.pretraining, "has no backbone to pretrain"),
            (self.start_model, can.start, "begins from no other model"),
            (self.hard_model, can.difficulty, "draws no rows by another model's losses"),
        ):
            if asked and not able:
                raise ValueError(f"learner {self.learner} {what}: leave the setting for it out")

    def check_kind(self, kind: str) -> None:
        """Raise ValueError if a setting is not for this kind of competition."""

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
    """Settings of a learner whose network `training.loop` trains in one go, as `training` says."""

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

    def check_kind(self, kind: str) -> None:
        self.training.check_kind(kind)
