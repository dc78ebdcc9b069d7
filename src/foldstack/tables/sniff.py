"""Guesses how a delimited file is written, from its first lines; `init` says and writes them."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from foldstack.tables.chunks import text
from foldstack.tables.delimited import quoting_of
from foldstack.tables.form import DELIMITERS, FIRST_SPACE, TableForm
from foldstack.tables.packed import unpacked

LINES = 400
WORDS = 4  # a header's cell has fewer


@dataclass(frozen=True)
class Sniffed:
    """How a file seems to be written.

    Attributes:
        usual: the delimiter by the file's suffix; None if it is not a delimited file.
        delimiter: the one found.
        quoting: none if quotes of a tab-separated file are part of the text.
        quoted: whether the file holds quotes.
        rows: the first ones, the header included.
    """

    usual: str | None = None
    delimiter: str | None = None
    quoting: str = "csv"
    quoted: bool = False
    rows: list[list[str]] = field(default_factory=list)

    def form(self, encoding: str) -> TableForm:
        return TableForm(encoding, None if self.delimiter == self.usual else self.delimiter)


def sniff(path: Path, encoding: str) -> Sniffed:
    """Return how a file seems to be written; reading it says what is wrong with it."""
    with unpacked(path) as (suffix, stream):
        usual = DELIMITERS.get(suffix)
        if usual is None:
            return Sniffed()
        try:
            lines = text(stream, encoding, "")
            first = list(islice(lines, LINES))
            rest = (line for line in lines)
            delimiter, rows = _delimiter(first, usual, suffix)
            quoted, quoting = any('"' in line for line in first), "csv"
            if delimiter == "\t":
                quoting = quoting_of([*first, *rest], delimiter)
            elif not quoted:
                quoted = any('"' in line for line in rest)
            return Sniffed(usual, delimiter, quoting, quoted, rows)
        except UnicodeError:
            return Sniffed(usual, usual)


def _delimiter(lines: list[str], usual: str, suffix: str) -> tuple[str, list[list[str]]]:
    """Return the delimiter that all lines have equally often, the suffix's if it is one, and rows."""
    found = {sign: _rows(lines, sign) for sign in (usual, "\t", ";", ",", "|")}
    fitting = {sign: rows for sign, rows in found.items() if rows}
    if usual in fitting or not fitting:
        if not fitting and suffix == ".txt" and (rows := _labelled(lines)):
            return FIRST_SPACE, rows
        return usual, fitting.get(usual, [])
    best = max(fitting, key=lambda sign: len(fitting[sign][0]))
    return best, fitting[best]


def _rows(lines: list[str], sign: str) -> list[list[str]]:
    """Return the rows of lines that all have this many fields, two or more; none otherwise."""
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        rows = []
        try:
            for row in csv.reader(lines, delimiter=sign, strict=True, quoting=quoting):
                rows += [row] if row else []
        except csv.Error:
            if len(lines) < LINES:  # otherwise the last row may be cut off
                continue
        if rows and len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows):
            return rows
    return []


def _labelled(lines: list[str]) -> list[list[str]]:
    """Return the rows of lines `a|b text`, whose first words repeat; none for other lines."""
    rows = [line.rstrip("\r\n").split(" ", 1) for line in lines if not line.isspace()]
    if not rows or any(len(row) < 2 for row in rows):
        return []
    labels = {label for row in rows for label in re.split(r"[|,;]", row[0])}
    texts = {row[1] for row in rows}
    return rows if len(labels) <= max(2, len(rows) / 2) and len(texts) > len(labels) else []


def has_header(rows: list[list[str]]) -> bool:
    """Return whether the first row names the columns, by itself and the rows below.

    It does not if it has numbers wherever they have, unless these are classes counted up; or if it
    has a long text beside a value that they repeat.
    """
    first, rest = rows[0], rows[1:]
    if not rest:
        return True
    numeric = [j for j in range(len(first)) if all(_number(row[j]) for row in rest)]
    if numeric:
        named = [first[j] for j in numeric]
        counted = [[str(i + start) for i in range(len(named))] for start in (0, 1)]
        classes = named in counted and len(named) > 1 and not has_long_cell(rows)
        return classes or not all(map(_number, named))
    repeats = any(first[j] and first[j] in {row[j] for row in rest} for j in range(len(first)))
    return not (repeats and has_long_cell(rows))


def has_long_cell(rows: list[list[str]]) -> bool:
    """Return whether the first row has a text of several words."""
    return any(len(cell.split()) >= WORDS for cell in rows[0])


def shares_names(role: str, rows: dict[str, list[list[str]]]) -> bool:
    """Return whether the first row of a file has a word of another file's, in any case."""
    own, *others = (
        {cell.strip().casefold() for cell in rows[each][0] if not _number(cell)} - {""}
        for each in (role, *(other for other in rows if other != role))
    )
    return any(own & other for other in others)


def _number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and cell.isascii() and "_" not in cell
    except ValueError:
        return False
