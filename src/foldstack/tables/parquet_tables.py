"""Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from foldstack.errors import InputError, cut
from foldstack.tables.chunks import Chunk, cell, check_header, first_line
from foldstack.tables.form import TableForm

if TYPE_CHECKING:
    import pyarrow as pa

# A row of text takes bytes; a Parquet file of a kilobyte can claim billions of rows.
FREE_ROWS = 1_000_000
MOST_ROWS_PER_BYTE = 8


def read_parquet(stream: BinaryIO, path: Path, form: TableForm, most: int) -> Iterator[Chunk]:
    import pyarrow as pa  # here: other formats are read where it is not installed
    import pyarrow.parquet as pq

    start = 0
    try:
        file = pq.ParquetFile(stream)
        check_header(path, file.schema_arrow.names)
        _check_rows(path, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=most):
            table = pa.table(batch)
            names = table.column_names
            yield Chunk(
                len(table), {name: _cells(table.column(name), path, name, start) for name in names}
            )
            start += len(table)
    except (pa.ArrowException, OSError, UnicodeError) as e:
        raise InputError(f"{path} is not Parquet ({first_line(e)}): fetch it again") from None


def _check_rows(path: Path, rows: int) -> None:
    if rows > max(FREE_ROWS, MOST_ROWS_PER_BYTE * path.stat().st_size):
        raise InputError(
            f"{path} claims {rows:,} rows in {path.stat().st_size:,} bytes, which no table of texts "
            "has: fetch it again"
        )


def _cells(column: pa.ChunkedArray, path: Path, name: str, start: int) -> list[str]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.fill_null("")
        return _values(column, path, name, start)
    if pa.types.is_floating(column.type):  # str keeps a float32 as short as 0.1
        return ["" if np.isnan(value) else str(value) for value in column.to_numpy()]
    cells = []
    for value in _values(column, path, name, start):
        try:
            cells.append(cell(value))
        except ValueError as e:
            row = start + len(cells) + 1
            raise InputError(f"{path}, row {row}: column '{cut(name)}' holds {e}") from None
    return cells


# Errors of converting an Arrow value to Python, and their messages.
UNREADABLE = {
    UnicodeDecodeError: "bytes that are not UTF-8: write the file again from its source",
    OverflowError: "a date or time out of Python's range, the years 1 to 9999: write it as text",
    ValueError: "a value that Python cannot hold: write it as text",
}


def _values(column: pa.ChunkedArray, path: Path, name: str, start: int) -> list[Any]:
    """Return the column as Python values. Raises InputError with the row of one that cannot convert."""
    try:
        return column.to_pylist()
    except tuple(UNREADABLE):
        pass
    for row, value in enumerate(column, start + 1):
        try:
            value.as_py()
        except tuple(UNREADABLE) as e:
            what = next(what for kind, what in UNREADABLE.items() if isinstance(e, kind))
            raise InputError(f"{path}, row {row}: column '{cut(name)}' holds {what}") from None
    raise AssertionError(f"{path}: column '{name}' is read row by row, but not as a whole")
