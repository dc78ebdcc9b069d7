"""Scores with intervals, as parts of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from foldstack.records.base import Undefined, Value

# A number that older versions lack, and that may be undefined; both are None.
Unknown = Annotated[float | None, BeforeValidator(lambda value: None if value != value else value)]


class EstimateRecord(Value):
    """A score, pooled over its rows, with a 95 % interval.

    undefined_share: see `ensemble.Estimate`; None if it is 0 or not known.
    """

    ABSENT: ClassVar[frozenset[str]] = frozenset({"standard_error", "undefined_share"})

    score: Undefined
    low: Undefined
    high: Undefined
    standard_error: Unknown = None
    undefined_share: Annotated[float | None, BeforeValidator(lambda value: value or None)] = None


def name_folds(folds: Sequence[int]) -> str:
    """Return `fold 0` or `folds 0,1,3`."""
    return f"fold{'s' if len(folds) > 1 else ''} {','.join(map(str, folds))}"


class FoldsUsed(Value):
    """The folds that an estimate is of, if they are not all.

    Attributes:
        numbers: the folds.
        of: how many there are in all.
        rows: the number of their rows.
    """

    numbers: list[int]
    of: int
    rows: int

    def __str__(self) -> str:
        return f"{name_folds(self.numbers)} of {self.of}"


class DifferenceRecord(Value):
    """A paired difference between two predictions, with a 95 % interval."""

    difference: Undefined
    low: Undefined
    high: Undefined


class GainRecord(DifferenceRecord):
    standard_error: Undefined
