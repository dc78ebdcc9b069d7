"""Files of word vectors: text (word2vec, fastText, GloVe), word2vec's .bin, and .npy.

They are read an entry at a time: of millions of vectors, only those of the wanted words are held.
"""

from __future__ import annotations

import bz2
import gzip
import mmap
import re
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.format import open_memmap

from foldstack.errors import InputError, cut
from foldstack.system import is_fault

OPENERS = {".gz": gzip.open, ".bz2": bz2.open}
HEADER = re.compile(rb"(\d{1,18})[ \t](\d{1,18})[ \t\r]*\n?")  # numbers below 2**63
IN_NUMBERS = b"0123456789+-.eE "
LONGEST_LINE, LONGEST_WORD = 1 << 20, 1 << 12  # bytes
Stored = bytes | np.ndarray
FASTTEXT = b"\xba\x16\x4f\x2f"  # the first bytes of a model of the fastText program


@dataclass(frozen=True)
class VectorFile(ABC):
    """A file of word vectors; every method raises InputError naming the file, the line and the error."""

    path: Path

    @property
    @abstractmethod
    def size(self) -> int:
        """Return the number of components of a vector."""

    @abstractmethod
    def entries(self) -> Iterator[tuple[str, str, Stored]]:
        """Yield (place in the file, word, components as stored) of each vector."""

    @abstractmethod
    def numbers(self, where: str, stored: Stored) -> np.ndarray:
        """Return the (size,) components."""

    def check(self) -> None:
        """Read the file, except for the values of its numbers."""
        self.read(frozenset())

    def read(self, wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Return the (size,) float32 vectors of those wanted words that are there; the first counts."""
        found: dict[str, np.ndarray] = {}
        any_there = False
        for where, word, stored in self.entries():
            any_there = True
            word = unicodedata.normalize("NFC", word)
            if word in wanted and word not in found:
                with np.errstate(over="ignore"):
                    found[word] = self.numbers(where, stored).astype(np.float32)
                if not np.isfinite(found[word]).all():
                    raise InputError(f"{where}: a number of '{cut(word)}' is not finite: fix it")
        if not any_there:
            raise InputError(f"{self.path} holds no vectors: put the right file there")
        return found


class TextVectors(VectorFile):
    """`word number number …` per line; the first line may be the number of words and the size."""

    @cached_property
    def _head(self) -> tuple[int | None, int]:
        """The number of vectors that a header states, None without one, and the size."""
        with self._opened() as f:
            first = _without_mark(f.readline(LONGEST_LINE))
        if b"\0" in first:
            raise InputError(
                f"{self.path} is not a text of word vectors: give it the ending that it has, "
                ".vec, .txt, .gz, .bz2, .bin or .npy"
            )
        stated = HEADER.fullmatch(first)
        count, size = map(int, stated.groups()) if stated else (None, len(first.split()) - 1)
        if size < 1:
            raise InputError(
                f"{self.path}, line 1: a word and its numbers are expected: put the right file there"
            )
        return count, size

    @property
    def size(self) -> int:
        return self._head[1]

    def entries(self) -> Iterator[tuple[str, str, bytes]]:
        (stated, size), found = self._head, 0
        with self._opened() as f:
            lines = iter(lambda: f.readline(LONGEST_LINE), b"")
            for number, line in enumerate(lines, 1):
                if number == 1:
                    line = _without_mark(line)
                if not line.strip() or (number == 1 and stated is not None):
                    continue
                where, found = f"{self.path}, line {number:,}", found + 1
                word, stored = _split(where, line.replace(b"\t", b" ").rstrip(b" \r\n"), size)
                yield where, word.decode("utf-8", "replace"), stored
        if stated is not None and found < stated:
            raise InputError(
                f"{self.path}: line 1 states {stated:,} vectors, but {found:,} follow, so that the file "
                "may be cut off: fetch it again, or correct line 1"
            )

    def numbers(self, where: str, stored: bytes) -> np.ndarray:
        parts = stored.split()
        try:
            return np.array([float(part) for part in parts])
        except ValueError as e:
            raise InputError(f"{where}: {e}: fix it") from None

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with OPENERS.get(self.path.suffix, open)(self.path, "rb") as f:
                yield f
        except (EOFError, zlib.error, OSError) as e:
            if is_fault(e):  # of the machine, not of the file
                raise
            raise InputError(f"{self.path} is damaged ({e}): fetch it again") from None


def _without_mark(line: bytes) -> bytes:
    return line.removeprefix(b"\xef\xbb\xbf")


def _split(where: str, line: bytes, size: int) -> tuple[bytes, bytes]:
    """Return the word, which may hold spaces, and the numbers behind it."""
    if line.count(b" ") == size:
        word, _, stored = line.partition(b" ")
    else:
        word, *numbers = line.rsplit(None, size)
        stored = b" ".join(numbers)
        more = word.split()[1:]
        if len(numbers) < size or (more and not more[-1].translate(None, IN_NUMBERS[:-1])):
            count = len(line.split()) - 1
            raise InputError(f"{where} has {count} numbers, but {size} are expected: fix it")
    if stored.translate(None, IN_NUMBERS):
        wrong = next(part for part in stored.split() if part.translate(None, IN_NUMBERS))
        shown = cut(wrong.decode("utf-8", "replace"))
        raise InputError(f"{where}: '{shown}' is not a number: fix it")
    return word, stored


class BinaryVectors(VectorFile):
    """word2vec's own form: a line of number and size, then `word`, a space and float32 per vector."""

    @cached_property
    def _head(self) -> tuple[int, int, int]:
        """The number of vectors, the size, and the place of the first one."""
        with self.path.open("rb") as f:
            first = f.readline(LONGEST_WORD)
        if first.startswith(FASTTEXT):
            raise InputError(
                f"{self.path} is a model of the fastText program: take its vectors as text (.vec)"
            )
        stated = HEADER.fullmatch(first)
        if stated is None or not int(stated[2]):
            raise InputError(
                f"{self.path} does not begin with the number of vectors and their size, as word2vec's "
                ".bin does: put the right file there"
            )
        return int(stated[1]), int(stated[2]), len(first)

    @property
    def size(self) -> int:
        return self._head[1]

    def entries(self) -> Iterator[tuple[str, str, bytes]]:
        count, size, at = self._head
        with self.path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            for number in range(1, count + 1):
                end = m.find(b" ", at, at + LONGEST_WORD)
                stop = end + 1 + 4 * size
                if end < 0 or stop > len(m):
                    raise InputError(
                        f"{self.path}: vector {number:,} of {count:,} is cut off: fetch the file "
                        "again"
                    )
                word = m[at:end].lstrip(b"\n").decode("utf-8", "replace")
                yield f"{self.path}, vector {number:,}", word, m[end + 1 : stop]
                at = stop

    def numbers(self, where: str, stored: bytes) -> np.ndarray:
        return np.frombuffer(stored, dtype="<f4")


class ArrayVectors(VectorFile):
    """numpy's .npy, of shape (n, size), with the n words beside it: NAME.txt, one per line."""

    @property
    def _words(self) -> Path:
        return self.path.with_suffix(".txt")

    @cached_property
    def _matrix(self) -> np.ndarray:
        try:
            matrix = open_memmap(self.path, mode="r")
        except Exception as e:  # numpy reads the header as Python, whose errors are of many types
            if is_fault(e):
                raise
            raise InputError(f"{self.path} is not an array of numpy ({e}): save it again") from None
        if matrix.ndim != 2 or matrix.dtype.kind != "f" or not matrix.shape[1]:
            raise InputError(
                f"{self.path} is an array of {matrix.dtype} in shape {matrix.shape}: save one of "
                "floats, a row per word"
            )
        return matrix

    @property
    def size(self) -> int:
        return self._matrix.shape[1]

    def entries(self) -> Iterator[tuple[str, str, np.ndarray]]:
        rows, number = self._matrix, 0
        with self._words.open("rb") as f:
            for number, line in enumerate(f, 1):
                if number <= len(rows):
                    word = line.rstrip(b"\r\n").decode("utf-8", "replace")
                    yield f"{self.path}, row {number:,}", word, rows[number - 1]
        if number != len(rows):
            raise InputError(
                f"{self._words} has {number:,} words, but {self.path.name} has {len(rows):,} rows: the "
                "word of each row is expected"
            )

    def numbers(self, where: str, stored: np.ndarray) -> np.ndarray:
        return np.asarray(stored)


def vector_file(path: Path) -> VectorFile:
    """Return the file's reader, which its ending determines."""
    kinds = {".bin": BinaryVectors, ".npy": ArrayVectors}
    return kinds.get(path.suffix, TextVectors)(path)


def look_up(file: VectorFile, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of words, each the word's own or that of its small letters.

    Args:
        file: of vectors.
        words: n words.

    Returns:
        (n, size) float32, zero where there is none; (n,) whether there is one.

    Raises:
        InputError: the file cannot be read.
    """
    found = file.read({form for word in words for form in (word, word.lower())})
    vectors, known = np.zeros((len(words), file.size), np.float32), np.zeros(len(words), bool)
    for i, word in enumerate(words):
        vector = found.get(word, found.get(word.lower()))
        if vector is not None:
            vectors[i], known[i] = vector, True
    return vectors, known


def look_up_some(
    setting: str, path: Path, words: Sequence[str], unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `look_up` does.

    Args:
        setting: that names the file.
        path: of the file.
        words: n words.
        unit: words or characters.

    Raises:
        InputError: the file cannot be read, or has none of them.
    """
    vectors, known = look_up(vector_file(path), words)
    if not known.any():
        raise InputError(
            f"{setting}: {path} has none of the {len(words):,} {unit} of the training texts: take "
            "vectors of their language, as UTF-8"
        )
    return vectors, known
