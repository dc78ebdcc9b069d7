"""Groups, weights, times and feature columns."""

from __future__ import annotations

import re

from foldstack.guess.contents import (
    MANY_NUMBERS,
    ROW_NUMBER,
    WEIGHT,
    distinct,
    holds_dates,
    is_numeric,
)
from foldstack.guess.given import GivenTables, Guess

GROUP = re.compile(r"group|grp|group_?(id|key|name|no)|grp_?id|fold_?group", re.IGNORECASE)


def guess_other_columns(tables: GivenTables, found: Guess) -> None:
    """Set groups, weights and features; report unused columns."""
    train = tables.train
    for column in [c for c in (*tables.train_only, *tables.shared) if GROUP.fullmatch(c)]:
        if train[column].nunique() < len(train) and "group" not in found.settings:
            found.set("group", column, "by its name; rows of one group share a fold")
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
        found.unused(column, "test does not have it")


def _features(tables: GivenTables, found: Guess, columns: list[str]) -> None:
    numeric, categorical = [], []
    for column in columns:
        train, n = tables.train[column], len(tables.train)
        values = distinct(train)
        if len(values) == 1:
            found.unused(column, "it holds one value only")
        elif ROW_NUMBER.fullmatch(column) and len(values) == n:
            found.unused(column, "it numbers the rows")
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
