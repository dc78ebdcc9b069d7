"""Exact search for the most similar of many texts, by Jaccard similarity of character n-grams.

Two sets of similarity t or more share at least ceil(t |x|) elements; so in any fixed order of all
elements, their first |x| - ceil(t |x|) + 1 have one in common (prefix filtering: Chaudhuri, Ganti
& Kaushik 2006, "A primitive operator for similarity joins in data cleaning"). With the rarest first
few pairs do, and only these are compared in full.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from foldstack.near import CHARACTERS, chunks, shingles
from foldstack.rows import normalise

QUERIES = 1000  # at once
ROUNDING = 1e-9


class Index:
    """An index of texts; `least`: the lowest similarity of a match, above 0 and up to 1."""

    def __init__(self, texts: list[str], least: float):
        self.least = least
        hashes, offsets = _sets(texts)
        self.known, column, count = np.unique(hashes, return_inverse=True, return_counts=True)
        self.rank = np.empty(len(self.known), dtype=np.int64)
        self.rank[np.argsort(count, kind="stable")] = np.arange(len(self.known))  # the rarest first
        self.size = np.diff(offsets)
        self.sets = _matrix(self.rank[column], offsets, len(self.known))
        self.prefixes = self._prefixes(self.sets, self.size).T.tocsr()

    def nearest(self, texts: list[str]) -> np.ndarray:
        """Return (n,) the most similar text of the index, the first of equals; -1 without a match.

        A text without n-grams, such as an empty one, has none.
        """
        found = np.full(len(texts), -1)
        if len(self.known):
            for start in range(0, len(texts), QUERIES):
                found[start : start + QUERIES] = self._nearest(texts[start : start + QUERIES])
        return found

    def _nearest(self, texts: list[str]) -> np.ndarray:
        hashes, offsets = _sets(texts)
        size = np.diff(offsets)
        at = np.minimum(np.searchsorted(self.known, hashes), len(self.known) - 1)
        mine = self.known[at] == hashes
        inside = np.r_[0, np.cumsum(mine)][offsets]
        sets = _matrix(self.rank[at[mine]], inside, len(self.known))
        query, text = (self._prefixes(sets, size) @ self.prefixes).nonzero()
        common = np.zeros(len(query))
        for part in chunks(size[query] + self.size[text], CHARACTERS):
            both = sets[query[part]].multiply(self.sets[text[part]])
            common[part] = np.asarray(both.sum(axis=1)).ravel()
        similarity = common / (size[query] + self.size[text] - common)
        order = np.lexsort((text, -similarity, query))
        order = order[similarity[order] >= self.least - ROUNDING]
        queries, first = np.unique(query[order], return_index=True)
        found = np.full(len(texts), -1)
        found[queries] = text[order][first]
        return found

    def _prefixes(self, sets: csr_matrix, size: np.ndarray) -> csr_matrix:
        """Return the first elements of each set (n, elements); those not in the index come first."""
        kept = np.diff(sets.indptr)
        length = size - np.ceil(self.least * size - ROUNDING).astype(int) + 1 - (size - kept)
        row = np.repeat(np.arange(len(kept)), kept)
        inside = np.arange(sets.nnz) - sets.indptr[row] < length[row]
        offsets = np.r_[0, np.cumsum(inside)][sets.indptr]
        return _matrix(sets.indices[inside], offsets, sets.shape[1])


def _sets(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (hashes, offsets) of each text's shingles, unique and ascending."""
    parts, sizes = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for chunk in chunks(np.array([len(t) for t in texts], dtype=np.int64), CHARACTERS):
        hashes, offsets = shingles(texts[chunk])
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.lexsort((hashes, row))
        hashes, row = hashes[order], row[order]
        new = np.r_[True, (hashes[1:] != hashes[:-1]) | (row[1:] != row[:-1])][: len(row)]
        parts.append(hashes[new])
        sizes.append(np.bincount(row[new], minlength=len(offsets) - 1))
    return np.concatenate(parts), np.r_[0, np.cumsum(np.concatenate(sizes))]


def _matrix(columns: np.ndarray, offsets: np.ndarray, width: int) -> csr_matrix:
    """Return (n, width) of ones, each row's columns ascending."""
    shape = (len(offsets) - 1, width)
    matrix = csr_matrix((np.ones(len(columns), dtype=np.int32), columns, offsets), shape=shape)
    matrix.sort_indices()
    return matrix


class Neighbours:
    """Labelled texts, to look up the values of the one nearest to a new text."""

    def __init__(self, texts: list[tuple[str, ...]], values: np.ndarray, least: float):
        """values: (n, units); equal texts whose values differ in a unit give -1 there."""
        first: dict[str, int] = {}
        text_of = np.array([first.setdefault(_form(t), len(first)) for t in texts], dtype=np.int64)
        low = np.full((len(first), values.shape[1]), np.iinfo(np.int64).max)
        high = np.full_like(low, -1)
        np.minimum.at(low, text_of, values)
        np.maximum.at(high, text_of, values)
        self.values = np.where(low == high, low, -1)
        self.index = Index(list(first), least)

    def look_up(self, texts: list[tuple[str, ...]], asked: np.ndarray) -> np.ndarray:
        """Return (n, units) values of each text's nearest one where asked (n, units; bool), else -1."""
        rows = np.flatnonzero(asked.any(axis=1))
        nearest = self.index.nearest([_form(texts[row]) for row in rows])
        out = np.full(asked.shape, -1)
        near = nearest >= 0
        out[rows[near]] = self.values[nearest[near]]
        return np.where(asked, out, -1)


def _form(text: tuple[str, ...]) -> str:
    form = normalise(text)
    return form if form.strip("\x1f") else ""
