"""Records of scores: of runs, blends and submissions, and on parts of the rows."""

from __future__ import annotations

from typing import Any

from foldstack.records.base import Record, Table, Undefined, Value


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
    """The score of a blend or a model on parts of the out-of-fold rows; `file` holds the rows."""

    metric: str
    file: str
    rows: list[SliceRow]
    marks: Marks


class RunScore(Value):
    """The score of a finished run; undefined if it holds no rows out."""

    model: str
    seed: int
    run: str
    score: Undefined
    seconds: float
    peak_memory_mb: int
    stale: list[str]
    optimistic: list[str]


class RunScores(Table):
    rows: list[RunScore]


class BlendScore(Value):
    """The nested score of a stored blend with its 95 % interval, and its optimistic in-sample score."""

    blend: str
    winner: str
    nested: float
    low: float
    high: float
    in_sample: float
    stale: list[str]
    optimistic: list[str]


class BlendScores(Table):
    rows: list[BlendScore]


class ScoresResult(Record):
    """The scores of every run and blend; `models` merges the marks of each model's runs."""

    metric: str
    runs: RunScores
    models: list[Marks]
    blends: BlendScores


class SubmissionScore(Value):
    """The scores of a submission: its estimate, and those against the solution.

    Attributes:
        private: the score by each metric on the solution, the competition's own first.
        changed: whether the file differs from what `submit` wrote.
    """

    submission: str
    winner: str
    nested: float
    low: float
    high: float
    in_sample: float
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
