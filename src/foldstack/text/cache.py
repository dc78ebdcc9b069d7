"""Texts as token ids on the disk, so that each is tokenised once by each tokenizer.

    <folder>/<tokenizer>/<part>/    digests.npy  (n,) 16 bytes each, of different texts, ascending
                                    ends.npy     (n,) int64, where each text's ids end in ids.npy
                                    ids.npy      uint16 where the vocabulary fits into it, else int32
                                    part.json    the checksums of the three

What is kept are whole texts without special tokens: lengths, strategies for long texts and frames come
after it, and change nothing here. A text is found by its own content, in whatever order, fold or run it
is asked for; another tokenizer, or another version of one, has another folder. Parts are never changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.files import file_sha256, locked, read_json, write_json
from foldstack.progress import duration, say
from foldstack.rows import Rows
from foldstack.system import error_number, is_fault
from foldstack.text.sequences import (
    Stretches,
    backend_of,
    columns_of,
    copy_to,
    encode,
    encode_each,
)

DIGEST = 16  # bytes: two of a billion texts share one with a chance of 1e-21
ARRAYS = ("digests.npy", "ends.npy", "ids.npy")


@dataclass(frozen=True)
class Part:
    """(n,) digests, ascending, and the ids of their texts."""

    digests: np.ndarray
    texts: Stretches


class TokenCache:
    """Token ids in a folder, and in memory as far as they are mapped.

    ahead: rows that are tokenised together with the first text that is not there, so that runs which
    learn from some of them and predict others find all in one part.
    """

    def __init__(self, folder: Path, ahead: Sequence[Rows] = ()):
        self.folder, self.ahead = folder, ahead
        self._parts: dict[Path, Part] = {}

    def read(
        self, rows: Rows, tokenizer: PreTrainedTokenizerBase, prefix: str = ""
    ) -> tuple[Stretches, ...]:
        """What `encode` gives for each of the rows' columns, from the folder as far as it is there."""
        key, texts = tokenizer_key(tokenizer), columns_of(rows, prefix)
        if key is None:
            return tuple(encode(column, tokenizer) for column in texts)
        place, columns = self.folder / key, [digests_of(column) for column in texts]
        try:
            parts = self._open(place)
            if not _known(np.concatenate(columns), parts).all():
                with locked(place / ".lock"):  # another run may be tokenising the same
                    parts = self._fill(place, rows, tokenizer, prefix)
        except OSError as e:  # a full disk, one that may only be read
            say(f"tokenising without keeping it in {self.folder}: {_reason(e)}")
            return tuple(encode(column, tokenizer) for column in texts)
        return tuple(_take(digests, parts) for digests in columns)

    def _fill(
        self, place: Path, rows: Rows, tokenizer: PreTrainedTokenizerBase, prefix: str
    ) -> list[Part]:
        """All parts, with one more for what is not there of these rows and of those ahead."""
        begin, parts = time.monotonic(), self._open(place)
        texts = [t for r in (rows, *self.ahead) for c in columns_of(r, prefix) for t in c]
        digests, first = np.unique(digests_of(texts), return_index=True)
        known = _known(digests, parts)
        if known.all():
            return parts
        new, first = digests[~known], first[~known]
        self._write(place, new, [texts[i] for i in first], tokenizer)
        parts = self._open(place)
        if not _known(digests, parts).all():
            raise OSError("somebody is emptying it")
        seconds = time.monotonic() - begin
        there = f"; {known.sum():,} were there" if known.any() else ""
        say(
            f"{len(new):,} texts tokenised in {duration(seconds)} ({len(new) / seconds:,.0f}/s), kept "
            f"for other runs{there}"
        )
        return parts

    def _write(
        self,
        place: Path,
        digests: np.ndarray,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        """A new part, named after the texts it has, by one rename."""
        largest = max(tokenizer.get_vocab().values(), default=0)
        dtype = np.dtype(np.uint16 if largest < 2**16 else np.int32)
        part = place / hashlib.sha256(digests).hexdigest()[:16]
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as beside:
            folder = Path(beside) / part.name
            folder.mkdir()
            lengths = _write_ids(folder / "ids.npy", dtype, encode_each(texts, tokenizer))
            np.save(folder / "ends.npy", np.cumsum(lengths))
            np.save(folder / "digests.npy", digests)
            write_json(folder / "part.json", {name: file_sha256(folder / name) for name in ARRAYS})
            try:
                folder.rename(part)
            except OSError:
                if not part.exists():  # where locks do not reach, somebody else made the same
                    raise

    def _open(self, place: Path) -> list[Part]:
        """All parts that are whole; others are removed, so that their texts are tokenised again."""
        folders = sorted(p for p in place.iterdir() if p.is_dir()) if place.is_dir() else []
        for folder in folders:
            if folder in self._parts:
                continue
            part = _read_part(folder)
            if part is not None:
                self._parts[folder] = part
            elif folder.exists():  # and was not removed by somebody else
                say(f"{folder} is damaged: tokenising its texts again")
                _remove(folder, self.folder)
        return [self._parts[folder] for folder in folders if folder in self._parts]


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A digest of all that decides the ids which a tokenizer gives to a text.

    That is its backend with all vocabulary, and the libraries' versions. None where Python code has a
    part in it, of which nobody can tell what it goes by (RoFormer's asks rjieba).
    """
    backend = backend_of(tokenizer)
    if backend is None:
        return None
    try:
        content = backend.to_str()
    except Exception as e:  # the library raises nothing more exact
        if "Custom" not in str(e):
            raise
        return None
    versions = [importlib.metadata.version(name) for name in ("tokenizers", "transformers")]
    whole = f"{versions} {tokenizer.split_special_tokens} {content}"
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def digests_of(texts: Sequence[str]) -> np.ndarray:
    """(n,) BLAKE2b of each text, 16 bytes."""
    raw = bytearray()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        raw += hashlib.blake2b(data, digest_size=DIGEST).digest()
    return np.frombuffer(raw, f"S{DIGEST}")


def _places(digests: np.ndarray, part: Part) -> np.ndarray:
    """(n,) where each digest stands in the part, -1 where it does not."""
    order = np.argsort(digests)  # neighbours are then found close by, three times faster
    at = np.empty(len(digests), dtype=np.int64)
    at[order] = np.searchsorted(part.digests, digests[order])
    at = np.minimum(at, len(part.digests) - 1)
    return np.where(part.digests[at] == digests, at, -1)


def _known(digests: np.ndarray, parts: Sequence[Part]) -> np.ndarray:
    """(n,) whether some part has it."""
    known = np.zeros(len(digests), dtype=bool)
    for part in parts:
        rest = np.flatnonzero(~known)
        known[rest] = _places(digests[rest], part) >= 0
    return known


def _take(digests: np.ndarray, parts: Sequence[Part]) -> Stretches:
    """The ids of each text: stretches of a part as it is mapped, or a copy from several."""
    n = len(digests)
    missing, held = np.ones(n, dtype=bool), []
    for part in parts:
        rest = np.flatnonzero(missing)
        places = _places(digests[rest], part)
        rows = rest[places >= 0]
        if len(rows):
            held.append((rows, part.texts.take(places[places >= 0])))
            missing[rows] = False
    if len(held) == 1:
        return held[0][1]
    lengths = np.zeros(n, dtype=np.int64)
    for rows, texts in held:
        lengths[rows] = texts.lengths
    ends = np.cumsum(lengths)
    flat = np.empty(lengths.sum(), np.int32)
    for rows, texts in held:
        copy_to(flat, (ends - lengths)[rows], texts)
    return Stretches(flat, ends - lengths, ends)


# Files


def _write_ids(
    path: Path, dtype: np.dtype, chunks: Iterator[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """All chunks' ids as one array, written as they come; returns (n,) lengths."""
    total, lengths = 0, [np.zeros(0, dtype=np.int64)]

    def header() -> None:
        fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(f, fields | {"shape": (total,)})

    with path.open("wb") as f:
        header()  # with room for the number that is only known in the end
        begin = f.tell()
        for ids, some_lengths in chunks:
            f.write(ids.astype(dtype))
            total += len(ids)
            lengths.append(some_lengths)
        f.seek(0)
        header()
        assert f.tell() == begin
    return np.concatenate(lengths)


def _read_part(folder: Path) -> Part | None:
    """A part, mapped; None where a file is missing or is not as it was written."""
    try:
        checksums = read_json(folder / "part.json")
        if checksums != {name: file_sha256(folder / name) for name in ARRAYS}:
            return None
        digests, ends, ids = (np.load(folder / name, mmap_mode="r") for name in ARRAYS)
    except (OSError, ValueError) as e:
        if is_fault(e):  # of the machine, which the part may outlast
            raise
        return None
    ends = np.asarray(ends)
    return Part(np.asarray(digests), Stretches(ids, np.concatenate([[0], ends[:-1]]), ends))


def _reason(error: OSError) -> str:
    """Why it is not kept: NumPy says how many items it has written, and not why no more."""
    number = error_number(error)
    return str(error) if number is None else os.strerror(number)


def _remove(folder: Path, beside: Path) -> None:
    """First out of the way by one rename, so that nobody reads half of it."""
    away = tempfile.TemporaryDirectory(dir=beside, prefix=".removed-")
    with away as place, suppress(FileNotFoundError):  # where somebody else was quicker
        folder.rename(Path(place) / folder.name)
