"""The target columns."""

from __future__ import annotations

import pandas as pd

from foldstack.errors import InputError, cut, some
from foldstack.guess.contents import (
    GROUP_NAME,
    ROW_NUMBER,
    WEIGHT,
    distinct,
    holds_dates,
    is_numeric,
    reads_like_text,
)
from foldstack.guess.given import GivenTables, Guess
from foldstack.labels import matched, most_labels, number_or_text, value_of
from foldstack.separators import find_separator, join_of, parts_of
from foldstack.targets import MISSING, missing_values

JOINS = (":", "|", "/", "+", "-", "_", " ")  # signs between the names of joined columns
ENOUGH = 10  # rows of a test file from which on a column of zeros is a placeholder
NAMES = ("target", "label", "labels", "class")


def guess_target(tables: GivenTables, found: Guess) -> None:
    if "target" in tables.given:
        target = tables.columns("target")
        found.set("target", target, "given by TARGET=")
    else:
        found.set("target", *_found_target(tables))
        target = found.settings["target"]
    for column in target:
        if column == tables.id:
            raise InputError(
                f"column '{column}' cannot be both id and target: give another TARGET="
            )
    tables.train_only = [c for c in tables.train_only if c not in target]
    tables.shared = [c for c in tables.shared if c not in target]


def _found_target(tables: GivenTables) -> tuple[tuple[str, ...], str]:
    wanted = tables.sample_columns
    if not wanted:
        raise InputError(
            f"the sample has no column but '{tables.id}': what is to be predicted is missing there"
        )
    named = [c for c in wanted if c in tables.train_only or _is_blank(tables, c)]
    if named == wanted:
        it = "it" if len(named) == 1 else "them"
        blank = [c for c in named if c not in tables.train_only]
        has = f"holds nothing but {_placeholder(tables, blank[0])} there" if blank else "does not"
        return tuple(named), f"the sample asks for {it}, train has {it} and test {has}"
    if named:
        odd = [c for c in wanted if c not in named]
        raise InputError(
            f"the sample's columns {some(odd)} are not in train beside {some(named)} (or are in test "
            f"too): fix the files, or name the target with TARGET="
        )
    candidates = [c for c in tables.train_only if not WEIGHT.fullmatch(c)]
    if len(wanted) > 1:
        return _of_classes(tables, candidates, set(wanted))
    likely = [c for c in candidates if _may_be_target(c, tables.train[c])]
    blank = _blank_target(tables, likely)
    if blank is not None:
        return (blank,), (
            f"test holds nothing but {_placeholder(tables, blank)} there, and train other values; the "
            f"sample calls it '{wanted[0]}'"
        )
    _refuse_joined(tables, candidates, wanted[0])
    if len(likely) == 1:
        return (likely[0],), (
            f"the only column of train that test lacks and that can be a target; the sample calls it "
            f"'{wanted[0]}'"
        )
    placeholders = distinct(tables.sample[wanted[0]])
    holding = [c for c in likely if placeholders <= distinct(tables.train[c])]
    called = [c for c in likely if c.lower() in NAMES]
    if len(called) == 1:
        return (called[0],), (
            f"by its name, among {len(likely)} columns that test lacks and that can be a target; the "
            f"sample calls it '{wanted[0]}'"
        )
    if len(holding) == 1:
        return (holding[0],), (
            f"the only one of {len(likely)} columns that test lacks that holds the sample's values; the "
            f"sample calls it '{wanted[0]}'"
        )
    found = f"several could be it: {some(likely)}" if likely else "test has all that could be one"
    raise InputError(
        f"train has no column '{wanted[0]}', for which the sample asks, and {found}: name the target "
        "with TARGET=, one column of train (or several of 0 and 1, or numbers, with commas)"
    )


def _is_blank(tables: GivenTables, column: str) -> bool:
    """Return whether train's values vary and the test file has one value in all of its rows."""
    if column not in tables.shared:
        return False
    return len(distinct(tables.test[column])) == 1 < len(distinct(tables.train[column]))


def _placeholder(tables: GivenTables, column: str) -> str:
    value = tables.test[column].iloc[0]
    return f"'{cut(value)}'" if value else "empty cells"


def _blank_target(tables: GivenTables, likely: list[str]) -> str | None:
    """Return the one column that test has with a placeholder for a target, if no other is likelier."""

    def replaced(column: str) -> bool:
        value = tables.test[column].iloc[0]
        zero = value_of(value) == 0 and len(tables.test) >= ENOUGH
        return value in MISSING or value_of(value) == -1 or zero

    blank = [c for c in tables.shared if _is_blank(tables, c) and replaced(c)]
    blank = [c for c in blank if _may_be_target(c, tables.train[c])]
    called = [c for c in blank if c.lower() in NAMES]
    if len(called) == 1:
        return called[0]
    return blank[0] if len(blank) == 1 and not likely else None


def _refuse_joined(tables: GivenTables, candidates: list[str], wanted: str) -> None:
    """Raise InputError if the sample's column is named by columns of train, joined by a sign."""
    for sign in JOINS:
        parts = wanted.split(sign)
        if len(parts) > 1 and set(parts) <= set(candidates):
            first = sign.join(tables.train[part].iloc[0] for part in parts)
            top = most_labels(tables.sample[wanted])
            fits = f"; METRIC=map_at_{top} fits its cells of {top} labels" if top > 1 else ""
            raise InputError(
                f"the sample's column '{wanted}' joins train's columns {some(parts)} by '{sign}', and "
                f"one target column is required: add a column '{wanted}' to train, with cells such as "
                f"'{cut(first)}'{fits}"
            )


def _of_classes(
    tables: GivenTables, candidates: list[str], wanted: set[str]
) -> tuple[tuple[str, ...], str]:
    """Return the target whose classes, or joined labels, are the sample's columns, and why."""
    near: dict[str, set[str]] = {}
    for column in candidates:
        values = distinct(tables.train[column])
        if tables.given.get("unlabelled") in ("drop", "pool"):
            values -= missing_values(values)
        if values == wanted:
            return (column,), "its classes are the sample's columns"
        if matched(values, wanted) is not None:
            why = "its classes are the sample's columns, but for case or white space"
            return (column,), why
        if join_of(values, wanted):
            return (column,), "the labels that its cells join are the sample's columns"
        separator = find_separator(values)
        classes = parts_of(values, separator) if separator else values
        if 2 * len(classes & wanted) >= len(wanted):
            near[column] = classes
    if near:
        column = max(near, key=lambda c: len(near[c] & wanted))
        refuse_classes(column, near[column], wanted)
    raise InputError(
        f"no column of train has the sample's columns {some(sorted(wanted))} as its classes, nor does "
        "train have them as columns: name the target with TARGET="
    )


def refuse_classes(column: str, classes: set[str], wanted: set[str]) -> None:
    odd = []
    for only, where in ((classes - wanted, "train"), (wanted - classes, "the sample")):
        if only:
            verb = "stands" if len(only) == 1 else "stand"
            odd.append(f"{some(sorted(only, key=number_or_text))} {verb} only in {where}")
    raise InputError(
        f"the classes of train's column '{column}' are not the sample's columns: {' and '.join(odd)}: "
        "fix the files, or name another TARGET="
    )


def _may_be_target(name: str, column: pd.Series) -> bool:
    if GROUP_NAME.fullmatch(name) or ROW_NUMBER.fullmatch(name):
        return False
    values = distinct(column)
    if len(values) < 2 or holds_dates(column):
        return False
    return is_numeric(values) or len(values) <= len(column) / 2 or not reads_like_text(column)
