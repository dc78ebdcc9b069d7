"""CSV and TSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from foldstack.errors import InputError
from foldstack.tables.chunks import Chunk, check_header, text


def read_csv(
    stream: BinaryIO, path: Path, encoding: str, most: int, delimiter: str = ","
) -> Iterator[Chunk]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(text(stream, encoding, ""), delimiter=delimiter, strict=True)
    begin, rows = 1, []  # the first line of the current row, which may have line breaks
    try:
        header = next((row for row in reader if row), [])
        check_header(path, header)
        begin = reader.line_num + 1
        for row in reader:
            if len(row) == len(header):
                rows.append(row)
                if len(rows) == most:  # millions of small lists would slow garbage collection
                    yield turned(header, rows)
                    rows = []
            elif row:
                raise InputError(
                    f"{path}, line {begin} has {len(row)} fields, the header "
                    f"{len(header)}: fix the {'tabs' if delimiter != ',' else 'commas'} or quotes there"
                )
            begin = reader.line_num + 1
    except csv.Error as e:
        raise InputError(
            f"{path}: the row that begins in line {begin} is not "
            f"{'TSV' if delimiter != ',' else 'CSV'} ({e}): fix its quotes"
        ) from None
    yield turned(header, rows)


def read_tsv(stream: BinaryIO, path: Path, encoding: str, most: int) -> Iterator[Chunk]:
    return read_csv(stream, path, encoding, most, "\t")


def turned(header: list[str], rows: list[list[str]]) -> Chunk:
    cells = map(list, zip(*rows, strict=True)) if rows else ([] for _ in header)
    return Chunk(len(rows), dict(zip(header, cells, strict=True)))
