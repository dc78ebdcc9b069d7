"""CSV, TSV and text files with another delimiter."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from foldstack.errors import InputError
from foldstack.tables.chunks import Chunk, Embedded, check_header, text
from foldstack.tables.form import FIRST_SPACE, TableForm

NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
LINE_END = "\r\n"


def read_delimited(
    stream: BinaryIO, path: Path, form: TableForm, most: int, delimiter: str
) -> Iterator[Chunk]:
    """Yield the rows of a file, `most` at a time.

    Args:
        stream: its bytes; seekable.
        path: for messages.
        form: how the file is written.
        most: rows of a chunk.
        delimiter: by the suffix, unless the form has one.

    Raises:
        InputError: an unclosed quote, or a row whose number of fields differs from the header's.
    """
    by = form.delimiter or delimiter
    if by == FIRST_SPACE:
        yield from _at_first_space(stream, path, form, most)
        return
    yield from _Delimited(path, form, by, most).chunks(stream)


class _Delimited:
    """A delimited file while it is read."""

    def __init__(self, path: Path, form: TableForm, delimiter: str, most: int):
        self.path, self.form, self.delimiter, self.most = path, form, delimiter, most

    def chunks(self, stream: BinaryIO) -> Iterator[Chunk]:
        csv.field_size_limit(sys.maxsize)
        quoting = csv.QUOTE_NONE if self._quoting(stream) == "none" else csv.QUOTE_MINIMAL
        lines = text(stream, self.form.encoding, "")
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, quoting=quoting)
        begin = 1  # the first line of the current row, which may have line breaks
        rows: list[list[str]] = []
        embedded: list[Embedded] = []
        try:
            first = next((row for row in reader if row), [])
            header = first if self.form.header else _numbered(first)
            check_header(self.path, header)
            width, above = len(header), reader.line_num
            if not self.form.header:
                rows, above = [first], above - 1
            begin = reader.line_num + 1
            for row in reader:
                if len(row) == width:
                    rows.append(row)
                    if len(rows) == self.most:  # many small lists would slow garbage collection
                        done = reader.line_num - above
                        yield _turned(header, rows, done, embedded)
                        rows, embedded = [], []
                elif row:
                    raise self._uneven(begin, len(row), width)
                end = reader.line_num
                if end != begin:
                    embedded += self._embedded(header, row, begin)
                begin = end + 1
        except csv.Error as e:
            raise InputError(
                f"{self.path}: the row that begins in line {begin} is not "
                f"{'TSV' if self.delimiter != ',' else 'CSV'} ({e}): fix its quotes"
            ) from None
        yield _turned(header, rows, reader.line_num - above, embedded)

    def _quoting(self, stream: BinaryIO) -> str:
        if self.form.quoting != "auto" or self.delimiter != "\t":
            return "csv" if self.form.quoting == "auto" else self.form.quoting
        lines = text(stream, self.form.encoding, "")
        found = quoting_of(lines, self.delimiter)
        lines.detach()
        stream.seek(0)
        return found

    def _uneven(self, line: int, fields: int, width: int) -> InputError:
        names = NAMES.get(self.delimiter, f"'{self.delimiter}'")
        if self.form.header:
            return InputError(
                f"{self.path}, line {line} has {fields} fields, the header {width}: fix the {names} or "
                "quotes there"
            )
        return InputError(
            f"{self.path}, line {line} has {fields} fields, the first line {width}: fix the {names} or "
            "quotes there"
        )

    def _embedded(self, header: list[str], row: list[str], line: int) -> Iterator[Embedded]:
        for place, cell in enumerate(row):
            if "\n" in cell and _holds_rows(row, place, self.delimiter):
                yield Embedded(line, header[place], cell.count("\n"))


def quoting_of(lines: Iterable[str], delimiter: str) -> str:
    """Return `csv` or `none`, how quotes in tab-separated lines are meant.

    They are part of the text (`none`) if a field opens with a quote that is not closed on its line,
    unless the lines have different numbers of fields then: a quoted cell with line breaks.
    """
    field = rf'(?:"(?:[^"]|"")*"|[^"{delimiter}][^{delimiter}]*|)'
    closed_line = re.compile(rf"{field}(?:{delimiter}{field})*")
    closed, width = True, -1
    for line in lines:
        line = line.rstrip(LINE_END)
        if not line:
            continue
        count = line.count(delimiter)
        if width < 0:
            width = count
        if count != width:
            return "csv"
        if closed and '"' in line:
            closed = closed_line.fullmatch(line) is not None
    return "csv" if closed else "none"


def _holds_rows(row: list[str], place: int, delimiter: str) -> bool:
    """Return whether a cell with line breaks looks like the ends of two rows and rows between.

    Its lines then have the delimiters of rows; and since prose has commas, too, their outer fields
    look like those of the row, unless the delimiter is a tab.
    """
    first, *between, last = row[place].split("\n")
    after = len(row) - 1 - place
    counts = [line.count(delimiter) for line in (first, *between, last)]
    if counts != [after, *[len(row) - 1] * len(between), place]:
        return False
    if delimiter == "\t":
        return True
    begins = [line.split(delimiter)[0] for line in (*between, last)] if place else []
    ends = [line.rstrip("\r").split(delimiter)[-1] for line in (first, *between)] if after else []
    return all(_shape(cell) == _shape(row[0]) for cell in begins) and all(
        _shape(cell) == _shape(row[-1]) for cell in ends
    )


def _shape(cell: str) -> str:
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", cell[:100]))


def _at_first_space(stream: BinaryIO, path: Path, form: TableForm, most: int) -> Iterator[Chunk]:
    """Yield the rows of lines `labels text`, split at their first space; nothing is quoted."""
    header, rows, above, number = _numbered(["", ""]), [], 0, 0
    for number, line in enumerate(text(stream, form.encoding, "\n"), start=1):
        if line.isspace():
            continue
        fields = line.rstrip(LINE_END).split(" ", 1)
        if len(fields) < 2:
            raise InputError(
                f"{path}, line {number} has no space, at which `delimiter: {FIRST_SPACE}` splits it: "
                "write labels, a space, the text"
            )
        if form.header and not above:
            header, above = fields, number
            check_header(path, header)
            continue
        rows.append(fields)
        if len(rows) == most:
            yield _turned(header, rows, number - above, [])
            rows = []
    if not number:
        check_header(path, [])
    yield _turned(header, rows, number - above, [])


def _numbered(fields: list[str]) -> list[str]:
    return [f"c{i}" for i in range(1, len(fields) + 1)]


def _turned(
    header: list[str], rows: list[list[str]], lines: int, embedded: list[Embedded]
) -> Chunk:
    cells = map(list, zip(*rows, strict=True)) if rows else ([] for _ in header)
    return Chunk(len(rows), dict(zip(header, cells, strict=True)), lines, tuple(embedded))
