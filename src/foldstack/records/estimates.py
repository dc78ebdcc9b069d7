"""Scores with intervals, as parts of records."""

from __future__ import annotations

from typing import ClassVar

from foldstack.records.base import Value


class EstimateRecord(Value):
    """A score, pooled over its rows, with a 95 % interval."""

    ABSENT: ClassVar[frozenset[str]] = frozenset({"standard_error"})

    score: float
    low: float
    high: float
    standard_error: float | None = None


class DifferenceRecord(Value):
    """A paired difference between two predictions, with a 95 % interval."""

    difference: float
    low: float
    high: float


class GainRecord(DifferenceRecord):
    standard_error: float
