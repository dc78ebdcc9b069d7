"""The group column: found by how its values repeat in train, and whether test repeats them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from foldstack.errors import InputError
from foldstack.guess.contents import (
    GROUP_NAME,
    ROW_NUMBER,
    WEIGHT,
    distinct,
    holds_dates,
    holds_ids,
    is_numeric,
    reads_like_text,
)
from foldstack.guess.given import GivenTables, Guess
from foldstack.settings import FoldSettings

NO_GROUP = "none"
ENOUGH = 30  # distinct test values, from which on their absence from train is no accident
ABSENT = 0.01  # the share of test values in train below which test has other groups
UNCLEAR = 0.2  # … below which it may have
REPEATED = 0.25  # the share of training rows that have their value in common with another row
FEW = 3  # distinct test values without an id's name from which on a group is proposed
PLACEHOLDERS = 10  # test rows below which they only show the form, as in a code competition
MANY_ROWS = 10  # rows per value from which on a text that is read is proposed as a group
BESIDE = 0.1  # the share of test numbers within the range of train's


@dataclass(frozen=True)
class Repeats:
    """How the values of a column repeat.

    Attributes:
        values: the number of distinct values in train, empty ones aside.
        rows: training rows with one.
        repeated: the share of training rows whose value another row has too.
        test_rows, test_values: test rows, and the number of distinct values in them.
        known: how many of them stand in train.
        ids: whether the values name something.
        text: whether they read like text.
        read: whether it is one of the text columns that the models read.
        quantity: whether they are numbers with decimals, or whole ones of ranges that do not overlap.
    """

    column: str
    values: int
    rows: int
    repeated: float
    test_rows: int
    test_values: int
    known: int
    ids: bool
    text: bool
    read: bool
    quantity: bool

    @property
    def repeat(self) -> bool:
        return self.values > 1 and self.repeated >= REPEATED

    @property
    def absent(self) -> bool:
        return self.test_values > 0 and self.known < ABSENT * self.test_values

    @property
    def certain(self) -> bool:
        """Whether test surely has other groups than train."""
        return (
            self.repeat
            and self.absent
            and self.test_values >= ENOUGH
            and (self.ids or not self.quantity)
        )

    @property
    def possible(self) -> bool:
        """Whether test may have other groups than train."""
        if not self.repeat:
            return False
        if self.read and not (self.absent and self.rows >= MANY_ROWS * self.values):
            return False
        if self.ids and self.test_rows < PLACEHOLDERS:
            return True
        if self.absent:
            return self.ids or self.test_values >= (ENOUGH if self.quantity else FEW)
        return self.ids and self.test_values >= ENOUGH and self.known < UNCLEAR * self.test_values


def guess_group(tables: GivenTables, found: Guess) -> None:
    """Set the group if the files are certain about it; otherwise propose one, or none."""
    given = tables.given.get("group")
    if given == NO_GROUP:
        return
    if given is not None:
        return found.set("group", _given(tables, found), "given by GROUP=; its rows share a fold")
    text = found.settings["text"]
    candidates = [_repeats(tables, c, c in text) for c in _candidates(tables, found)]
    named = _named(tables)
    if named is not None:
        return found.set("group", named, "by its name; rows of one group share a fold")
    certain = [each for each in candidates if each.certain]
    if certain:
        best = min(certain, key=_coarsest)
        found.set("group", best.column, _why_taken(best))
    proposed = [
        each for each in candidates if each.possible and (not certain or each.values < best.values)
    ]
    if proposed:
        chosen = min(proposed, key=_coarsest)
        found.propose("group", chosen.column, _why_proposed(tables, chosen))


def _given(tables: GivenTables, found: Guess) -> str:
    columns = tables.columns("group")
    if len(columns) > 1:
        raise InputError(f"GROUP={tables.given['group']} names {len(columns)} columns: name one")
    if columns[0] in found.settings["target"]:
        raise InputError(f"GROUP: column '{columns[0]}' cannot be both target and group")
    return columns[0]


def _named(tables: GivenTables) -> str | None:
    """Return the column that is called a group and repeats, if test does not contradict."""
    for column in (*tables.train_only, *tables.shared):
        if GROUP_NAME.fullmatch(column) and tables.train[column].nunique() < len(tables.train):
            shared = column in tables.test.columns
            if not shared or not _repeats(tables, column).known:
                return column
    return None


def _candidates(tables: GivenTables, found: Guess) -> list[str]:
    """Return the columns of both files that may be groups: no twins of a pair, no only text."""
    text = found.settings["text"]
    excluded = {*found.symmetric} if len(text) > 1 else {*text}
    columns = [*tables.shared, *text]
    return [
        c
        for c in tables.train.columns
        if c in columns
        and c not in excluded
        and not ROW_NUMBER.fullmatch(c)
        and not WEIGHT.fullmatch(c)
        and not holds_dates(tables.train[c])
    ]


def _repeats(tables: GivenTables, column: str, read: bool = False) -> Repeats:
    train, test = tables.train[column], tables.test[column]
    train, test = train[train != ""], test[test != ""]
    counts = train.value_counts()
    values, test_values = set(counts.index), distinct(test)
    return Repeats(
        column=column,
        values=len(values),
        rows=len(train),
        repeated=counts[counts > 1].sum() / max(len(tables.train), 1),
        test_rows=len(tables.test),
        test_values=len(test_values),
        known=len(values & test_values),
        ids=holds_ids(column, train),
        text=reads_like_text(train),
        read=read,
        quantity=_quantity(train, test),
    )


def _quantity(train: pd.Series, test: pd.Series) -> bool:
    """Return whether these numbers measure something: with decimals, or later ones than train's."""
    if not is_numeric(train.unique()) or not is_numeric(test.unique()):
        return False
    numbers, others = (column.astype(float).to_numpy() for column in (train, test))
    if (numbers % 1).any() or (others % 1).any():
        return True
    within = (others >= numbers.min()) & (others <= numbers.max())
    return bool(np.mean(within) < BESIDE)


def _coarsest(each: Repeats) -> tuple[int, bool]:
    return (each.values, each.text)


def _why_taken(each: Repeats) -> str:
    return (
        f"its {each.values:,} values repeat over {each.rows:,} rows, and of the test file's "
        f"{each.test_values:,} {_count(each.known)} in train: rows of one share a fold, or the score "
        f"would be too good; GROUP={NO_GROUP} overrides"
    )


def _why_proposed(tables: GivenTables, each: Repeats) -> str:
    few = each.values < FoldSettings().count
    folds = f" (of {each.values} values: set `folds.count` to {each.values} at most)" if few else ""
    return (
        f"{each.column} repeats over rows ({each.values:,} values in {each.rows:,} rows), and of the "
        f"test file's {each.test_values:,} {_count(each.known)} in train; if the hidden test file has "
        f"others, rows of one must share a fold, or the score is too good: give "
        f"{tables.again(group=each.column)}{folds}"
    )


def _count(known: int) -> str:
    if not known:
        return "none stands"
    return f"{known:,} {'stands' if known == 1 else 'stand'}"
