"""JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from foldstack.errors import InputError, cut
from foldstack.tables.chunks import READ_KINDS, Chunk, Columns, cell, text

# A table of n JSON objects with distinct keys has n² cells.
FREE_CELLS = 50_000_000
MOST_CELLS_PER_BYTE = 8


def read_json_lines(stream: BinaryIO, path: Path, encoding: str, most: int) -> Iterator[Chunk]:
    columns: Columns = {}
    count, before, size = 0, 0, 0  # rows in this chunk, rows before it, characters read
    named: dict[str, None] = {}  # columns of the chunks before
    # JSON lines end in \n only; U+2028 may be part of a text.
    for number, line in enumerate(text(stream, encoding, "\n"), start=1):
        size += len(line)
        if line.isspace():
            continue
        record = _object(path, number, line)
        try:
            for name, value in record.items():
                if name not in columns:
                    columns[name] = [""] * count
                columns[name].append(value if type(value) is str else cell(value))
        except ValueError as e:
            raise InputError(f"{path}, line {number}: column '{cut(name)}' holds {e}") from None
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


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
        if "\\ud" in line or "\\uD" in line:
            # A lone surrogate cannot be encoded.
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as e:
        raise InputError(
            f"{path}, line {number} is not JSON ({e.msg}, column {e.colno}): write one object per line"
        ) from None
    except UnicodeEncodeError:
        raise InputError(
            f"{path}, line {number} contains a lone surrogate (\\ud…): remove it"
        ) from None
    except RecursionError:
        raise InputError(
            f"{path}, line {number} nests its values too deeply: {READ_KINDS}"
        ) from None
    except ValueError:  # exceeds Python's limit on digits
        raise InputError(
            f"{path}, line {number} holds a number of more than {sys.get_int_max_str_digits():,} "
            "digits: write it as text, in quotes"
        ) from None
    if not isinstance(value, dict):
        raise InputError(
            f'{path}, line {number} is JSON but not an object: write {{"column": value, …}}'
        )
    return value
