"""Records of predictions of new texts."""

from __future__ import annotations

from foldstack.records.base import Record


class AttendedToken(Record):
    """A token and its attention weight.

    Attributes:
        sentence: the number of its sentence, from 1; None if the head reads no sentences.
    """

    token: str
    weight: float
    sentence: int | None


class AttendedText(Record):
    """Attention weights of a text in one run.

    Attributes:
        run: the run, as `model seed 0 fold0`.
        runs: the number of the model's runs, of which it is the first.
        fits: the number of the run's fits, of which the weights are those of the first.
        label: the label whose weights these are; None if all labels share them.
        windows: the tokens of each window of the text, in its order; the weights of a window sum to 1.
    """

    run: str
    runs: int
    fits: int
    label: str | None
    windows: list[list[AttendedToken]]


class PredictedText(Record):
    """The prediction of one text.

    Attributes:
        label: the predicted label, several joined, none as ''; None for regression.
        by: the source of the decision: `model`, a rule or nearest texts; None without patterns.
        probabilities: per class or label; for regression, the values.
        attention: what a run attends to, if that is asked for.
    """

    label: str | None
    by: str | None
    probabilities: dict[str, float]
    stale: list[str]
    optimistic: list[str]
    attention: AttendedText | None = None


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
