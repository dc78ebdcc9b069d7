"""Records of predictions of new texts."""

from __future__ import annotations

from foldstack.records.base import Record


class PredictedText(Record):
    """One text.

    Attributes:
        label: the decided label, several joined, none as ''; None for regression.
        by: who decided, `model`, a rule or nearest texts; None if there are no patterns.
        probabilities: of each class or label; the values of a regression.
    """

    label: str | None
    by: str | None
    probabilities: dict[str, float]
    stale: list[str]
    optimistic: list[str]


class PredictedFile(Record):
    """A file of predictions.

    Attributes:
        file: its path.
        runs: how many runs of each model predicted.
        unrecorded: why the workspace could not record which texts it has labelled; None if it has.
    """

    file: str
    workspace: str
    rows: int
    winner: str
    runs: dict[str, int]
    unrecorded: str | None
    stale: list[str]
    optimistic: list[str]
