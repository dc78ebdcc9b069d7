"""Reading of tables as text, without type inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np
import pandas as pd

from foldstack.encoding import codec_of, failing_line, likely_encoding
from foldstack.errors import InputError, cut
from foldstack.tables.chunks import Chunk, Columns, Embedded
from foldstack.tables.delimited import read_delimited
from foldstack.tables.form import DELIMITERS, TableForm
from foldstack.tables.json_lines import read_json, read_json_lines
from foldstack.tables.packed import SUFFIXES, unpacked
from foldstack.tables.parquet_tables import read_parquet
from foldstack.yaml_text import encodable

CHUNK_ROWS = 20_000

Reader = Callable[[BinaryIO, Path, TableForm, int], Iterator[Chunk]]
READERS: dict[str, Reader] = {
    **{suffix: partial(read_delimited, delimiter=by) for suffix, by in DELIMITERS.items()},
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}


@dataclass(frozen=True)
class ReadTable:
    """A table, and what its reading says of the file.

    Attributes:
        table: the cells as text.
        lines: of the file, without the header; 0 if the format is not one of lines.
        embedded: cells that hold what looks like rows of the file.
    """

    table: pd.DataFrame
    lines: int
    embedded: tuple[Embedded, ...]


def read_table(path: Path, form: TableForm | str, *, decides: bool = False) -> pd.DataFrame:
    """Read a table as text, see `read`."""
    return read(path, form, decides=decides).table


def read(path: Path, form: TableForm | str, *, decides: bool = False) -> ReadTable:
    """Read a table as text, without type inference (`NA`, `007` and blanks are kept).

    Reads CSV, TSV, text, JSON, JSON lines and Parquet by suffix (`READERS`), each also compressed as
    .gz or .zip. In JSON and Parquet, null becomes the empty text, numbers and booleans are formatted
    as by Python, and lists are joined by a bar.

    Args:
        path: the file.
        form: how it is written, or its encoding only.
        decides: whether this is the training file, which the setting `encoding` describes; then the
            message for a wrong encoding suggests another setting, else to convert the file.

    Returns:
        The table, with facts on the file.

    Raises:
        InputError: with the line or row, for a wrong encoding, an unclosed quote, a row whose number
            of fields differs from the header's, a line that is not a JSON object, a value that is
            not text.
    """
    columns: Columns = {}
    count, lines = 0, 0
    embedded: list[Embedded] = []
    for part in _chunks(path, TableForm.of(form), CHUNK_ROWS, decides):
        for name in part.columns:
            if name not in columns:
                columns[name] = [""] * count
        for name, cells in columns.items():
            cells.extend(part.columns.get(name) or [""] * part.rows)
        count, lines = count + part.rows, part.lines
        embedded += part.embedded
    if not count:
        raise _without_rows(path)
    return ReadTable(_frame(columns), lines, tuple(embedded))


@dataclass(frozen=True)
class TableStream:
    """Table read in chunks, so that it may exceed memory; cells are those of `read_table`.

    Attributes:
        columns: all columns of the file, in order of first appearance.
        rows: their number.
    """

    path: Path
    form: TableForm
    columns: tuple[str, ...]
    rows: int

    @classmethod
    def of(cls, path: Path, form: TableForm | str) -> TableStream:
        """Read the file once from end to end. Raises InputError as `read_table` does."""
        columns: dict[str, None] = {}
        rows, form = 0, TableForm.of(form)
        for part in _chunks(path, form, CHUNK_ROWS):
            columns |= dict.fromkeys(part.columns)
            rows += part.rows
        if not rows:
            raise _without_rows(path)
        return cls(path, form, tuple(columns), rows)

    def parts(self, most: int) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield (number of rows before, table of at most `most` rows), with all columns in each."""
        start = 0
        for part in _chunks(self.path, self.form, most):
            if part.rows:
                nothing = [""] * part.rows
                yield start, _frame({c: part.columns.get(c, nothing) for c in self.columns})
                start += part.rows


def _frame(columns: Columns) -> pd.DataFrame:
    return pd.DataFrame({name: np.array(cells, dtype=object) for name, cells in columns.items()})


def _without_rows(path: Path) -> InputError:
    return InputError(f"{path} has a header but no rows")


def _chunks(path: Path, form: TableForm, most: int, decides: bool = False) -> Iterator[Chunk]:
    """Yield the rows of a file, `most` at a time. Raises InputError as `read_table` does."""
    if not path.exists():
        raise InputError(f"{path} does not exist: put the competition's file there")
    if path.is_dir():
        raise InputError(f"{path} is a folder: put the file itself there")
    try:
        with unpacked(path) as (suffix, stream):
            for part in READERS[suffix](stream, path, form, most):
                yield _renamed(path, part, form.columns) if form.columns else part
    except UnicodeError:
        raise InputError(_encoding_sentence(path, form.encoding, decides)) from None


def _renamed(path: Path, part: Chunk, names: dict[str, str]) -> Chunk:
    """Return the rows with the columns named by the setting `columns`."""
    columns: Columns = {}
    for name, cells in part.columns.items():
        new = names.get(name, name)
        if new in columns:
            raise InputError(
                f"{path}: `columns` of competition.yaml gives two columns the name '{cut(new)}': give "
                "each a name of its own"
            )
        columns[new] = cells
    return part._replace(columns=columns)


def text_bytes(path: Path) -> bytes:
    """Return a data file's decompressed contents; b"" for Parquet, which has no encoding."""
    with unpacked(path) as (suffix, stream):
        return b"" if suffix == ".parquet" else stream.read()


def stem(name: str) -> str | None:
    """Return `train` for `train.csv`, `train.jsonl.gz` or `train.zip`; None if it is not a data file."""
    plain = PurePath(name)
    if not encodable(name):  # it could not be written into competition.yaml
        return None
    packed = plain.suffix.lower() in (".gz", ".zip")
    inner = PurePath(plain.stem) if packed else plain
    if inner.suffix.lower() in SUFFIXES:
        return inner.stem
    return plain.stem if plain.suffix.lower() == ".zip" else None


def _encoding_sentence(path: Path, encoding: str, decides: bool) -> str:
    data = text_bytes(path)
    where = f"{path}, line {failing_line(data, codec_of(encoding))} is not {encoding}"
    likely = likely_encoding(data)
    if likely:
        where += f", it looks like {likely}"
    if not decides:  # the setting applies to all files
        return f"{where}: save it as {encoding}"
    if likely:
        return f"{where}: write `encoding: {likely}` into competition.yaml"
    return (
        f"{where}: name the file's encoding in competition.yaml, for instance `encoding: cp1252` or "
        "`encoding: gb18030`"
    )
