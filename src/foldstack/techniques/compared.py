"""Checks of columns that compare the texts of a row."""

from __future__ import annotations

import importlib.util

from foldstack.errors import InputError

EDITS = "edits"  # of `pair_features`: what rapidfuzz counts


def check_compared(count: int) -> None:
    """Raise ValueError if rows have a single text; count: of their segments."""
    if count == 1:
        raise ValueError(
            "pair_features compares the texts of a row, but this competition has one per row: set "
            "`pair: true` or `segments`, or leave it out"
        )


def check_edits(pair_features: str) -> None:
    """Raise InputError if edit distances are asked for and rapidfuzz is not installed."""
    if pair_features == EDITS and importlib.util.find_spec("rapidfuzz") is None:
        raise InputError(
            "pair_features edits requires the package rapidfuzz, which is not installed: pip "
            "install 'foldstack[pairs]'"
        )


def packages_of(pair_features: str) -> tuple[str, ...]:
    """Return the packages that predicting by these columns imports."""
    return ("rapidfuzz",) if pair_features == EDITS else ()
