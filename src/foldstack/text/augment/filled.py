"""Texts that language models have changed, and their cache on disk, so that each is made once.

    <folder>/<model>/<part>/    digests.npy  (n,) 16 bytes each, of seeds with texts, ascending
                                ends.npy     (n,) int64, end of each changed text in texts.npy
                                texts.npy    uint8, the changed texts in UTF-8
                                part.json    checksums of the three

The key of a model is a digest of all that its texts depend on beside seed and text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from foldstack.files import locked
from foldstack.progress import say
from foldstack.text.augment.changes import Item, RowChange
from foldstack.text.shards import Shard, ShardedCache, digests_of, known_in, places_in, reason

PART = 2_000  # texts per shard: a killed run loses no more of them

# From n texts and n seeds to n changed texts; what becomes of a text does not depend on the others.
Fill = Callable[[Sequence[str], Sequence[int]], list[str]]


def by_text(fill: Fill, folder: Path | None, key: str | None) -> RowChange:
    """Return the change of rows that changes each text by itself.

    Args:
        fill: changes texts.
        folder: of the cache; None without one.
        key: digest of all that `fill` depends on beside its arguments; None if it is not known.
    """
    read = fill if folder is None or key is None else FilledCache(folder, fill, key).read

    def change(items: Sequence[Item]) -> list[tuple[str, ...]]:
        flat = [part for item in items for part in item.text]
        seeds = [item.rng.getrandbits(64) for item in items for _ in item.text]
        parts = iter(read(flat, seeds))
        return [tuple(next(parts) for _ in item.text) for item in items]

    return change


class FilledCache(ShardedCache):
    """Cache of changed texts in a folder."""

    arrays = ("ends.npy", "texts.npy")
    redoing = "making its texts again"

    def __init__(self, folder: Path, fill: Fill, key: str):
        super().__init__(folder)
        self.fill, self.key = fill, key

    def content(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(arrays[0]), arrays[1]

    def read(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Return n changed texts of n texts and seeds, read from the cache if present."""
        digests = digests_of([f"{seed} {text}" for seed, text in zip(seeds, texts, strict=True)])
        place = self.folder / self.key
        try:
            parts = self._open(place)
            if not known_in(digests, parts).all():
                with locked(place / ".lock", "waiting for another run, which changes the texts"):
                    parts = self._fill(place, digests, texts, seeds)
        except OSError as e:  # disk full or read-only
            say(f"changing texts without the cache in {self.folder}: {reason(e)}")
            return self.fill(texts, seeds)
        return _taken(digests, parts)

    def _fill(
        self, place: Path, digests: np.ndarray, texts: Sequence[str], seeds: Sequence[int]
    ) -> list[Shard]:
        """Write shards of the missing texts; return all shards."""
        different, first = np.unique(digests, return_index=True)
        new = np.flatnonzero(~known_in(different, self._open(place)))
        for start in range(0, len(new), PART):
            some = new[start : start + PART]
            at = first[some]
            self._write(place, different[some], [texts[i] for i in at], [seeds[i] for i in at])
        parts = self._open(place)
        if not known_in(different, parts).all():
            raise OSError("another process is emptying it")
        return parts

    def _write(
        self, place: Path, digests: np.ndarray, texts: Sequence[str], seeds: Sequence[int]
    ) -> None:
        made = [text.encode("utf-8", "surrogatepass") for text in self.fill(texts, seeds)]

        def fill(folder: Path) -> None:
            np.save(folder / "ends.npy", np.cumsum([len(text) for text in made], dtype=np.int64))
            np.save(folder / "texts.npy", np.frombuffer(b"".join(made), np.uint8))

        self._put(place, digests, fill)


def _taken(digests: np.ndarray, parts: Sequence[Shard]) -> list[str]:
    """Return n changed texts by digest."""
    found: list[str] = [""] * len(digests)
    for part in parts:
        ends, flat = part.content
        places = places_in(digests, part)
        for i in np.flatnonzero(places >= 0):
            start = ends[places[i] - 1] if places[i] else 0
            found[i] = bytes(flat[start : ends[places[i]]]).decode("utf-8", "surrogatepass")
    return found
