"""Records of runs: their identity, unfinished and finished runs, and the result of `train`."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from foldstack.errors import shown
from foldstack.records.base import Record, Value
from foldstack.records.scores import ModelScores


def _names_learner(settings: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(settings.get("learner"), str):
        raise ValueError("they name no learner")
    return settings


class RunIdentity(Value):
    """Everything that determines what a run learns.

    Keys that this version does not know are kept and compared.

    Attributes:
        settings: the model's settings by `config.identity`.
        folds, train, overlay: hashes of the folds, the training rows, and external rows or weights.
        edits: the digest of the edits of training rows.
        start, hard, washed, pseudo, distil: digests of the runs that it depends on, see
            `stages.run.Dependency`; for filtered copies and teachers one per run.
        unlabelled: the digest of the unlabelled rows that it learns from.
        features: hashes of the feature columns of the training and the external rows.
        row_weights: the digest of the weights to the test file, if the model learns with them.
        auxiliary: the auxiliary targets' settings and their hashes, in the same order.
        auto_rules: digest of the rules of those settings that are `auto`.
        named_files: digests of the files in input/ and of the models' folders that the settings name,
            by setting.
    """

    model_config = ConfigDict(extra="allow")
    ABSENT: ClassVar[frozenset[str]] = frozenset(
        (
            "edits",
            "start",
            "hard",
            "washed",
            "pseudo",
            "fitted",
            "distil",
            "unlabelled",
            "features",
            "auxiliary",
            "row_weights",
            "auto_rules",
            "named_files",
        )
    )

    settings: Annotated[dict[str, Any], AfterValidator(_names_learner)]
    folds: str
    train: str
    overlay: str | None
    edits: str | None = None
    start: str | None = None
    hard: str | None = None
    washed: dict[str, str | None] | None = None
    pseudo: dict[str, str | None] | None = None
    fitted: dict[str, str | None] | None = None
    distil: dict[str, str | None] | None = None
    unlabelled: str | None = None
    features: list[str | None] | None = None
    auxiliary: list[Any] | None = None
    row_weights: str | None = None
    auto_rules: str | None = None
    named_files: dict[str, str | None] | None = None


class PartialRecord(Record):
    """identity.json of an unfinished run.

    Attributes:
        run: the seed and the folds that it leaves out.
        machine, versions: hardware and packages, which may change the last bits.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset(("run",))

    run: list[int] | None = None
    identity: RunIdentity
    machine: dict[str, Any]
    versions: dict[str, str]


class TextsOf(Value):
    """How many of the unlabelled texts of a source a run learns.

    Attributes:
        source: test, pool or recombined.
        rows: the number of rows of the source.
        free: those of them that have a text, and are no copies of rows to be predicted.
        learned: those of the free ones that are learned.
        classes: the number of learned rows by the class that teachers predict, or by each of several
            labels; None without teachers, and for values.
        surest: the highest confidence of a label; None if there is none.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset(("classes", "surest"))

    source: str
    rows: int
    free: int
    learned: int
    classes: dict[str, int] | None = None
    surest: float | None = None


class UnlabelledRecord(Value):
    """The unlabelled texts that a run learns, by source.

    Attributes:
        pseudo_labels, consistency: by which setting.
        weights: of each teacher in the mean, if fitted.
        temperatures: of each teacher, per label or one for all classes, if fitted; None where too few
            rows have left the probabilities as they are.
    """

    pseudo_labels: list[TextsOf] = Field(default_factory=list)
    consistency: list[TextsOf] = Field(default_factory=list)
    weights: dict[str, float] = Field(default_factory=dict)
    temperatures: dict[str, list[float | None]] = Field(default_factory=dict)


class RunRecord(Record):
    """run.json of a finished run.

    Attributes:
        preset: the preset that it was trained with, which differs from the model's name for a variant
            (NAME=); None in older records.
        left_out: the folds that it has not learned from.
        score: the score on its held-out rows; None if it has none, or if it is undefined there.
        predictions: the digest of each named set of predictions.
        test_features: the hash of the test rows' feature columns, if the model reads them.
        optimistic: why its score may be too good.
        rows: the number of rows that it learned from, copies and external rows included.
        unlabelled: what it learned of unlabelled texts; None if it reads none.
        facts: the learner's facts: `updates`, `training_seconds`, `precision`, `epoch_scores` …; each is
            a key of its own on disk, between `peak_memory_mb` and `pretrained`.
        pretrained: the key of the backbone that it started from.
        files: the sha256 of each file; None in records without digests.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset(
        ("model", "preset", "run", "test_features", "rows", "unlabelled", "files")
    )

    model: str | None = None
    preset: str | None = None
    seed: int
    run: str | None = None
    left_out: list[int]
    identity: RunIdentity
    metric: str
    score: float | None
    predictions: dict[str, str]
    test_features: str | None = None
    optimistic: list[str]
    rows: int | None = None
    unlabelled: UnlabelledRecord | None = None
    seconds: float
    peak_memory_mb: int
    facts: dict[str, Any] = Field(default_factory=dict)
    pretrained: str | None = None
    machine: dict[str, Any]
    versions: dict[str, str]
    files: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_facts(cls, flat: Any) -> Any:
        """Collect the keys that are not fields of the record, without the digest."""
        if not isinstance(flat, dict) or "facts" in flat:
            return flat
        own = {k: v for k, v in flat.items() if k in cls.model_fields}
        return own | {"facts": {k: v for k, v in flat.items() if k not in own and k != "digest"}}

    @field_validator("facts")
    @classmethod
    def _is_no_field(cls, facts: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(facts.keys() & (cls.model_fields.keys() | {"digest"}))
        if taken:
            raise ValueError(f"'{taken[0]}' is a field of run.json and cannot be a learner's fact")
        return facts

    @classmethod
    def check_facts(cls, facts: Any) -> None:
        """Raise ValueError if what a learner's `fit` returned cannot be part of run.json."""
        if not isinstance(facts, dict) or not all(isinstance(name, str) for name in facts):
            raise ValueError(f"{shown(facts)} is not a dict of facts by name")
        cls._is_no_field(facts)
        for name, value in facts.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError):
                raise ValueError(f"the fact '{name}' is {shown(value)}, not JSON") from None

    def to_json(self) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in super().to_json().items():
            flat |= value if key == "facts" else {key: value}
        return flat


class TrainedRecord(Record):
    """The result of the train stage: names of the runs trained now, and of those finished before.

    missing: sentences about files that finished runs have learned from and that are no longer there.
    scores: the models' pooled scores after training; None if nothing was trained.
    """

    trained: list[str]
    finished: list[str]
    missing: list[str] = Field(default_factory=list)
    scores: ModelScores | None = None

    @property
    def nothing_to_do(self) -> str | None:
        """The line to print if every run was finished before; otherwise None."""
        if self.trained:
            return None
        shown = ", ".join(self.finished[:3]) + (" …" if len(self.finished) > 3 else "")
        return f"train: nothing to do, {len(self.finished)} finished: {shown}"


class Int8Record(Record):
    """int8.json: loss of score and speed-up by int8, measured on a run's held-out rows.

    Attributes:
        rows: the number of rows that it was measured on.
        precision: the precision of the training and of the stored predictions.
        stored: the score of the stored predictions.
        int8: the score of the same rows in int8.
        largest_difference: the largest absolute difference of a probability.
        times_as_fast: the ratio of CPU times.
    """

    metric: str
    rows: int
    precision: str
    stored: float
    int8: float
    largest_difference: float
    times_as_fast: float
    machine: dict[str, Any]
