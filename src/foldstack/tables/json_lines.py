"""JSON: an object per line, or an array of objects."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from foldstack.errors import InputError, cut
from foldstack.tables.chunks import READ_KINDS, Chunk, Columns, cell, text
from foldstack.tables.form import TableForm

# A table of n JSON objects with distinct keys has n² cells.
FREE_CELLS = 50_000_000
MOST_CELLS_PER_BYTE = 8


def read_json_lines(stream: BinaryIO, path: Path, form: TableForm, most: int) -> Iterator[Chunk]:
    """Yield the rows of a file with one object per line, `most` at a time."""
    return _chunks(path, _of_lines(path, text(stream, form.encoding, "\n")), most)


def read_json(stream: BinaryIO, path: Path, form: TableForm, most: int) -> Iterator[Chunk]:
    """Yield the rows of an array of objects, or of lines with one object each."""
    data = text(stream, form.encoding, "\n").read()
    if data.lstrip().startswith("["):
        return _chunks(path, _of_array(path, data), most)
    return _chunks(path, _of_lines(path, io.StringIO(data, newline="\n")), most)


class _Object(NamedTuple):
    """A row: where it stands, and the characters read up to it."""

    where: str
    size: int
    values: dict[str, Any]


def _of_lines(path: Path, lines: Iterable[str]) -> Iterator[_Object]:
    """Yield the objects. JSON lines end in \\n only; U+2028 may be part of a text."""
    size = 0
    for number, line in enumerate(lines, start=1):
        size += len(line)
        if not line.isspace():
            where = f"{path}, line {number}"
            yield _Object(where, size, _object(where, line))


def _of_array(path: Path, data: str) -> Iterator[_Object]:
    for number, value in enumerate(_parsed(str(path), data, "write an array of objects"), start=1):
        if not isinstance(value, dict):
            raise InputError(
                f'{path}, row {number} is JSON but not an object: write {{"column": value, …}}'
            )
        yield _Object(f"{path}, row {number}", len(data), value)


def _chunks(path: Path, objects: Iterator[_Object], most: int) -> Iterator[Chunk]:
    columns: Columns = {}
    count, before = 0, 0  # rows in this chunk, rows before it
    named: dict[str, None] = {}  # columns of the chunks before
    for where, size, record in objects:
        try:
            for name, value in record.items():
                if name not in columns:
                    columns[name] = [""] * count
                columns[name].append(value if type(value) is str else cell(value))
        except ValueError as e:
            raise InputError(f"{where}: column '{cut(name)}' holds {e}") from None
        count += 1
        if len(record) < len(columns):
            for cells in columns.values():
                cells.extend([""] * (count - len(cells)))
            _check_cells(path, (before + count) * max(len(columns), len(named)), size)
        if count == most:
            yield Chunk(count, columns)
            named |= dict.fromkeys(columns)
            columns, count, before = {}, 0, before + count
    if not columns and not named:
        raise InputError(f"{path} is empty: one JSON object per line is required")
    yield Chunk(count, columns)


def _check_cells(path: Path, cells: int, size: int) -> None:
    if cells > max(FREE_CELLS, MOST_CELLS_PER_BYTE * size):
        raise InputError(
            f"{path}: its objects name different columns, so the table has {cells:,} cells, nearly all "
            "empty: give the rows the same columns"
        )


ARRAY = "an array of objects is read from a file named .json"


def _object(where: str, line: str) -> dict[str, Any]:
    remedy = ARRAY if line.startswith("[") else "write one object per line"
    value = _parsed(where, line, remedy)
    if not isinstance(value, dict):
        more = f"; {ARRAY}" if isinstance(value, list) else ""
        raise InputError(f'{where} is JSON but not an object: write {{"column": value, …}}{more}')
    return value


def _parsed(where: str, data: str, remedy: str) -> Any:
    """Return the parsed JSON; raise InputError for what is not JSON or cannot be held as text."""
    try:
        value = json.loads(data)
        if "\\ud" in data or "\\uD" in data:
            # A lone surrogate cannot be encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as e:
        place = f"column {e.colno}" if "\n" not in data.rstrip() else f"line {e.lineno}"
        raise InputError(f"{where} is not JSON ({e.msg}, {place}): {remedy}") from None
    except UnicodeEncodeError:
        raise InputError(f"{where} contains a lone surrogate (\\ud…): remove it") from None
    except RecursionError:
        raise InputError(f"{where} nests its values too deeply: {READ_KINDS}") from None
    except ValueError:  # exceeds Python's limit on digits
        raise InputError(
            f"{where} holds a number of more than {sys.get_int_max_str_digits():,} "
            "digits: write it as text, in quotes"
        ) from None
    return value
