"""Exact search among many vectors by cosine, in blocks that bound memory.

Products of matrices in float32 find what may count; its cosines are then computed in float64, row by
row. So a result depends neither on the blocks nor on the threads, and equal vectors tie exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.progress import Progress

BLOCK = 2048  # vectors on each side of a product
MOST_PAIRS = 5_000_000  # which bounds memory


class TooManyPairs(ValueError):
    """More than `MOST_PAIRS` pairs reach a threshold."""


@dataclass(frozen=True)
class Nearest:
    """The k most similar of m vectors to each of q: (q, k) int positions and (q, k) cosines."""

    places: np.ndarray
    cosines: np.ndarray


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return (n, size) float32 vectors of Euclidean length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def of_segments(segments: Sequence[np.ndarray]) -> np.ndarray:
    """Return (n, k * size) unit vectors of rows from the (n, size) vectors of each of k segments.

    The cosine of two rows is the mean of their segments' cosines.
    """
    return unit(np.concatenate([unit(each) for each in segments], axis=1))


def nearest(queries: np.ndarray, vectors: np.ndarray, top: int) -> Nearest:
    """Return the most similar vectors to each query, the first of equals first.

    Args:
        queries: (q, size) unit vectors.
        vectors: (m, size) unit vectors, which may be a file's.
        top: at least 1; of fewer vectors all are returned.
    """
    top = min(top, len(vectors))
    found = [
        _nearest(queries[start : start + BLOCK], vectors, top)
        for start in range(0, len(queries), BLOCK)
    ]
    places, cosines = zip(*found, strict=True) if found else ([], [])
    shape = (0, top)
    return Nearest(
        np.concatenate([np.zeros(shape, np.int64), *places]),
        np.concatenate([np.zeros(shape), *cosines]),
    )


def _nearest(queries: np.ndarray, vectors: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (q, top) positions and cosines of one block of queries."""
    n, margin = len(queries), _margin(vectors)
    places = np.zeros((n, 0), np.int64)
    cosines = np.zeros((n, 0))
    for start, block in _blocks(vectors):
        rough = queries @ block.T
        kept = min(top, len(block))
        lowest = np.partition(rough, len(block) - kept, axis=1)[:, len(block) - kept, None]
        query, place = np.nonzero(rough >= lowest - margin)
        exact = _cosines(queries, query, block, place)
        order = np.lexsort((place, -exact, query))
        rank = _ranks(query[order])
        order, rank = order[rank < kept], rank[rank < kept]
        new = np.full((n, kept), -1, np.int64), np.full((n, kept), -np.inf)
        new[0][query[order], rank] = start + place[order]
        new[1][query[order], rank] = exact[order]
        places = np.concatenate([places, new[0]], axis=1)
        cosines = np.concatenate([cosines, new[1]], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :top]  # earlier blocks come first
        places, cosines = (np.take_along_axis(each, best, axis=1) for each in (places, cosines))
    return places, cosines


def pairs_within(vectors: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return ((pairs, 2) positions, first < second; (pairs,) cosines) of those at least `least`.

    Args:
        vectors: (n, size) unit vectors.
        least: lowest cosine.

    Raises:
        TooManyPairs: there are more than `MOST_PAIRS`.
    """
    return _pairs(vectors, vectors, least, within=True)


def pairs_between(
    vectors: np.ndarray, others: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same of (n, size) vectors and (m, size) others: a position in each."""
    return _pairs(vectors, others, least, within=False)


def _pairs(
    vectors: np.ndarray, others: np.ndarray, least: float, within: bool
) -> tuple[np.ndarray, np.ndarray]:
    margin, count = _margin(vectors), 0
    pairs, cosines = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    with Progress("comparing vectors", len(vectors), "texts") as progress:
        for a, left in _blocks(vectors):
            for b, right in _blocks(others, a if within else 0):
                i, j = np.nonzero(left @ right.T >= least - margin)
                if within and a == b:
                    i, j = i[i < j], j[i < j]
                exact = _cosines(left, i, right, j)
                kept = exact >= least
                pairs.append(np.column_stack([a + i[kept], b + j[kept]]))
                cosines.append(exact[kept])
                count += int(kept.sum())
                if count > MOST_PAIRS:
                    raise TooManyPairs(f"more than {MOST_PAIRS:,}")
            progress.add(len(left))
    return np.concatenate(pairs), np.concatenate(cosines)


def _blocks(vectors: np.ndarray, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start, block) of consecutive vectors from the first one on."""
    for start in range(first, len(vectors), BLOCK):
        yield start, np.asarray(vectors[start : start + BLOCK])


def _margin(vectors: np.ndarray) -> float:
    """Return a bound of the rounding errors of a product of unit vectors in float32."""
    return 2 * vectors.shape[1] * float(np.finfo(np.float32).eps)


def _cosines(a: np.ndarray, i: np.ndarray, b: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return (n,) cosines of a[i] and b[j], each by itself."""
    parts = [
        (a[i[at : at + BLOCK]].astype(float) * b[j[at : at + BLOCK]]).sum(axis=1)
        for at in range(0, len(i), BLOCK)
    ]
    return np.concatenate([np.zeros(0), *parts])


def _ranks(query: np.ndarray) -> np.ndarray:
    """Return (n,) the place of each entry among those of its query; queries are ascending."""
    return np.arange(len(query)) - np.searchsorted(query, query)
