"""Records of created and removed files of a workspace, and of the demo."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from foldstack.records.base import Record, Table, Value
from foldstack.records.scores import PrivateScores


class CompetitionMade(Record):
    """The input and the settings that were written.

    Attributes:
        name: the embedded data set or the recipe.
        settings, input, presets: the paths of competition.yaml and of the folders; presets is None if
            the models are shipped ones.
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
    """A setting, its value and the reason; without a value, `setting` is an unused column."""

    setting: str
    value: Any
    reason: str


class CellOfRows(Value):
    """A cell with line breaks that holds what looks like rows of its file.

    Attributes:
        line: the line in which its row begins, from 1.
        column: its column.
        rows: how many rows seem to stand in it.
    """

    line: int
    column: str
    rows: int


class ReadFile(Value):
    """A file that was read.

    Attributes:
        file: its path.
        rows: their number.
        lines: of the file, without the header; 0 if the format is not one of lines.
        cells: those that hold what looks like rows.
    """

    file: str
    rows: int
    lines: int
    cells: list[CellOfRows]


class ModelForecast(Record):
    """A forecast of the time for all runs of a model on this machine.

    Attributes:
        model: its name.
        runs: the number of its runs.
        seconds: the forecast; None if none could be made.
        learned_per_second, predicted_per_second: rows per second.
        precision: the precision of the training.
        work: what a run's fit consists of, in a few words.
        reason: why there is no forecast.
    """

    model: str
    runs: int
    seconds: float | None = None
    learned_per_second: float | None = None
    predicted_per_second: float | None = None
    precision: str | None = None
    work: str = ""
    reason: str | None = None


class InitResult(Table):
    """The competition.yaml for three files.

    Attributes:
        file: its path.
        encoding: the encoding of the three files.
        copied: the files that were copied into input/.
        rows: the guesses in their order.
        proposals: questions that the files leave open and that change scores, with the proposed value.
        all_reasons: whether all rows are shown with their reasons.
        notes: sentences on the files.
        files: the files as they were read.
        forecasts: of the models' training time; none if they were not asked for.
        checked: False if a check of the files raised InputError, and nothing was written.
    """

    file: str
    encoding: str
    copied: list[CopiedFile]
    rows: list[GuessReason]
    proposals: list[GuessReason]
    all_reasons: bool
    notes: list[str] = Field(default_factory=list)
    files: list[ReadFile] = Field(default_factory=list)
    forecasts: list[ModelForecast] = Field(default_factory=list)
    checked: bool


class EmptiedFolder(Value):
    """An emptied folder with the paths removed and those kept, which no stage made."""

    folder: str
    removed: list[str]
    kept: list[str]


class CleanResult(Record):
    folders: list[EmptiedFolder]


class TidyResult(Record):
    """Bytes of removed temporary files, and of unfinished runs and backbones by name."""

    freed: int
    unfinished: dict[str, int]


class DemoForecast(Record):
    """The forecast of the demo's transformer.

    Attributes:
        forecast: of all its runs.
        limit: the seconds that the demo may take.
        short_folds: the number of folds to use instead; None within the limit.
    """

    forecast: ModelForecast
    limit: int
    short_folds: int | None


class DemoScores(Record):
    scores: PrivateScores


class DemoResult(Record):
    seconds: float
    workspace: str


class CompetitionSummary(Record):
    """A workspace: the competition as it is understood, and what was made of it.

    Attributes:
        submits: what the submission holds.
        labels: classes, labels, or the names of regression targets.
        unlabelled: rows of the training file without a label.
        columns: the columns of each use; [] if there is none.
        folds: their number; None if there are none of these rows.
        models: those that competition.yaml lists.
        runs, stale: of each model, the number of finished runs, and of the stale ones among them.
        metric_confirmed: see `CompetitionSettings`.
        folds_remark: a sentence if the folds were made with other settings.
        next: the next command.
    """

    name: str
    kind: str
    metric: str
    submits: str
    labels: list[str]
    train_rows: int
    test_rows: int
    unlabelled: int
    columns: dict[str, list[str]]
    folds: int | None
    models: list[str]
    runs: dict[str, int]
    stale: dict[str, int]
    blends: list[str]
    submissions: list[str]
    metric_confirmed: bool
    folds_remark: str | None
    next: str


class RememberedSettings(Value):
    """The settings that were written into competition.yaml, as YAML."""

    file: str
    settings: dict[str, str]


class CompletionScript(Value):
    """A shell script."""

    script: str
