"""Records of scores: of runs, blends and submissions, and on parts of the rows."""

from __future__ import annotations

from typing import Any

from foldstack.records.base import Record, Table, Undefined, Value


class Marks(Value):
    """Why what has this name is stale, and why its score is optimistic."""

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
    """A finished run; `score` is undefined if it holds no rows out."""

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
    """A stored blend: its nested score with the 95 % interval, and the optimistic in-sample one."""

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
    """Every run and every blend; `models` gathers the marks of each model's runs."""

    metric: str
    runs: RunScores
    models: list[Marks]
    blends: BlendScores


class SubmissionScore(Value):
    """A submission beside the solution.

    Attributes:
        private: the score of each metric on the solution, the competition's own first.
        changed: the file is not as `submit` wrote it.
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
    """Every submission; `reports` is the folder of their scores per label, None without labels."""

    metric: str
    rows: list[SubmissionScore]
    reports: str | None

    def _cells(self, row: SubmissionScore) -> dict[str, Any]:
        private = {f"private {name}": score for name, score in row.private.items()}
        return row.model_dump(exclude={"private"}) | private
