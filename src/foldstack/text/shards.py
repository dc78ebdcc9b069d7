"""Immutable, checksummed parts of a cache on disk, whose entries are found by digests of texts.

<folder>/<key>/<part>/    digests.npy  (n,) 16 bytes each, of distinct texts, ascending
                          …            the arrays of a cache, aligned with them
                          part.json    checksums of all
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from foldstack.files import file_sha256, read_json, write_json
from foldstack.progress import say
from foldstack.system import error_number, is_fault

DIGEST = 16  # bytes: a billion texts collide with a probability of 1e-21
NAME_LENGTH = 16
NAME = re.compile(rf"[0-9a-f]{{{NAME_LENGTH}}}")  # of a shard's folder
DIGESTS, CHECKSUMS = "digests.npy", "part.json"


@dataclass(frozen=True)
class Shard:
    """Memory-mapped part of a cache: (n,) ascending digests and what is kept of their texts."""

    digests: np.ndarray
    content: Any


class ShardedCache:
    """Shards in a folder; a subclass says which arrays a shard has and how they are read.

    Class variables:
        arrays: names of a shard's files beside its digests.
        redoing: what is done about a damaged shard, for the user.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    redoing: ClassVar[str] = ""

    def __init__(self, folder: Path):
        self.folder = folder
        self._parts: dict[Path, Shard] = {}

    def content(self, arrays: Sequence[np.ndarray]) -> Any:
        """Return `Shard.content` of these memory-mapped arrays."""
        raise NotImplementedError

    @property
    def _files(self) -> tuple[str, ...]:
        return (DIGESTS, *self.arrays)

    def _put(self, place: Path, digests: np.ndarray, fill: Callable[[Path], None]) -> None:
        """Write a new shard atomically; its name is a hash of its digests.

        fill: writes the arrays into a folder.
        """
        part = place / hashlib.sha256(digests).hexdigest()[:NAME_LENGTH]
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as beside:
            folder = Path(beside) / part.name
            folder.mkdir()
            fill(folder)
            np.save(folder / DIGESTS, digests)
            write_json(folder / CHECKSUMS, self._checksums(folder))
            try:
                folder.rename(part)
            except OSError:
                if (
                    not part.exists()
                ):  # without working locks, another process may have written the same
                    raise

    def _open(self, place: Path) -> list[Shard]:
        """Return all valid shards; remove damaged ones, so that their texts are processed again.

        Folders with other names than those of shards are not ours.
        """
        inside = place.iterdir() if place.is_dir() else ()
        folders = sorted(p for p in inside if NAME.fullmatch(p.name) and p.is_dir())
        for folder in folders:
            if folder in self._parts:
                continue
            part = self._read(folder)
            if part is not None:
                self._parts[folder] = part
            elif folder.exists():  # not removed by another process
                say(f"{folder} is damaged: {self.redoing}")
                _remove(folder, self.folder)
        return [self._parts[folder] for folder in folders if folder in self._parts]

    def _checksums(self, folder: Path) -> dict[str, str]:
        return {name: file_sha256(folder / name) for name in self._files}

    def _read(self, folder: Path) -> Shard | None:
        """Return a memory-mapped shard; None if a file is missing or fails its checksum."""
        try:
            if read_json(folder / CHECKSUMS) != self._checksums(folder):
                return None
            digests, *arrays = (np.load(folder / name, mmap_mode="r") for name in self._files)
        except (OSError, ValueError) as e:
            if is_fault(e):  # of the machine; the shard may be intact
                raise
            return None
        return Shard(np.asarray(digests), self.content(arrays))


def digests_of(texts: Sequence[str]) -> np.ndarray:
    """Return (n,) BLAKE2b digests of 16 bytes."""
    raw = bytearray()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        raw += hashlib.blake2b(data, digest_size=DIGEST).digest()
    return np.frombuffer(raw, f"S{DIGEST}")


def places_in(digests: np.ndarray, part: Shard) -> np.ndarray:
    """Return (n,) positions of the digests in the shard, -1 if absent."""
    order = np.argsort(digests)  # sorted queries have locality: three times faster
    at = np.empty(len(digests), dtype=np.int64)
    at[order] = np.searchsorted(part.digests, digests[order])
    at = np.minimum(at, len(part.digests) - 1)
    return np.where(part.digests[at] == digests, at, -1)


def known_in(digests: np.ndarray, parts: Sequence[Shard]) -> np.ndarray:
    """Return (n,) whether any shard has each digest."""
    known = np.zeros(len(digests), dtype=bool)
    for part in parts:
        rest = np.flatnonzero(~known)
        known[rest] = places_in(digests[rest], part) >= 0
    return known


def reason(error: OSError) -> str:
    """Return the cause of a failed write; NumPy's message has only the number of items written."""
    number = error_number(error)
    return str(error) if number is None else os.strerror(number)


def _remove(folder: Path, beside: Path) -> None:
    """Rename the folder away, then remove it, so that no process reads half of it."""
    away = tempfile.TemporaryDirectory(dir=beside, prefix=".removed-")
    with away as place, suppress(FileNotFoundError):  # another process was faster
        folder.rename(Path(place) / folder.name)
