"""Records of how the test file differs from the training file."""

from __future__ import annotations

from typing import ClassVar

from foldstack.records.base import Record, Value
from foldstack.records.estimates import EstimateRecord


class DriftReason(Value):
    """A feature by which the files differ, see `drift.Reason`."""

    text: str
    test: float
    train: float
    contribution: float


class DriftRecord(Record):
    """folds/drift.json: how well a linear model tells test rows from training rows.

    Attributes:
        key: a digest of all that was compared and of the settings.
        train, test: hashes of the rows without targets.
        train_rows, test_rows: their numbers.
        compared: the number of rows of both files that the model was fitted on.
        auc: out of fold, with its interval.
        claimed: whether the interval lies above `drift.CLAIMED`.
        effective_rows: the effective sample size of the training rows, weighted to the test file.
        reasons: what tells the files apart, by contribution.
        sha256: the digest of folds/drift.csv; None before it is written.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"sha256"})

    key: str
    train: str
    test: str
    train_rows: int
    test_rows: int
    compared: int
    auc: EstimateRecord
    claimed: bool
    effective_rows: float
    reasons: list[DriftReason]
    sha256: str | None = None


class DriftResult(Record):
    """The result of the drift stage.

    Attributes:
        file: the path of drift.csv, relative to the workspace.
        made: False if the files were compared before.
        pool: how well test rows are told from pool rows; None without a pool, or of too few rows.
        pool_rows: their number.
    """

    drift: DriftRecord
    file: str
    made: bool
    pool: EstimateRecord | None = None
    pool_rows: int = 0


class DriftedScore(Value):
    """The nested score weighted to a test file that differs.

    Attributes:
        auc: of the model that tells test rows from training rows.
        reasons: what it goes by.
        nested: the score with importance weights; None if it is undefined, or rests on too few rows.
        effective_rows: of the weighted rows.
        rows: their number.
        why: there is no score; None if there is one, or in records of older versions.
    """

    auc: EstimateRecord
    reasons: list[str]
    nested: EstimateRecord | None
    effective_rows: float
    rows: int
    why: str | None = None


class SharedRecord(Value):
    """Rows that share a sentence or a group with rows to learn from, see `drift.Sharing`."""

    what: str
    held_out: float
    test: float
    differs: bool
