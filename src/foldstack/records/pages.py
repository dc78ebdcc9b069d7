"""Records of the page: what `page` shows of a competition, its data, runs and blend."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from foldstack.records.base import Record, Undefined, Value
from foldstack.records.blends import CalibrationRecord, CandidateRecord
from foldstack.records.scores import RunScore, SliceRow

Point = Annotated[tuple[float, float], Field(strict=False)]  # a list if read from JSON
Bin = Annotated[tuple[float, float, int], Field(strict=False)]


class PageMark(Value):
    """A reason to doubt a number: `mark` is STALE or OPTIMISTIC."""

    name: str
    mark: str
    reason: str


class LeaderRow(Value):
    """A model or a blend on the leaderboard.

    Attributes:
        what: `model` or `blend`.
        made_of: the winner of a blend, or the folds of a model.
        nested, low, high: the nested score with its 95 % interval; nan without an interval.
        in_sample: the optimistic score on the rows of the fit.
        private: the score of its submission against the solution; nan if it is not known.
        stale, optimistic: see `Marks`.
        why: there is no score; "" if there is one.
    """

    name: str
    what: str
    made_of: str
    nested: Undefined
    low: Undefined
    high: Undefined
    in_sample: Undefined
    private: Undefined
    stale: list[str] = Field(default_factory=list)
    optimistic: list[str] = Field(default_factory=list)
    why: str = ""


class PlotLine(Value):
    """A line of a plot: points (x, y); of: what it belongs to, for its colour."""

    name: str
    of: str
    points: list[Point]


class LearningCurves(Value):
    """The training loss by update, and the score by epoch where epochs were scored, of each run.

    metric: of the epochs' scores.
    """

    metric: str
    losses: list[PlotLine]
    scores: list[PlotLine]


class Agreement(Value):
    """How alike the models' out-of-fold predictions are.

    Attributes:
        correlations: (models, models) Spearman rank correlations, averaged over outputs.
        weights: per model its weight in the blend, one per output or one in all; {} for a stack.
        how: how the blend combines the models.
    """

    models: list[str]
    correlations: list[list[Undefined]]
    weights: dict[str, list[float]]
    how: str


class ReliabilityLine(Value):
    """The reliability curve of one output: (mean confidence, observed rate, rows) of each bin."""

    candidate: str
    output: str
    bins: list[Bin]


class ThresholdCurve(Value):
    """The score of a label's decisions by the threshold, on out-of-fold rows.

    Attributes:
        metric: of the curve.
        points: (threshold, score).
        chosen: the threshold in use.
        fitted: whether it was fitted on these rows, so that its score here is in-sample.
    """

    label: str
    metric: str
    points: list[Point]
    chosen: float
    at_chosen: Undefined
    fitted: bool


class ConfusedPair(Value):
    """Rows of one label that were given another instead."""

    true: str
    predicted: str
    rows: int
    share: float


class Confusion(Value):
    """The confusion matrix of nested decisions: rows are true, columns predicted.

    Attributes:
        labels: those shown; the last one stands for all others if `others` is set.
        others: the number of labels that the last row and column combine.
        counts: (labels, labels) rows; [] if a row may have several labels.
        pairs: the most confused ones.
    """

    labels: list[str]
    others: int
    counts: list[list[int]]
    pairs: list[ConfusedPair]


class LengthRow(Value):
    """Quantiles of the lengths of some rows: least, 5 %, quarter, median, three quarters, 95 %, most.

    unit: `characters` or `tokens`. part: `train`, `test` or a label of training rows.
    """

    unit: str
    part: str
    rows: int
    mean: float
    quantiles: list[float]


class LabelShare(Value):
    """The share of rows with a label: in train, predicted out of fold, and predicted for test."""

    label: str
    train: float
    predicted: Undefined
    test: Undefined


class DuplicateCounts(Value):
    """Rows whose normalised text another row has.

    Attributes:
        in_train, in_test: rows that repeat a text of their own file.
        train_in_test, test_in_train: rows whose text the other file has.
        conflicts: repeated training texts with different targets.
    """

    train_rows: int
    test_rows: int
    in_train: int
    in_test: int
    train_in_test: int
    test_in_train: int
    conflicts: int


class FilesCompared(Value):
    """The training file beside the test file.

    Attributes:
        tokens_are: what counts as a token.
        histograms: shares of rows by length, one line per file and unit.
        sampled: the number of rows of a file whose tokens were counted; None for all.
        drift: what tells the files apart, as stored by `drift`; [] if it is not known or nothing does.
        auc: of the model that tells them apart; nan if it is not known.
    """

    tokens_are: str
    lengths: list[LengthRow]
    histograms: list[PlotLine]
    shares: list[LabelShare]
    duplicates: DuplicateCounts
    sampled: int | None
    drift: list[str]
    auc: Undefined


class Opinion(Value):
    """A model's out-of-fold opinion on a row: its label or value, and its probability of the truth."""

    model: str
    says: str
    probability: Undefined


class TextPart(Value):
    """A part of a text; effect: the change if it is left out, None between words."""

    text: str
    effect: float | None = None


class Attribution(Value):
    """How a model's prediction of a row rests on the parts of its text.

    Attributes:
        toward: the label that the effects favour, or the target.
        parts: of the text, in its order.
    """

    model: str
    toward: str
    parts: list[TextPart]


class ShownRow(Value):
    """A training row with its out-of-fold predictions.

    Attributes:
        why: `hardest`, `confidently wrong`, or both.
        error: the mean loss over the models, smaller is better.
        confidence: the blend's probability of what it says; nan for regression.
        cut: the number of characters that are not shown.
    """

    id: str
    why: list[str]
    texts: list[str]
    cut: int
    true: str
    says: str
    confidence: Undefined
    error: float
    opinions: list[Opinion]
    attributions: list[Attribution] = Field(default_factory=list)


class ShownRows(Value):
    """The hardest and the most confidently wrong rows.

    Attributes:
        of: the number of rows that they were chosen from.
        wrong: the number of rows that the blend gets wrong; 0 for regression.
        remarks: what could not be computed, as sentences.
    """

    of: int
    wrong: int
    rows: list[ShownRow]
    remarks: list[str]


class Provenance(Value):
    """From what the page was made: digests, package versions, commands and the runs' settings."""

    hashes: dict[str, str]
    versions: dict[str, list[str]]
    commands: list[str]
    settings: dict[str, dict[str, Any]]


class PageRecord(Record):
    """The content of the page of one blend.

    Attributes:
        blend: its name.
        labels: of the competition, or the names of regression targets.
        better: `higher` or `lower`.
        nested: whether the blend's score is; a single fold nests nothing.
        marks: every reason to doubt a number of the page.
        remarks: what the page lacks and why, as sentences.
        candidates: what the blend was chosen among.
        calibrated: whether `calibration` is the blend's own; otherwise it shows what one would change.
        predicted: for regression (true, predicted) out of fold, sampled if the rows are many.
        report: see `ReportRecord.rows`.
        slices: see `ViewsRecord`.
    """

    competition: str
    blend: str
    kind: str
    metric: str
    better: str
    labels: list[str]
    train_rows: int
    test_rows: int
    folds: int
    nested: bool
    leaders: list[LeaderRow]
    runs: list[RunScore]
    marks: list[PageMark]
    remarks: list[str]
    learning: LearningCurves
    candidates: list[CandidateRecord] = Field(default_factory=list)
    agreement: Agreement | None = None
    calibrated: bool = False
    calibration: list[CalibrationRecord] = Field(default_factory=list)
    reliability: list[ReliabilityLine] = Field(default_factory=list)
    thresholds: list[ThresholdCurve] = Field(default_factory=list)
    rule: str = ""
    confusion: Confusion | None = None
    predicted: list[Point] = Field(default_factory=list)
    report: list[dict[str, Any]] = Field(default_factory=list)
    slices: list[SliceRow] = Field(default_factory=list)
    files: FilesCompared
    rows: ShownRows | None = None
    provenance: Provenance


class WrittenPage(Record):
    """The result of the page stage: the file, relative to the workspace, and its size in bytes."""

    file: str
    bytes: int
    page: PageRecord
