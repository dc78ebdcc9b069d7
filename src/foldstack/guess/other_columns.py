"""Weights, times and feature columns."""

from __future__ import annotations

from foldstack.guess.contents import (
    MANY_NUMBERS,
    ROW_NUMBER,
    WEIGHT,
    distinct,
    holds_dates,
    holds_ids,
    is_numeric,
)
from foldstack.guess.given import GivenTables, Guess
from foldstack.guess.group_column import REPEATED


def guess_other_columns(tables: GivenTables, found: Guess) -> None:
    """Set weights and features; report unused columns."""
    train = tables.train
    for column in [c for c in tables.train_only if WEIGHT.fullmatch(c)]:
        if is_numeric(train[column].unique()) and "weight" not in found.settings:
            found.set("weight", column, "by its name, and train alone has it")
    taken = {found.settings.get("group"), found.settings.get("weight")}
    for column in [c for c in (*tables.shared, *tables.train_only) if c not in taken]:
        if holds_dates(train[column]):
            found.unused_time(column)
            taken.add(column)
    _features(tables, found, [c for c in tables.shared if c not in taken])
    for column in [c for c in tables.train_only if c not in taken]:
        found.unused(column, f"test does not have it{_maybe_group(tables, column)}")


def _maybe_group(tables: GivenTables, column: str) -> str:
    """Return what to say of ids that train alone has and that repeat."""
    cells = tables.train[column]
    counts = cells[cells != ""].value_counts()
    if not holds_ids(column, cells) or counts[counts > 1].sum() < REPEATED * len(cells):
        return ""
    return f"; GROUP={column} if the rows of test have other ones"


def _features(tables: GivenTables, found: Guess, columns: list[str]) -> None:
    numeric, categorical = [], []
    for column in columns:
        train, n = tables.train[column], len(tables.train)
        values = distinct(train)
        if len(values) == 1:
            found.unused(column, "it holds one value only")
        elif ROW_NUMBER.fullmatch(column) and len(values) == n:
            found.unused(column, "it numbers the rows")
        elif holds_ids(column, train):
            found.unused(column, "its values are ids, no features")
        elif is_numeric((values | distinct(tables.test[column])) - {""}):
            numeric.append(column)
        elif len(values) <= n / 2 and len(values) <= max(MANY_NUMBERS, n / 10):
            categorical.append(column)
        else:
            found.unused(column, "no sentences, no numbers, no few words that repeat; see TEXT=")
    if numeric:
        found.set("numeric", tuple(numeric), "numbers that train and test share, offered to stacks")
    if categorical:
        found.set("categorical", tuple(categorical), "few words that repeat, offered to stacks")
