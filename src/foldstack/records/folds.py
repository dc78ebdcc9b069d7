"""Records of the folds."""

from __future__ import annotations

from typing import Any, ClassVar

from foldstack.records.base import Record, Table, Value

SHOWN_LABELS = 12  # of the folds' table on the console; folds/report.csv has all


class BalanceRecord(Value):
    """How even the folds of one split are, see `stratify.Balance`."""

    labels: float
    examples: float
    missing: int


class FoldsRecord(Record):
    """folds.json: what made the folds, and what in the rows may surprise.

    Attributes:
        settings: those of `folds` in competition.yaml.
        hash: of the folds, see `Store.folds_hash`.
        train: the hash of the training rows.
        repeated_rows: rows that repeat another's text or group.
        parted_groups: groups that folds given by a file part.
        contradicting_texts, contradicting_rows: equal texts with different labels, and their rows.
        train_rows_in_test, test_rows_in_train: rows whose text stands in the other file.
        near: the counts of `near.NearDuplicates.report`; None if near-duplicates were not searched.
        balance: one per split; None for regression.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"near", "balance"})

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
