"""New texts as rows, checked as the competition's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.competition import Competition, require
from foldstack.errors import InputError, shown
from foldstack.input_tables import spelled
from foldstack.rows import Rows
from foldstack.settings import CompetitionSettings
from foldstack.tables import TableStream

CHUNK = 20_000  # rows at once, to bound memory


@dataclass(frozen=True)
class NewFile:
    """A file of new rows, of the form that the settings give to it or to the test file.

    Attributes:
        competition: whose columns are read.
        path: a file of any format that the tables reader knows; it may be larger than memory.
        features: whether the feature columns are required.
        ids: whether the id column is required, and each row has an id of its own.
    """

    competition: Competition
    path: Path
    features: bool
    ids: bool = False

    @cached_property
    def stream(self) -> TableStream:
        settings = self.competition.settings
        return TableStream.of(self.path, settings.form_of(self.path.name, like=settings.files.test))

    def parts(self, most: int | None = None) -> Iterator[tuple[int, pd.DataFrame, Rows]]:
        """Yield (number of rows before, table, rows), at most `most` rows at a time, or `CHUNK`."""
        for start, part in self.stream.parts(most or CHUNK):
            rows = new_rows(
                self.competition,
                part,
                str(self.path),
                start,
                features=self.features,
                ids=self.ids,
            )
            yield start, part, rows

    def check(self) -> None:
        """Raise InputError for a missing column, an invalid number or an id that repeats."""
        settings = self.competition.settings
        if self.ids and settings.id in spelled(
            pd.DataFrame(columns=list(self.stream.columns)), (settings.id,)
        ):
            parts = (part for _, part in self.stream.parts(CHUNK))
            ids = pd.concat([spelled(part, (settings.id,))[settings.id] for part in parts])
            self.competition.check_ids(self.path, ids.reset_index(drop=True))
        for _ in self.parts():
            if not settings.numeric:  # the columns of one part tell all
                return


def new_rows(
    competition: Competition,
    texts: Sequence | pd.DataFrame,
    source: str,
    start: int = 0,
    *,
    features: bool,
    ids: bool = False,
) -> Rows:
    """Return new texts as rows, with the ids of the id column or numbers from 1.

    Args:
        competition: whose columns are read.
        texts: texts, tuples of them, or a table.
        source: where they come from, for messages.
        start: the number of rows of the source before these, for ids and messages.
        features: whether the feature columns are required.
        ids: whether the id column is required.

    Returns:
        The rows, without targets.

    Raises:
        InputError: there are none, or a column is missing.
    """
    s = competition.settings
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"{source}: {shown(texts)} is not a list of texts: put it into a list")
    table = texts if isinstance(texts, pd.DataFrame) else _table(list(texts), s, source)
    table = table.astype(str).astype(object)
    table.index = pd.RangeIndex(start, start + len(table))
    if not len(table):
        raise InputError(f"{source}: there is nothing to predict")
    table = competition.tables.joined(Path(source), table, required=False)
    required = s.text if not features else (*s.text, *competition.feature_names)
    table = spelled(table, (*required, s.id))
    required = (*required, s.id) if ids else required
    for column in required:
        require(Path(source), table, column)
    lacking = [c for c in competition.feature_names if c not in table.columns]
    table[lacking] = ""
    if s.id not in table.columns:
        table[s.id] = np.array([str(i + 1) for i in table.index], dtype=object)
    return competition.unlabelled(Path(source), table)


def _table(texts: list, s: CompetitionSettings, source: str) -> pd.DataFrame:
    """Return texts, or tuples with one text per text column, as a table."""
    rows = [(text,) if isinstance(text, str) else _texts(text) for text in texts]
    odd = next((i for i, row in enumerate(rows) if not all(isinstance(t, str) for t in row)), None)
    if odd is not None:
        raise InputError(f"{source}: row {odd + 1} is {shown(texts[odd])}, which is not a text")
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(s.text)), None)
    if wrong is not None:
        raise InputError(
            f"{source}: row {wrong + 1} has {len(rows[wrong])} texts, but this competition has "
            f"{len(s.text)} text columns ({', '.join(s.text)}): give each row as a tuple of "
            f"{len(s.text)}"
        )
    return pd.DataFrame(rows, columns=list(s.text), dtype=object)


def _texts(row: object) -> tuple:
    """Return the texts of a row; the value itself, if it is no sequence."""
    return tuple(row) if isinstance(row, Iterable) else (row,)
