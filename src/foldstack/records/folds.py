"""Records of the folds."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from foldstack.records.base import Record, Table, Value
from foldstack.records.drifts import DriftRecord, SharedRecord
from foldstack.records.places import ReadFile

SHOWN_LABELS = 12  # of the folds' table on the console; folds/report.csv has all


class BalanceRecord(Value):
    """The balance of one split, see `stratify.Balance`."""

    labels: float
    examples: float
    missing: int


class ThroughputRecord(Value):
    """How the runs of all listed models, seeds and folds share the machine that the folds are made on.

    Attributes:
        cores: the cores that may be used.
        gpu: whether an accelerator computes, for one run at a time.
        runs: the number of runs.
        threads: per run, as chosen for throughput.
        given: those of `runtime.threads`, which are used instead; None if it leaves the choice.
    """

    cores: int
    gpu: bool
    runs: int
    threads: int
    given: int | None = None

    @property
    def at_once(self) -> int:
        """The number of runs that are trained at once."""
        threads = self.given or self.threads
        return 1 if self.gpu else max(min(self.cores // threads, self.runs), 1)


class FoldsRecord(Record):
    """folds.json: the settings of the folds, and counts of duplicates and contradictions.

    Attributes:
        settings: the `folds` section of competition.yaml.
        hash: the hash of the folds, see `Store.folds_hash`.
        train: the hash of the training rows.
        repeated_rows: rows that repeat another row's text or group.
        parted_groups: groups that are split between folds given by a file.
        contradicting_texts, contradicting_rows: equal texts with different labels, and their rows.
        train_rows_in_test, test_rows_in_train: rows whose text occurs in the other file.
        near: the counts of `near.NearDuplicates.report`; None if near-duplicates were not searched.
        balance: one per split; None for regression.
        threads: the threads per run that were chosen for throughput, so that the bytes of a run do not
            depend on the machine's other work; None in older records: all cores.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"near", "balance", "threads"})

    settings: dict[str, Any]
    hash: str
    train: str
    repeated_rows: int = 0
    parted_groups: int = 0
    contradicting_texts: int = 0
    contradicting_rows: int = 0
    train_rows_in_test: int = 0
    test_rows_in_train: int = 0
    near: dict[str, int] | None = None
    balance: list[BalanceRecord] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None


class RareLabel(Value):
    """A label with fewer rows than a split has folds."""

    label: str
    rows: int


class LoneLabel(Value):
    """Rows with, or without, a label that all stand in one fold.

    Attributes:
        of: as `with 'LABEL'`.
        stand: how many they are, and where they stand.
    """

    of: str
    stand: str


class SpreadLabel(Value):
    """The minimum and maximum number of a label's rows per fold."""

    label: str
    low: int
    high: int


class FoldsResult(Table):
    """The result of the folds stage.

    Attributes:
        rows: one per fold: `fold`, `rows`, `groups`, then per label its share (`label NAME`), for
            regression per target its mean and quantiles.
        made: False if the folds of these settings existed already.
        file: the path of folds.csv, relative to the workspace.
        count: the number of folds of all splits together.
        unscored: rows that time order never holds out.
        stale: the runs that the new folds have made stale.
        rare: labels with fewer rows than folds.
        lone: labels whose rows stand in one fold, see `defined.lone_labels`.
        uneven: the labels with the least even distribution; empty if there are few labels.
        absent: labels that are absent from a fold; empty if there are few labels.
        shared: sentences and groups on both sides of folds, and of training and test.
        drift: how the test file differs; None if it was not compared.
        files: the training and the test file as they were read.
        unlabelled: rows of the training file without a label, which are not learned.
        edits: how many training rows have each action of `edits`; None without.
        remarks: sentences about labels and groups that may be wrong in the files.
        throughput: how runs will share the machine; None if these folds existed already.
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
    lone: list[LoneLabel]
    uneven: list[SpreadLabel]
    absent: list[str]
    shared: list[SharedRecord] = Field(default_factory=list)
    drift: DriftRecord | None = None
    files: list[ReadFile] = Field(default_factory=list)
    unlabelled: int = 0
    edits: dict[str, int] | None = None
    remarks: list[str] = Field(default_factory=list)
    throughput: ThroughputRecord | None = None
