"""Records of blends and of submissions."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from foldstack.records.base import Record, Value
from foldstack.records.estimates import EstimateRecord, GainRecord
from foldstack.records.patterns import PatternsEffect


class BlendHashes(Value):
    """What the runs and the blend were made with; features are those of train and of test."""

    folds: str
    train: str
    overlay: str | None
    test: str
    features: list[str | None] = Field(default_factory=list)


class CandidateRecord(Value):
    name: str
    complexity: int | float
    nested: float
    in_sample: float
    difference_to_best: float
    standard_error: float


class RuleTrial(Value):
    """A family of decision rules; gain is over the reference family of the metric."""

    family: str
    nested: float
    in_sample: float
    gain: float
    standard_error: float


class RulesRecord(Value):
    """The families of decision rules that were tried.

    Attributes:
        family: the one that was chosen; families_by_fold: those chosen without each fold.
        gain_over_default: of the nested decisions, over .5 or the most probable class.
    """

    family: str
    families_by_fold: dict[str, str]
    tried: list[RuleTrial]
    gain_over_default: GainRecord


class CalibrationRecord(Value):
    """How reliable a candidate's nested probabilities are; see `ensemble.reliability.scores`."""

    candidate: str
    log_loss: float
    brier: float
    ece: float
    ece_width: float


class ModelEstimate(Value):
    """One model alone."""

    nested: EstimateRecord
    in_sample: float
    optimistic: list[str]


class PositiveRates(Value):
    """Shares of rows that are decided positive; parts if they differ by more than chance explains."""

    oof: float
    test: float
    parts: bool


class RepeatedTexts(Value):
    """Shares of rows with a text that is repeated in train, and the score weighted to that of test."""

    test_share: float
    train_share: float
    score: float | None


class FeaturesRecord(Value):
    """What a stack reads beside predictions; categories is a digest of what their codes stand for."""

    columns: list[str] = Field(default_factory=list)
    categories: str = ""
    text: list[str] = Field(default_factory=list)


class _Estimated(Record):
    """Test predictions with an honest estimate: what both a blend and a submission say of themselves.

    Attributes:
        members: for each model the digests of its runs' predictions, by `seed0/fold2`.
        temperatures: of the models' test means, which give them the confidence of single runs, if they
            were given any; on disk `sharpness`.
        settings: those of `settings.BlendSettings`, as JSON.
        parameters: what the winner has fitted, for `ensemble.load_fitted`.
        rule: from probabilities to labels, for `ensemble.Rule.from_json`; None for probabilities.
        nested, in_sample: the estimate, and the optimistic score on the rows of the fit.
        seed_variance: of the mean of the seeds' scores; 0 for one seed.
        name: of the stored blend; None for a model alone.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"name"})

    kind: str
    metric: str
    costs: list[list[int | float]] | None = None
    scores_are: str = ""
    test_mean: str = ""
    temperatures: dict[str, float] = Field(default_factory=dict, alias="sharpness")
    members: dict[str, dict[str, str]]
    settings: dict[str, Any] = Field(default_factory=dict)
    hashes: BlendHashes
    winner: str
    winners_by_fold: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    rule: dict[str, Any] | None = None
    nested: EstimateRecord
    in_sample: float
    seed_variance: float = 0.0
    optimistic: list[str]
    repeated_texts: RepeatedTexts | None = None
    candidates: list[CandidateRecord] = Field(default_factory=list)
    rules: RulesRecord | None = None
    calibration: list[CalibrationRecord] | None = None
    models: dict[str, ModelEstimate] = Field(default_factory=dict)
    positives: dict[str, PositiveRates] = Field(default_factory=dict)
    features: FeaturesRecord | None = None
    name: str | None = None


class BlendRecord(_Estimated):
    """blend.json: what a blend was made from, what it chose, and what to expect of it.

    Attributes:
        files: the sha256 of each file beside it; None before it is stored, and of a version before
            digests were kept.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"name", "files"})

    # Which only the submissions of the first versions lack.
    winners_by_fold: dict[str, str]
    parameters: dict[str, Any]
    rule: dict[str, Any] | None
    settings: dict[str, Any]
    candidates: list[CandidateRecord]
    seed_variance: float
    positives: dict[str, PositiveRates]
    files: dict[str, str] | None = None

    @property
    def runs_are_aligned(self) -> bool:
        return bool(self.settings.get("align_runs", False))


class SubmissionRecord(_Estimated):
    """submissions/NAME.json.

    Attributes:
        note: what the estimate does not say.
        holds: 'labels', 'probabilities' or 'values'.
        sha256: of NAME.csv; None of a version before it was kept.
        replaces: the sha256 of the file that NAME.csv is about to replace.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"name", "note", "patterns"})

    note: str | None = None
    patterns: PatternsEffect | None = None
    holds: str = ""
    rows: int = 0
    sha256: str | None = None
    replaces: str | None = None

    @classmethod
    def of(cls, blend: BlendRecord, holds: str, rows: int) -> SubmissionRecord:
        """Return the record of a submission of this blend's predictions."""
        own = {name: getattr(blend, name) for name in _Estimated.model_fields if name != "version"}
        return cls(**own, holds=holds, rows=rows)


class Submitted(Record):
    """What the submit stage returns.

    Attributes:
        name: of the submission; file: its path from the workspace on.
    """

    name: str
    file: str
    submission: SubmissionRecord


class ReportRecord(Record):
    """How each label, or regression target, does on out-of-fold rows by nested decisions.

    Attributes:
        of: the blend, or the models.
        file: where the blend keeps the report; None for models.
        text: the report as a table.
    """

    of: str
    winner: str
    file: str | None
    text: str
    stale: list[str]
    optimistic: list[str]
