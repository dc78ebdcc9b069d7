"""The tables of a competition as its settings describe them: read, named and joined."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.errors import InputError, cut, nearest
from foldstack.settings import CompetitionSettings, JoinSettings
from foldstack.tables import read, read_table
from foldstack.tables.chunks import Embedded

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class FileFacts:
    """Facts on a file that was read: its rows, their lines, and cells that look like rows."""

    path: Path
    rows: int
    lines: int
    embedded: tuple[Embedded, ...]


@dataclass(frozen=True)
class InputTables:
    """The files that a competition's settings name, read as the settings say.

    Attributes:
        settings: of the competition.
        place: the path of a file that a setting names.
        facts: of the files read so far, by name.
    """

    settings: CompetitionSettings
    place: Callable[[str], Path]

    @cached_property
    def facts(self) -> dict[str, FileFacts]:
        return {}

    def read(self, name: str, *, decides: bool = False) -> pd.DataFrame:
        """Read a file by the name that a setting gives it, and remember facts on it."""
        found = read(self.place(name), self.settings.form_of(name), decides=decides)
        self.facts[name] = FileFacts(
            self.place(name), len(found.table), found.lines, found.embedded
        )
        return found.table

    # Rows of a second file

    @cached_property
    def _seconds(self) -> list[pd.DataFrame]:
        """The table of each `join`, by its keys."""
        return [self._second(join) for join in self.settings.join]

    def _second(self, join: JoinSettings) -> pd.DataFrame:
        found = pd.DataFrame()
        for name in join.file:
            path, table = (
                self.place(name),
                read_table(self.place(name), self.settings.form_of(name)),
            )
            if join.on not in table.columns:
                raise InputError(
                    f"{path}: column '{cut(join.on)}' is missing, by which `join` finds its rows "
                    f"({nearest(join.on, table.columns)}): fix the file or competition.yaml"
                )
            # The files for train and test may share rows.
            both = [found, table]
            found = pd.concat(both).fillna("").drop_duplicates() if len(found) else table
            twice = found[join.on][found[join.on].duplicated()]
            if len(twice):
                key = twice.iloc[0]
                row = np.flatnonzero(table[join.on] == key)[-1]
                raise InputError(
                    f"{path}: row {row + 1} repeats '{cut(join.on)}' '{cut(key)}': a file that is "
                    "joined has one row for each key"
                )
        return found.set_index(join.on)

    def joined(self, path: Path, table: pd.DataFrame, *, required: bool = True) -> pd.DataFrame:
        """Return the table with the columns of the files that `join` names.

        Args:
            path: of the table, for messages.
            table: rows of the competition.
            required: whether it must have the key columns and none of the joined ones; otherwise
                columns that it has stay as they are.

        Raises:
            InputError: a key is missing, or a column stands in both files.
        """
        for join, second in zip(self.settings.join, self._seconds, strict=True):
            if join.on not in table.columns:
                if not required:
                    continue
                raise InputError(
                    f"{path}: column '{cut(join.on)}' is missing, by which `join` finds rows of "
                    f"{join.named} ({nearest(join.on, table.columns)}): fix the file or competition.yaml"
                )
            added = [c for c in second.columns if c not in table.columns]
            if required and len(added) < len(second.columns):
                both = next(c for c in second.columns if c in table.columns)
                raise InputError(
                    f"{path}: column '{cut(both)}' stands in {join.named}, too: name one otherwise by "
                    "`columns` in competition.yaml"
                )
            if added:
                table = joined_columns(path, table, join, second[added])
        return table

    def external(self, path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        """Return rows from elsewhere, which may have the joined columns or the keys."""
        return spelled(self.joined(path, table, required=False), columns)

    def named(self, path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
        """Return the table with these columns, joined and found without regard to case."""
        return spelled(self.joined(path, table), columns)


def joined_columns(
    path: Path, table: pd.DataFrame, join: JoinSettings, second: pd.DataFrame
) -> pd.DataFrame:
    """Return the table with the columns of a second one.

    Args:
        path: of the table, for messages.
        table: rows with the key column.
        join: the second file and the key.
        second: its columns, by the key.

    Raises:
        InputError: it lacks a key of the table.
    """
    places = second.index.get_indexer(table[join.on])
    lost = np.flatnonzero(places < 0)
    if len(lost):
        row = lost[0]
        more = f", nor the keys of {len(lost) - 1:,} more rows" if len(lost) > 1 else ""
        raise InputError(
            f"{path}: row {table.index[row] + 1}: {join.named} has no '{cut(join.on)}' "
            f"'{cut(table[join.on].iloc[row])}'{more}: add what is missing there"
        )
    taken = second.iloc[places].set_index(table.index)
    return pd.concat([table, taken], axis=1)


def folded(name: str) -> str:
    """Return a column's name without regard to case and outer white space."""
    return name.strip().casefold()


def spelled(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the table with columns renamed to these, if only case or outer spaces differ."""
    names: dict[str, str] = {}
    for column in columns:
        if column not in table.columns:
            near = [c for c in table.columns if folded(c) == folded(column) and c not in columns]
            if len(near) == 1:
                names[near[0]] = column
    return table.rename(columns=names) if names else table


def in_spelling_of(known: Sequence[str], ids: pd.Series) -> pd.Series:
    """Return ids as they are known: 900.0 becomes 900, if every id of both is a number of its own."""
    if set(known) == set(ids):
        return ids
    by_number = {_number(id_): id_ for id_ in known}
    numbers = [_number(id_) for id_ in ids]
    if None in by_number or None in numbers or len(by_number) < len(known):
        return ids
    if len(set(numbers)) < len(numbers):
        return ids
    found = [by_number.get(number, id_) for number, id_ in zip(numbers, ids, strict=True)]
    return pd.Series(np.array(found, dtype=object), index=ids.index, name=ids.name)


def _number(text: str) -> Decimal | None:
    return Decimal(text) if NUMBER.fullmatch(text) else None
