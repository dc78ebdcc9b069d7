"""Weights, times and feature columns."""

from __future__ import annotations

from foldstack.guess.contents import (
    ID_NAME,
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

MOST_GRADES = 10  # distinct whole numbers up to which a column called an id is a feature
ROWS_PER_GRADE = 5  # … and the rows that each has, at least


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


def _is_grade(tables: GivenTables, column: str) -> bool:
    """Return whether a column called an id holds a few whole numbers, which stand in test, too."""
    train = tables.train[column]
    values = distinct(train)
    return (
        ID_NAME.fullmatch(column) is not None
        and is_numeric(values)
        and all(float(v).is_integer() for v in values)
        and len(values) <= min(MOST_GRADES, len(train) / ROWS_PER_GRADE)
        and values <= distinct(tables.test[column])
    )


def _features(tables: GivenTables, found: Guess, columns: list[str]) -> None:
    numeric, categorical = [], []
    for column in columns:
        train, n = tables.train[column], len(tables.train)
        values = distinct(train)
        if len(values) == 1:
            found.unused(column, "it holds one value only")
        elif ROW_NUMBER.fullmatch(column) and len(values) == n:
            found.unused(column, "it numbers the rows")
        elif _is_grade(tables, column):
            categorical.append(column)
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
