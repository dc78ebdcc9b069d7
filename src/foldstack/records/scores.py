"""Records of scores: of runs, blends and submissions, and on parts of the rows."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from foldstack.records.base import Record, Table, Undefined, Value
from foldstack.records.estimates import EstimateRecord, FoldsUsed


class Marks(Value):
    """Why the named model, blend or submission is stale, and why its score is optimistic."""

    name: str
    stale: list[str]
    optimistic: list[str]


class SliceRow(Value):
    """See `ensemble.slices.SliceScore`."""

    view: str
    rows: int
    score: Undefined
    low: Undefined
    high: Undefined
    better_by: Undefined
    standard_error: Undefined
    differs: bool
    why: str


class ViewsRecord(Table):
    """The score of a blend or a model on parts of the out-of-fold rows; `file` holds the rows.

    folds: the folds whose rows they are; None for all.
    """

    metric: str
    file: str
    folds: FoldsUsed | None = None
    rows: list[SliceRow]
    marks: Marks
    undefined: list[str] = Field(default_factory=list)


class RunScore(Value):
    """The score of a finished run; undefined if it holds no rows out.

    metric: of the score, if it was another than today's.
    """

    model: str
    seed: int
    run: str
    score: Undefined
    metric: str | None = None
    seconds: float
    peak_memory_mb: int
    stale: list[str]
    optimistic: list[str]


class RunScores(Table):
    rows: list[RunScore]


class ModelScore(Value):
    """A model's out-of-fold score, pooled over its trained folds and decided as in a blend.

    Attributes:
        folds: the number of its trained folds.
        of: the number of folds in all.
        score: of all rows together; nan if undefined, or if `why` says why there is none.
        mean, spread: mean and standard deviation of the scores of single folds.
        optimistic: why the score may be too good.
    """

    model: str
    folds: int
    of: int
    score: Undefined
    mean: Undefined
    spread: Undefined
    optimistic: list[str]
    why: str


class ModelScores(Table):
    """The models' out-of-fold scores; decides: whether a fitted rule decides their labels."""

    metric: str
    decides: bool = False
    rows: list[ModelScore]


class BlendScore(Value):
    """The nested score of a stored blend with its 95 % interval, and its optimistic in-sample score.

    Attributes:
        folds: the folds that it was made of, as `folds 0,1 of 5`; None for all.
        expected: the estimate of its mean over runs, which is submitted; None if it is not known.
        weighted: the nested score weighted to the test file; None if the files do not differ.
    """

    blend: str
    winner: str
    folds: str | None = None
    nested: Undefined
    low: Undefined
    high: Undefined
    in_sample: Undefined
    expected: EstimateRecord | None = None
    weighted: EstimateRecord | None = None
    undefined: list[str] | None = None
    stale: list[str]
    optimistic: list[str]


class BlendScores(Table):
    rows: list[BlendScore]


class ScoresResult(Record):
    """The scores of every run, model and blend; `models` merges the marks of each model's runs.

    decided: how single runs decide if the metric is one of labels, by the default rule; else "".
    """

    metric: str
    decided: str = ""
    runs: RunScores
    pooled: ModelScores
    models: list[Marks]
    blends: BlendScores


class SubmissionScore(Value):
    """The scores of a submission: its estimate, and those against the solution.

    Attributes:
        folds: the folds that it was made of, as `folds 0,1 of 5`; None for all.
        expected: the estimate of the submitted mean over runs; None if it is not known.
        private: the score by each metric on the solution, the competition's own first.
        changed: whether the file differs from what `submit` wrote.
    """

    submission: str
    winner: str
    folds: str | None = None
    nested: Undefined
    low: Undefined
    high: Undefined
    expected: EstimateRecord | None = None
    in_sample: Undefined
    undefined: list[str] | None = None
    private: dict[str, float]
    stale: list[str]
    optimistic: list[str]
    changed: bool


class PrivateScores(Table):
    """The scores of every submission; `reports`: the folder of scores per label, None without labels."""

    metric: str
    rows: list[SubmissionScore]
    reports: str | None

    def _cells(self, row: SubmissionScore) -> dict[str, Any]:
        private = {f"private {name}": score for name, score in row.private.items()}
        return row.model_dump(exclude={"private"}) | private
