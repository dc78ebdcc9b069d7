"""Files opened for reading, decompressed if they are .gz or .zip."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import BinaryIO

from foldstack.errors import InputError, cut, some
from foldstack.system import is_fault
from foldstack.tables.chunks import first_line

# Types of data files that are read.
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet")

# Limits on decompression. Text compresses 3 to 30 times, a table of zeros beside texts 100 times;
# deflate allows 1000 times, which only a crafted file reaches.
FREE_BYTES = 16 << 20
MOST_TIMES_PACKED = 250

DAMAGE = (EOFError, zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile)


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield (suffix of the data, stream of its bytes). Raises InputError if the file is damaged."""
    try:
        with ExitStack() as stack:
            yield _open(path, stack)
    except PermissionError as e:
        raise InputError(
            f"{path} cannot be read ({first_line(e)}): give this user the right to read it"
        ) from None
    except (OSError, *DAMAGE) as e:
        if is_fault(e):
            raise
        raise InputError(
            f"{path} cannot be read ({first_line(e)}): fetch or pack it again"
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
        raise zipfile.BadZipFile(first_line(e)) from None


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
    members = _members(archive)
    if len(members) != 1:
        held = some([m.filename for m in members]) if members else "no file"
        raise InputError(f"{path} holds {held}: pack exactly one data file into it")
    if members[0].flag_bits & 1:
        raise InputError(f"{path} is password-protected: unpack it first")
    return members[0]


def data_files(path: Path) -> list[str]:
    """Return the names of a zip's files, without those that macOS adds; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [member.filename for member in _members(archive)]
    except (OSError, *DAMAGE, ValueError):
        return []


def extract(path: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Write files of a zip into a folder, without the folders that they are in.

    Args:
        path: the zip.
        folder: an existing folder.
        wanted: which of the names, without folders, are written.

    Raises:
        InputError: the zip is damaged, protected or a decompression bomb, or has a name twice.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for member in _members(archive):
                name = PurePath(member.filename).name
                if not wanted(name):
                    continue
                if member.flag_bits & 1:
                    raise InputError(f"{path} is password-protected: unpack it first")
                if (folder / name).exists():
                    raise InputError(
                        f"{path} holds '{cut(name)}' in several folders: unpack it, and name the files "
                        "that are meant with TRAIN= TEST= SAMPLE="
                    )
                _check_expansion(path, member.file_size, member.compress_size)
                with (folder / name).open("wb") as out, archive.open(member) as stream:
                    shutil.copyfileobj(_bounded(path, file, stream), out)
    except (*DAMAGE, ValueError, LookupError, RuntimeError) as e:
        raise InputError(
            f"{path} cannot be read ({first_line(e)}): fetch or pack it again"
        ) from None


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    def hidden(name: str) -> bool:  # files that macOS adds
        return any(part.startswith((".", "__MACOSX")) for part in PurePath(name).parts)

    return [m for m in archive.infolist() if not m.is_dir() and not hidden(m.filename)]


def _suffix(path: Path, name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    if suffix not in SUFFIXES:
        inside = "" if path.name.startswith(name) else f" (in it '{cut(name)}')"
        raise InputError(
            f"{path}{inside} has an unknown file type: {', '.join(SUFFIXES)} are read, each also as .gz "
            "or .zip"
        )
    return suffix
