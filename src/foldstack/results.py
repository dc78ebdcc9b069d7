"""Records that stages return and no file keeps as a whole: rows to show, counts of what was done."""

from __future__ import annotations

from typing import Any

from foldstack.records import FoldsRecord, Record, Table, Undefined, Value

SHOWN_LABELS = 12  # of the folds' table on the console; folds/report.csv has all


class Marks(Value):
    """Why what has this name is stale, and why its score is optimistic."""

    name: str
    stale: list[str]
    optimistic: list[str]


# Folds


class RareLabel(Value):
    """A label with fewer rows than a split has folds."""

    label: str
    rows: int


class SpreadLabel(Value):
    """The least and the most rows of a label in a fold."""

    label: str
    low: int
    high: int


class FoldsResult(Table):
    """The folds that there are now.

    Attributes:
        rows: one per fold: `fold`, `rows`, `groups`, then per label its share (`label NAME`), for
            regression per target its mean and quantiles.
        made: False if the folds of these settings were there already.
        file: the path of folds.csv, from the workspace on.
        count: folds of all splits together.
        unscored: rows that time order never holds out.
        stale: the runs that other folds have made stale.
        rare: labels that some fold lacks for certain.
        uneven: the labels that are spread worst; empty if there are few labels.
        absent: labels that some fold lacks; empty if there are few labels.
    """

    record: FoldsRecord
    rows: list[dict[str, Any]]
    made: bool
    file: str
    count: int
    kind: str
    labels: int
    test_rows: int
    unscored: int
    stale: list[str]
    rare: list[RareLabel]
    uneven: list[SpreadLabel]
    absent: list[str]


# Slices of the rows


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


# Scores


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


# The competition's files


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


# Cleaning


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


# The demo


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
