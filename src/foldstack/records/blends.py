"""Records of blends and of submissions."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from foldstack.records.base import Finite, Record, Table, Undefined, Value, is_finite
from foldstack.records.decisions import MemberRuns, Parameters, RuleRecord, weights_of
from foldstack.records.drifts import DriftedScore
from foldstack.records.estimates import EstimateRecord, FoldsUsed, GainRecord
from foldstack.records.patterns import PatternsEffect


class BlendHashes(Value):
    """Hashes of the files behind a blend; features are those of train and of test."""

    ABSENT: ClassVar[frozenset[str]] = frozenset({"edits"})

    folds: str
    train: str
    overlay: str | None
    edits: str | None = None
    test: str
    features: list[str | None] = Field(default_factory=list)


class CandidateRecord(Value):
    name: str
    complexity: int | float
    nested: Undefined
    in_sample: Undefined
    difference_to_best: Undefined
    standard_error: Undefined


class RuleTrial(Value):
    """Scores of a family of decision rules; gain is over the metric's reference family."""

    family: str
    nested: Undefined
    in_sample: Undefined
    gain: Undefined
    standard_error: Undefined


class RulesRecord(Value):
    """The families of decision rules that were tried.

    Attributes:
        family: the chosen family.
        families_by_fold: per fold the family chosen on the other folds.
        reference: the family that is taken unless another is clearly better; None in older records.
        may_miss_best: see `ensemble.decide.may_miss_best`; None for no.
        gain_over_default: the gain of the nested decisions over .5 or the most probable class.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"may_miss_best", "reference"})

    family: str
    families_by_fold: dict[str, str]
    tried: list[RuleTrial]
    reference: str | None = None
    may_miss_best: bool | None = None
    gain_over_default: GainRecord


class CalibrationRecord(Value):
    """The reliability of a candidate's nested probabilities; see `ensemble.reliability.scores`."""

    candidate: str
    log_loss: float
    brier: float
    ece: float
    ece_width: float


class ModelEstimate(Value):
    """The estimate of a single model."""

    nested: EstimateRecord
    in_sample: Undefined
    optimistic: list[str]


class PositiveRates(Value):
    """Shares of rows predicted positive; parts: whether they differ by over three standard errors."""

    oof: float
    test: float
    parts: bool


class RepeatedTexts(Value):
    """Shares of rows whose text is repeated in train, and the score weighted to the test share."""

    test_share: float
    train_share: float
    score: float | None


class Correction(Value):
    """The correction of a nested score since runs share training rows; see `ensemble.optimism`.

    Attributes:
        optimism: what was taken off the score; larger is better.
        variance_ratio: by which the variance of the bootstrap over rows was multiplied.
    """

    optimism: float
    variance_ratio: float


class FeaturesRecord(Value):
    """The features of a stack beside predictions; categories: a digest of the category codes."""

    columns: list[str] = Field(default_factory=list)
    categories: str = ""
    text: list[str] = Field(default_factory=list)


class _Estimated(Record):
    """The fields that blends and submissions share: test predictions and their estimate.

    Attributes:
        members: per model the digests of its runs' predictions, by `seed0/fold2`.
        temperatures: per model the temperature that gives its test mean the confidence of single runs;
            `sharpness` on disk.
        settings: `settings.BlendSettings` as JSON.
        parameters: the winner's fitted parameters, for `ensemble.load_fitted`.
        rule: the decision rule, see `ensemble.Rule`; None for probabilities.
        undefined: what of the metric no fold defines, see `defined.scored_by`, or why the nested score
            is undefined; None if nothing is.
        nested: the estimate of the runs of one fold, as held-out rows are predicted.
        submitted: the estimate of the mean over all runs; None if it is not known.
        correction: of the nested score, for shared training rows; None if it has none.
        in_sample: the optimistic score on the rows of the fit.
        seed_variance: the variance of the mean of the seeds' scores; 0 for one seed.
        folds: the folds that it was made of; None for all.
        drift: the estimate weighted to the test file, if that differs from the training file.
        name: the name of the stored blend; None for a single model.
        compared_on: the rows by whose predictions runs were made comparable, and ranks taken:
            'held-out rows'; None in older records: the test rows.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset(
        {"folds", "name", "submitted", "correction", "undefined", "drift", "compared_on"}
    )

    kind: str
    metric: str
    costs: list[list[int | float]] | None = None
    scores_are: str = ""
    test_mean: str = ""
    temperatures: dict[str, Finite] = Field(default_factory=dict, alias="sharpness")
    members: MemberRuns
    settings: dict[str, Any] = Field(default_factory=dict)
    hashes: BlendHashes
    winner: str
    winners_by_fold: dict[str, str] = Field(default_factory=dict)
    parameters: Parameters = Field(default_factory=dict)
    rule: RuleRecord | None = None
    undefined: list[str] | None = None
    nested: EstimateRecord
    submitted: EstimateRecord | None = None
    correction: Correction | None = None
    in_sample: Undefined
    seed_variance: Finite = 0.0
    optimistic: list[str]
    repeated_texts: RepeatedTexts | None = None
    candidates: list[CandidateRecord] = Field(default_factory=list)
    rules: RulesRecord | None = None
    calibration: list[CalibrationRecord] | None = None
    models: dict[str, ModelEstimate] = Field(default_factory=dict)
    positives: dict[str, PositiveRates] = Field(default_factory=dict)
    features: FeaturesRecord | None = None
    folds: FoldsUsed | None = None
    drift: DriftedScore | None = None
    name: str | None = None
    compared_on: str | None = None

    @field_validator("nested")
    @classmethod
    def _is_defined(cls, nested: EstimateRecord, info: ValidationInfo) -> EstimateRecord:
        """Check the score alone: resamples and candidates may leave a metric undefined."""
        if math.isnan(nested.score) and info.data.get("undefined"):
            return nested
        try:
            is_finite(nested.score, info)
        except ValueError as e:
            raise ValueError(f"score: {e}") from None
        return nested

    @model_validator(mode="after")
    def _weighs_members(self) -> Self:
        weights = weights_of(self.parameters)
        if weights is not None and weights.keys() != self.members.keys():
            raise ValueError("the weights of parameters are of other models than members")
        return self


class BlendRecord(_Estimated):
    """blend.json: the members of a blend, its choices and its estimate.

    Attributes:
        files: the sha256 of each file in its folder; None before it is stored, and in records without
            digests.
        not_members: models that are not listed and lack runs of the blend's folds, or have stale ones:
            why not, as a clause.
    """

    ABSENT: ClassVar[frozenset[str]] = _Estimated.ABSENT | {"files", "not_members"}

    # Required here; only submissions of the first versions lack them.
    winners_by_fold: dict[str, str]
    parameters: Parameters
    rule: RuleRecord | None
    settings: dict[str, Any]
    candidates: list[CandidateRecord]
    seed_variance: Finite
    positives: dict[str, PositiveRates]
    files: dict[str, str] | None = None
    not_members: dict[str, str] | None = None


class SubmissionRecord(_Estimated):
    """submissions/NAME.json.

    Attributes:
        note: a caveat on the estimate.
        holds: 'labels', 'probabilities' or 'values'.
        sha256: the digest of NAME.csv; None in records of the first versions.
        replaces: the digest of the file that NAME.csv is about to replace.
        of_file: the name of the test file that `rerun` read; None for the competition's own.
    """

    ABSENT: ClassVar[frozenset[str]] = _Estimated.ABSENT | {"note", "patterns", "of_file"}

    note: str | None = None
    patterns: PatternsEffect | None = None
    holds: str = ""
    rows: int = 0
    sha256: str | None = None
    replaces: str | None = None
    of_file: str | None = None

    @classmethod
    def of(cls, blend: BlendRecord, holds: str, rows: int) -> SubmissionRecord:
        """Return the record of a submission of this blend's predictions."""
        own = {name: getattr(blend, name) for name in _Estimated.model_fields if name != "version"}
        return cls(**own, holds=holds, rows=rows)


class Submitted(Record):
    """The result of the submit stage.

    Attributes:
        name: the name of the submission.
        file: its path relative to the workspace.
        metric_confirmed: see `CompetitionSettings`.
        sample_format: that of the sample, if it is not CSV as the submission is.
    """

    name: str
    file: str
    submission: SubmissionRecord
    metric_confirmed: bool = True
    sample_format: str | None = None


class ReportRecord(Table):
    """The scores of each label, or regression target, on out-of-fold rows by nested decisions.

    Attributes:
        rows: one per label, then the averages; their keys are the columns of `report.label_report`
            or `report.target_report`, the index first.
        of: the blend, or the models.
        folds: the folds whose rows they are; None for all.
        file: the blend's report file; None for models.
        undefined: see `BlendRecord`.
    """

    rows: list[dict[str, Any]]
    of: str
    winner: str
    file: str | None
    folds: FoldsUsed | None = None
    stale: list[str]
    optimistic: list[str]
    undefined: list[str] | None = None
