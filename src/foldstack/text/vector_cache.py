"""Cache of texts' vectors on disk, so that each frozen network reads each text once.

    <folder>/<network>/<part>/    digests.npy  (n,) 16 bytes each, of distinct texts, ascending
                                  vectors.npy  (n, size) float32
                                  part.json    checksums of the two

The key of a network is a digest of all that its vectors depend on, see `learners.frozen_backbone`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from foldstack.files import locked
from foldstack.progress import duration, say
from foldstack.text.shards import Shard, ShardedCache, digests_of, known_in, places_in, reason

PART = 20_000  # texts per shard: a killed run loses no more of them


class TextNetwork(Protocol):
    """A frozen network from texts to vectors.

    key: digest of all that its vectors depend on; None if that cannot be known. content: the same but
    for the machine, never None. size: of a vector. precision: in which it computes.
    """

    key: str | None
    content: str
    size: int
    precision: str

    def fill(self, texts: Sequence[str], out: np.ndarray) -> None:
        """Compute the (n, size) vectors of n texts into a float32 array, which may be a file's."""


def vectors_of(network: TextNetwork, texts: Sequence[str]) -> np.ndarray:
    """Return (n, size) float32 vectors; equal texts are computed once."""
    _, first, which = np.unique(digests_of(texts), return_index=True, return_inverse=True)
    out = np.empty((len(first), network.size), np.float32)
    network.fill([texts[i] for i in first], out)
    return out[which]


class VectorCache(ShardedCache):
    """Cache of texts' vectors in a folder, memory-mapped."""

    arrays = ("vectors.npy",)
    redoing = "computing its vectors again"

    def content(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return arrays[0]

    def read(
        self,
        texts: Sequence[str],
        network: TextNetwork,
        ahead: Callable[[], Iterable[str]] = tuple,
    ) -> np.ndarray:
        """Return (n, size) float32 vectors of n texts, read from the cache if present.

        Args:
            texts: n texts.
            network: computes those that are missing.
            ahead: returns texts to compute together with the first missing one, so that no other run
                computes any.
        """
        if network.key is None:
            return vectors_of(network, texts)
        place, digests = self.folder / network.key, digests_of(texts)
        try:
            parts = self._open(place)
            if not known_in(digests, parts).all():
                with locked(place / ".lock", "waiting for another run, which computes the vectors"):
                    parts = self._fill(place, [*texts, *ahead()], network)
        except OSError as e:  # disk full or read-only
            say(f"computing vectors without the cache in {self.folder}: {reason(e)}")
            return vectors_of(network, texts)
        return _taken(digests, parts, network.size)

    def _fill(self, place: Path, texts: Sequence[str], network: TextNetwork) -> list[Shard]:
        """Write shards of the missing texts; return all shards."""
        begin, parts = time.monotonic(), self._open(place)
        digests, first = np.unique(digests_of(texts), return_index=True)
        new = np.flatnonzero(~known_in(digests, parts))
        for start in range(0, len(new), PART):
            some = new[start : start + PART]
            self._write(place, digests[some], [texts[i] for i in first[some]], network)
        if not len(new):
            return parts
        parts = self._open(place)
        if not known_in(digests, parts).all():
            raise OSError("another process is emptying it")
        seconds = time.monotonic() - begin
        say(
            f"{len(new):,} vectors computed in {duration(seconds)} ({len(new) / seconds:,.0f}/s), kept "
            "for other runs"
        )
        return parts

    def _write(
        self, place: Path, digests: np.ndarray, texts: Sequence[str], network: TextNetwork
    ) -> None:
        def fill(folder: Path) -> None:
            shape = (len(texts), network.size)
            out = np.lib.format.open_memmap(folder / self.arrays[0], "w+", np.float32, shape)
            network.fill(texts, out)
            out.flush()

        self._put(place, digests, fill)


def _taken(digests: np.ndarray, parts: Sequence[Shard], size: int) -> np.ndarray:
    """Return (n, size) vectors by digest."""
    out, missing = np.empty((len(digests), size), np.float32), np.ones(len(digests), dtype=bool)
    for part in parts:
        rest = np.flatnonzero(missing)
        places = places_in(digests[rest], part)
        rows = rest[places >= 0]
        out[rows] = part.content[places[places >= 0]]
        missing[rows] = False
    return out
