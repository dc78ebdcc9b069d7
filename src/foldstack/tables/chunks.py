"""Chunks of rows, headers and cells as text, for all readers of tables."""

from __future__ import annotations

import io
from collections import Counter
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from foldstack.encoding import codec_of
from foldstack.errors import InputError, cut, shown

JOIN = "|"  # separator of list items from JSON or Parquet

Columns = dict[str, list[str]]


class Embedded(NamedTuple):
    """A cell with line breaks that holds what looks like rows of its file.

    Attributes:
        line: the line in which its row begins, from 1.
        column: its column.
        rows: how many rows seem to stand in it.
    """

    line: int
    column: str
    rows: int


class Chunk(NamedTuple):
    """Consecutive rows of a table; for JSON, only the columns that these rows name.

    Attributes:
        lines: of the file that these rows and those before have taken, without the header; 0 if the
            format is not one of lines.
        embedded: cells among these rows that hold what looks like rows.
    """

    rows: int
    columns: Columns
    lines: int = 0
    embedded: tuple[Embedded, ...] = ()


def check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path} is empty: a header line and rows are required")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: column '{cut(twice[0])}' appears twice in the header: rename one"
        )


def text(stream: BinaryIO, encoding: str, newline: str) -> io.TextIOWrapper:
    try:
        return io.TextIOWrapper(stream, encoding=codec_of(encoding), newline=newline)
    except (LookupError, ValueError):  # ValueError: the name contains NUL
        raise InputError(
            f"encoding '{cut(encoding)}' is not known: write `encoding: utf-8` or another "
            "of Python's codecs into competition.yaml"
        ) from None


def first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (
        text.splitlines()[0]
        .removeprefix("Could not open Parquet input source '<Buffer>': ")
        .rstrip(".")
    )


READ_KINDS = "only text, numbers, booleans and lists of them are read"


def cell(value: Any) -> str:
    """Return a value of JSON or Parquet as text. Raises ValueError with a description if it has none."""
    if type(value) in (str, int, bool):  # first, for speed
        return str(value)
    if value is None or value != value:  # null, nan
        return ""
    if isinstance(value, list):
        return JOIN.join(map(_part, value))
    if not isinstance(value, (float, Decimal, date, time, timedelta)):
        kind = "bytes" if isinstance(value, bytes) else "an object"
        raise ValueError(f"{kind}: {READ_KINDS}")
    return str(value)


def _part(value: Any) -> str:
    text = "" if isinstance(value, list) else cell(value)
    if not text or JOIN in text:
        raise ValueError(
            f"a list with {shown(value)}: its parts are joined by '{JOIN}' and must be text without it"
        )
    return text
