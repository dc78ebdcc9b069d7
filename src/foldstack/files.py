"""Reading of tables as text, without type inference, and atomic writing of files."""

from __future__ import annotations

import csv
import errno
import fcntl
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple, TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foldstack.encoding import codec_of, failing_line, likely_encoding
from foldstack.errors import InputError, cut, shown, some
from foldstack.progress import say
from foldstack.system import is_fault, naming
from foldstack.yaml_text import encodable

JOIN = "|"  # separator of list items from JSON or Parquet
CHUNK_ROWS = 20_000

# Limits on decompression. Text compresses 3 to 30 times, a table of zeros beside texts 100 times;
# deflate allows 1000 times, which only a crafted file reaches.
FREE_BYTES = 16 << 20
MOST_TIMES_PACKED = 250
# A row of text takes bytes; a Parquet file of a kilobyte can claim billions of rows.
FREE_ROWS = 1_000_000
MOST_ROWS_PER_BYTE = 8
# A table of n JSON objects with distinct keys has n² cells.
FREE_CELLS = 50_000_000
MOST_CELLS_PER_BYTE = 8

Columns = dict[str, list[str]]


class Chunk(NamedTuple):
    """Consecutive rows of a table; for JSON lines, only the columns that these rows name."""

    rows: int
    columns: Columns


def read_table(path: Path, encoding: str, *, decides: bool = False) -> pd.DataFrame:
    """Read a table as text, without type inference (`NA`, `007` and blanks are kept).

    Reads CSV, TSV, JSON lines and Parquet by suffix (`READERS`), each also compressed as .gz or
    .zip. In JSON and Parquet, null becomes the empty text, numbers and booleans are formatted as by
    Python, and lists are joined by a bar.

    decides: whether this is the training file, which the setting `encoding` describes; then the
    message for a wrong encoding suggests another setting, else to convert the file.

    Raises InputError with the line or row for a wrong encoding, an unclosed quote, a row whose
    number of fields differs from the header's, a line that is not a JSON object, a value that is
    not text.
    """
    columns: Columns = {}
    count = 0
    for part in _chunks(path, encoding, CHUNK_ROWS, decides):
        for name in part.columns:
            if name not in columns:
                columns[name] = [""] * count
        for name, cells in columns.items():
            cells.extend(part.columns.get(name) or [""] * part.rows)
        count += part.rows
    if not count:
        raise _without_rows(path)
    return _frame(columns)


@dataclass(frozen=True)
class TableStream:
    """Table read in chunks, so that it may exceed memory; cells are those of `read_table`.

    Attributes:
        columns: all columns of the file, in order of first appearance.
        rows: their number.
    """

    path: Path
    encoding: str
    columns: tuple[str, ...]
    rows: int

    @classmethod
    def of(cls, path: Path, encoding: str) -> TableStream:
        """Read the file once from end to end. Raises InputError as `read_table` does."""
        columns: dict[str, None] = {}
        rows = 0
        for part in _chunks(path, encoding, CHUNK_ROWS):
            columns |= dict.fromkeys(part.columns)
            rows += part.rows
        if not rows:
            raise _without_rows(path)
        return cls(path, encoding, tuple(columns), rows)

    def parts(self, most: int) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield (number of rows before, table of at most `most` rows), with all columns in each."""
        start = 0
        for part in _chunks(self.path, self.encoding, most):
            if part.rows:
                nothing = [""] * part.rows
                yield start, _frame({c: part.columns.get(c, nothing) for c in self.columns})
                start += part.rows


def _frame(columns: Columns) -> pd.DataFrame:
    return pd.DataFrame({name: np.array(cells, dtype=object) for name, cells in columns.items()})


def _without_rows(path: Path) -> InputError:
    return InputError(f"{path} has a header but no rows")


def _chunks(path: Path, encoding: str, most: int, decides: bool = False) -> Iterator[Chunk]:
    """Yield the rows of a file, `most` at a time. Raises InputError as `read_table` does."""
    if not path.exists():
        raise InputError(f"{path} does not exist: put the competition's file there")
    if path.is_dir():
        raise InputError(f"{path} is a folder: put the file itself there")
    try:
        with _unpacked(path) as (suffix, stream):
            yield from READERS[suffix](stream, path, encoding, most)
    except UnicodeError:
        raise InputError(_encoding_sentence(path, encoding, decides)) from None


def text_bytes(path: Path) -> bytes:
    """Return a data file's decompressed contents; b"" for Parquet, which has no encoding."""
    with _unpacked(path) as (suffix, stream):
        return b"" if suffix == ".parquet" else stream.read()


def stem(name: str) -> str | None:
    """Return `train` for `train.csv`, `train.jsonl.gz` or `train.zip`; None if it is not a data file."""
    plain = PurePath(name)
    if not encodable(name):  # it could not be written into competition.yaml
        return None
    packed = plain.suffix.lower() in (".gz", ".zip")
    inner = PurePath(plain.stem) if packed else plain
    if inner.suffix.lower() in READERS:
        return inner.stem
    return plain.stem if plain.suffix.lower() == ".zip" else None


DAMAGE = (EOFError, zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile)


@contextmanager
def _unpacked(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield (suffix of the data, stream of its bytes). Raises InputError if the file is damaged."""
    try:
        with ExitStack() as stack:
            yield _open(path, stack)
    except PermissionError as e:
        raise InputError(
            f"{path} cannot be read ({_first_line(e)}): give this user the right to read it"
        ) from None
    except (OSError, *DAMAGE) as e:
        if is_fault(e):
            raise
        raise InputError(
            f"{path} cannot be read ({_first_line(e)}): fetch or pack it again"
        ) from None


def _open(path: Path, stack: ExitStack) -> tuple[str, BinaryIO]:
    packing = path.suffix.lower()
    file = stack.enter_context(path.open("rb"))
    if packing == ".zip":
        return _open_zip(path, file, stack)
    if packing == ".gz":
        suffix = _suffix(path, path.stem)
        return suffix, _bounded(path, file, stack.enter_context(gzip.GzipFile(fileobj=file)))
    return _suffix(path, path.name), file


def _open_zip(path: Path, file: BinaryIO, stack: ExitStack) -> tuple[str, BinaryIO]:
    """Open a zip file; convert the many errors of zipfile on damaged directories to BadZipFile."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        member = _only_member(path, archive)
        suffix = _suffix(path, member.filename)
        # Check the declared size too, since bzip2 and LZMA decompress a whole block at once.
        _check_expansion(path, member.file_size, member.compress_size)
        return suffix, _bounded(path, file, stack.enter_context(archive.open(member)))
    except (ValueError, LookupError, RuntimeError, struct.error) as e:
        raise zipfile.BadZipFile(_first_line(e)) from None


def _bounded(path: Path, packed: BinaryIO, stream: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_Unpacking(path, packed, stream), 1 << 16)


class _Unpacking(io.RawIOBase):
    """Stream of decompressed bytes. Raises InputError for a decompression bomb."""

    def __init__(self, path: Path, packed: BinaryIO, stream: BinaryIO):
        self.path, self.packed, self.stream = path, packed, stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.stream.seekable()

    def readinto(self, buffer: memoryview) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self._check()
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.stream.seek(offset, whence)
        self._check()
        return self.stream.tell()

    def tell(self) -> int:
        return self.stream.tell()

    def _check(self) -> None:
        _check_expansion(self.path, self.stream.tell(), self.packed.tell())


def _check_expansion(path: Path, size: int, packed: int) -> None:
    if size > max(FREE_BYTES, MOST_TIMES_PACKED * packed):
        raise InputError(
            f"{path} expands to over {MOST_TIMES_PACKED} times its size, which no table does: "
            "unpack it yourself if it is one"
        )


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    def hidden(name: str) -> bool:  # files that macOS adds
        return any(part.startswith((".", "__MACOSX")) for part in PurePath(name).parts)

    members = [m for m in archive.infolist() if not m.is_dir() and not hidden(m.filename)]
    if len(members) != 1:
        held = some([m.filename for m in members]) if members else "no file"
        raise InputError(f"{path} holds {held}: pack exactly one data file into it")
    if members[0].flag_bits & 1:
        raise InputError(f"{path} is password-protected: unpack it first")
    return members[0]


def _suffix(path: Path, name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    if suffix not in READERS:
        inside = "" if path.name.startswith(name) else f" (in it '{cut(name)}')"
        raise InputError(
            f"{path}{inside} has an unknown file type: {', '.join(READERS)} are read, each also as .gz "
            "or .zip"
        )
    return suffix


def _first_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return (
        text.splitlines()[0]
        .removeprefix("Could not open Parquet input source '<Buffer>': ")
        .rstrip(".")
    )


# CSV and TSV


def _read_csv(
    stream: BinaryIO, path: Path, encoding: str, most: int, delimiter: str = ","
) -> Iterator[Chunk]:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(_text(stream, encoding, ""), delimiter=delimiter, strict=True)
    begin, rows = 1, []  # the first line of the current row, which may have line breaks
    try:
        header = next((row for row in reader if row), [])
        _check_header(path, header)
        begin = reader.line_num + 1
        for row in reader:
            if len(row) == len(header):
                rows.append(row)
                if len(rows) == most:  # millions of small lists would slow garbage collection
                    yield _turned(header, rows)
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
    yield _turned(header, rows)


def _read_tsv(stream: BinaryIO, path: Path, encoding: str, most: int) -> Iterator[Chunk]:
    return _read_csv(stream, path, encoding, most, "\t")


def _turned(header: list[str], rows: list[list[str]]) -> Chunk:
    cells = map(list, zip(*rows, strict=True)) if rows else ([] for _ in header)
    return Chunk(len(rows), dict(zip(header, cells, strict=True)))


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path} is empty: a header line and rows are required")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: column '{cut(twice[0])}' appears twice in the header: rename one"
        )


def _text(stream: BinaryIO, encoding: str, newline: str) -> io.TextIOWrapper:
    try:
        return io.TextIOWrapper(stream, encoding=codec_of(encoding), newline=newline)
    except (LookupError, ValueError):  # ValueError: the name contains NUL
        raise InputError(
            f"encoding '{cut(encoding)}' is not known: write `encoding: utf-8` or another "
            "of Python's codecs into competition.yaml"
        ) from None


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


# JSON lines and Parquet


def _read_json_lines(stream: BinaryIO, path: Path, encoding: str, most: int) -> Iterator[Chunk]:
    columns: Columns = {}
    count, before, size = 0, 0, 0  # rows in this chunk, rows before it, characters read
    named: dict[str, None] = {}  # columns of the chunks before
    # JSON lines end in \n only; U+2028 may be part of a text.
    for number, line in enumerate(_text(stream, encoding, "\n"), start=1):
        size += len(line)
        if line.isspace():
            continue
        record = _object(path, number, line)
        try:
            for name, value in record.items():
                if name not in columns:
                    columns[name] = [""] * count
                columns[name].append(value if type(value) is str else _cell(value))
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


def _read_parquet(stream: BinaryIO, path: Path, encoding: str, most: int) -> Iterator[Chunk]:
    start = 0
    try:
        file = pq.ParquetFile(stream)
        _check_header(path, file.schema_arrow.names)
        _check_rows(path, file.metadata.num_rows)
        for batch in file.iter_batches(batch_size=most):
            table = pa.table(batch)
            names = table.column_names
            yield Chunk(
                len(table), {name: _cells(table.column(name), path, name, start) for name in names}
            )
            start += len(table)
    except (pa.ArrowException, OSError, UnicodeError) as e:
        raise InputError(f"{path} is not Parquet ({_first_line(e)}): fetch it again") from None


def _check_rows(path: Path, rows: int) -> None:
    if rows > max(FREE_ROWS, MOST_ROWS_PER_BYTE * path.stat().st_size):
        raise InputError(
            f"{path} claims {rows:,} rows in {path.stat().st_size:,} bytes, which no table of texts "
            "has: fetch it again"
        )


def _cells(column: pa.ChunkedArray, path: Path, name: str, start: int) -> list[str]:
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
            cells.append(_cell(value))
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


READ_KINDS = "only text, numbers, booleans and lists of them are read"


def _cell(value: Any) -> str:
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
    text = "" if isinstance(value, list) else _cell(value)
    if not text or JOIN in text:
        raise ValueError(
            f"a list with {shown(value)}: its parts are joined by '{JOIN}' and must be text without it"
        )
    return text


Reader = Callable[[BinaryIO, Path, str, int], Iterator[Chunk]]
READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}


# Writing


# Temporary file -> final path of the files that an open `together` block holds back.
_held_back: ContextVar[dict[Path, Path] | None] = ContextVar("held_back", default=None)


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    After an error, which then names `path`, or an interruption, the temporary file is removed.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with filling(beside, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        held_back = _held_back.get()
        yield beside
        if held_back is None:
            beside.replace(path)
        else:
            held_back[beside] = path


@contextmanager
def placing_folder(place: Path, beside: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which takes a place by one rename when the block succeeds.

    After an error, which then names the place, or an interruption nothing of it is left.

    Args:
        place: what stands there goes after the new folder has taken its place.
        beside: the folder to fill, on the same disk; what a kill has left there is removed.
    """
    shutil.rmtree(beside, ignore_errors=True)
    with filling(beside, place):
        beside.mkdir(parents=True)
        yield beside
    replace_folder(beside, place)


def replace_folder(beside: Path, place: Path) -> None:
    """Let a folder take a place by one rename; what stood there goes after it."""
    old = _old(place)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    beside.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(place: Path) -> None:
    """Put a folder back that a kill between the two renames of `replace_folder` has left aside."""
    old = _old(place)
    if old.exists() and not place.exists():
        with suppress(OSError):  # read-only, or somebody else was quicker
            old.rename(place)


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


@contextmanager
def together() -> Iterator[None]:
    """Rename all files written in the block when it succeeds, none of them after an error."""
    if _held_back.get() is not None:  # nested in another block
        yield
        return
    held_back: dict[Path, Path] = {}
    token = _held_back.set(held_back)
    try:
        yield
        for beside, path in held_back.items():
            with naming(path, instead_of=beside):
                beside.replace(path)
    finally:
        _held_back.reset(token)
        for beside in held_back:
            _remove(beside)


def _remove(beside: Path) -> None:
    with suppress(OSError):  # already renamed, or never written
        beside.unlink()


@contextmanager
def filling(beside: Path, place: Path) -> Iterator[None]:
    """Remove `beside` if an error or an interruption ends the block; the error names `place`."""
    with naming(place, instead_of=beside):
        try:
            yield
        except BaseException:
            _remove(beside)
            shutil.rmtree(beside, ignore_errors=True)
            raise


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file opened for writing; flush it to disk and rename it, as in `placing`."""
    with placing(path) as beside, beside.open("wb") as f:
        yield f
        f.flush()
        os.fsync(f.fileno())


def publish(path: Path, data: bytes) -> None:
    """Write a file atomically, by one rename."""
    publish_with(path, lambda f: f.write(data))


def publish_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically; `write` receives it opened for writing."""
    with _replacing(path) as f:
        write(f)


def write_json(path: Path, value: Any) -> None:
    publish(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_text(path: Path, text: str) -> None:
    publish(path, text.encode())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold an exclusive lock on this file; print `waiting` if another process holds it.

    The kernel releases an flock when its process ends, so there are no stale locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as f:
        with naming(path):
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    say(waiting)
                fcntl.flock(f, fcntl.LOCK_EX)
        yield


@contextmanager
def writing(path: Path, encoding: str = "utf-8") -> Iterator[TextIO]:
    """Yield a text file to write incrementally; rename it when the block succeeds."""
    with _replacing(path) as f:
        text = io.TextIOWrapper(f, encoding=encoding, newline="")
        try:
            yield text
        finally:
            text.detach()  # flushes to f, which stays open


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 if it does not exist."""
    below = path.rglob("*") if path.is_dir() else [path]
    return sum(p.lstat().st_size for p in below if p.is_file() and not p.is_symlink())


def remove(path: Path) -> int:
    """Remove a file, a folder or a link (not its target); return the bytes freed."""
    if not os.path.lexists(path):
        return 0
    size = size_of(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return size


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def csv_text(table: pd.DataFrame, *, header: bool = True) -> str:
    """Return a table, or a chunk of one, as CSV; lines end in \\n."""
    text = table.to_csv(index=False, header=header, lineterminator="\n")
    if "\r" in text:  # Python 3.11 may leave it unquoted, and readers take it for a line end
        text = table.to_csv(index=False, header=header, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text


def write_table(path: Path, table: pd.DataFrame, encoding: str = "utf-8") -> None:
    """Write a table as CSV, atomically."""
    publish(path, csv_text(table).encode(encoding))


def publish_new(contents: Mapping[Path, bytes], force: bool) -> None:
    """Write several files, all or none; without `force`, never over other contents.

    Raises:
        InputError: one exists with other contents, and not `force`; nothing is written then.
    """
    for path, data in contents.items():
        if not force and os.path.lexists(path) and not (path.is_file() and _holds(path, data)):
            raise InputError(
                f"{path} is there already and is another file: move it away, take another WORKSPACE, or "
                "add --force (FORCE=1) to write over it"
            )
    with together():
        for path, data in contents.items():
            publish(path, data)


def _holds(path: Path, data: bytes) -> bool:
    return path.stat().st_size == len(data) and path.read_bytes() == data
