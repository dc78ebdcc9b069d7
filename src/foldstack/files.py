"""Atomic writing of files."""

from __future__ import annotations

import csv
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import pandas as pd

from foldstack.errors import InputError
from foldstack.progress import say
from foldstack.system import naming

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


def file_digest(path: Path) -> str:
    """Return a digest of a file's bytes, read once per process unless the file changes."""
    facts = path.stat()
    return _digest_then(path, facts.st_size, facts.st_mtime_ns)


@lru_cache
def _digest_then(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)[:16]


def share(path: Path, folder: Path) -> None:
    """Make a file a hard link to the equal one in a folder, which is put there if it is missing.

    Files in the folder that nothing else links to are removed. If the file system has no hard links, or
    the folder cannot be written, the file stays as it is.
    """
    digest = file_sha256(path)
    same = folder / f"{digest}{path.suffix}"
    with suppress(OSError), locked(folder / ".lock"):
        is_whole = same.is_file() and file_sha256(same) == digest
        source, target = (same, path) if is_whole else (path, same)
        with placing(target) as beside:
            os.link(source, beside)
        for other in folder.glob(f"*{path.suffix}"):
            if other.stat().st_nlink == 1:
                other.unlink()


def csv_text(table: pd.DataFrame, *, header: bool = True, sep: str = ",") -> str:
    """Return a table, or a chunk of one, as CSV; lines end in \\n."""
    text = table.to_csv(index=False, header=header, sep=sep, lineterminator="\n")
    if "\r" in text:  # Python 3.11 may leave it unquoted, and readers take it for a line end
        text = table.to_csv(
            index=False, header=header, sep=sep, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
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
