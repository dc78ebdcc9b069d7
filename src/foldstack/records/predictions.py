"""Records of predictions of new texts."""

from __future__ import annotations

from foldstack.records.base import Record


class PredictedText(Record):
    """The prediction of one text.

    Attributes:
        label: the predicted label, several joined, none as ''; None for regression.
        by: the source of the decision: `model`, a rule or nearest texts; None without patterns.
        probabilities: per class or label; for regression, the values.
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
        runs: the number of runs per model.
        unrecorded: why the workspace could not record the predicted texts; None if it did.
    """

    file: str
    workspace: str
    rows: int
    winner: str
    runs: dict[str, int]
    unrecorded: str | None
    stale: list[str]
    optimistic: list[str]
