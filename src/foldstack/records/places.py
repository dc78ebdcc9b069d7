"""Records of what became of a workspace's files, and of the demo."""

from __future__ import annotations

from typing import Any

from foldstack.records.base import Record, Table, Value
from foldstack.records.scores import PrivateScores


class CompetitionMade(Record):
    """The input and the settings that were written.

    Attributes:
        name: of the embedded data set or the recipe.
        settings, input, presets: the paths of competition.yaml and the folders; presets None if the
            models are shipped ones.
    """

    name: str
    train_rows: int
    test_rows: int
    settings: str
    input: str
    presets: str | None = None


class CopiedFile(Value):
    source: str
    place: str


class GuessReason(Value):
    """A setting, its value and why; without a value the `setting` is a column that is not used."""

    setting: str
    value: Any
    reason: str


class InitResult(Table):
    """The competition.yaml that was written for three files.

    Attributes:
        file: its path.
        encoding: of the three files.
        rows: the guesses in their order.
        checked: False if the files were refused afterwards, which an InputError says.
    """

    file: str
    encoding: str
    copied: list[CopiedFile]
    rows: list[GuessReason]
    checked: bool


class EmptiedFolder(Value):
    """removed, kept: names; of kept ones no stage has made what is there."""

    folder: str
    removed: list[str]
    kept: list[str]


class CleanResult(Record):
    folders: list[EmptiedFolder]


class TidyResult(Record):
    """Bytes of temporary files that were removed, and of unfinished runs and backbones by name."""

    freed: int
    unfinished: dict[str, int]


class DemoForecast(Record):
    """How long all runs of the demo's transformer would take on this machine.

    Attributes:
        learned_per_second, predicted_per_second: rows.
        precision: of the training.
        limit: the seconds that the demo may take.
        short_folds: the number of folds that it takes instead, with one epoch; None within the limit.
    """

    learned_per_second: float
    predicted_per_second: float
    precision: str
    folds: int
    seconds: float
    limit: int
    short_folds: int | None


class DemoScores(Record):
    scores: PrivateScores


class DemoResult(Record):
    seconds: float
    workspace: str
