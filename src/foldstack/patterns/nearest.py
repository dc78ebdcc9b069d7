"""Exact search for the most similar of many texts, by character n-grams or by meaning.

Two sets of n-grams of Jaccard similarity t or more share at least ceil(t |x|) elements; so in any
fixed order of all elements, their first |x| - ceil(t |x|) + 1 have one in common (prefix filtering:
Chaudhuri, Ganti & Kaushik 2006, "A primitive operator for similarity joins in data cleaning"). With the
rarest first few pairs do, and only these are compared in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix

from foldstack.meaning import Meaning
from foldstack.near import CHARACTERS, Distinct, chunks, shingles
from foldstack.patterns.rule_settings import NearestSettings
from foldstack.rows import normalise
from foldstack.text import cosine

TextsOfRows = list[tuple[str, ...]]
QUERIES = 1000  # at once
ROUNDING, OF_VECTORS = 1e-9, 1e-6


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


class TextIndex(Protocol):
    """An index of texts, each of one or more segments."""

    def nearest(self, texts: TextsOfRows) -> np.ndarray:
        """Return (n,) the most similar text of the index, the first of equals; -1 without a match."""


class ByCharacters:
    """An index by the similarity of normalised texts; see `Index`."""

    def __init__(self, texts: TextsOfRows, least: float):
        self.index = Index([_form(text) for text in texts], least)

    def nearest(self, texts: TextsOfRows) -> np.ndarray:
        return self.index.nearest([_form(text) for text in texts])


class ByMeaning:
    """An index by the cosine of texts' vectors.

    Attributes:
        vectors: (m, width) of its texts.
    """

    def __init__(
        self, texts: TextsOfRows, least: float, meaning: Meaning, vectors: np.ndarray | None = None
    ):
        """vectors: those of the texts, if they are known."""
        self.least, self.meaning = least, meaning
        self.vectors = meaning.vectors(texts) if vectors is None else vectors

    def nearest(self, texts: TextsOfRows) -> np.ndarray:
        if not len(self.vectors) or not texts:
            return np.full(len(texts), -1)
        found = cosine.nearest(self.meaning.vectors(texts), self.vectors, 1)
        near = found.cosines[:, 0] >= self.least - OF_VECTORS
        return np.where(near, found.places[:, 0], -1)


class Neighbours:
    """Labelled texts, to look up the values of the one nearest to a new text."""

    def __init__(
        self, texts: TextsOfRows, values: np.ndarray, make: Callable[[TextsOfRows], TextIndex]
    ):
        """Index the different texts.

        Args:
            texts: n texts.
            values: (n, units); equal texts whose values differ in a unit give -1 there.
            make: makes the index of the different texts.
        """
        distinct = Distinct.of(texts)
        shape = (len(distinct.forms), values.shape[1])
        low = np.full(shape, np.iinfo(np.int64).max)
        high = np.full_like(low, -1)
        np.minimum.at(low, distinct.of_row, values)
        np.maximum.at(high, distinct.of_row, values)
        self.values = np.where(low == high, low, -1)
        self.index = make(distinct.texts)

    def look_up(self, texts: TextsOfRows, asked: np.ndarray) -> np.ndarray:
        """Return (n, units) values of each text's nearest one where asked (n, units; bool), else -1."""
        rows = np.flatnonzero(asked.any(axis=1))
        nearest = self.index.nearest([texts[row] for row in rows])
        out = np.full(asked.shape, -1)
        near = nearest >= 0
        out[rows[near]] = self.values[nearest[near]]
        return np.where(asked, out, -1)


def index_by(
    settings: NearestSettings,
    meaning: Callable[[], Meaning],
    vectors: Callable[[], np.ndarray] | None = None,
) -> Callable[[TextsOfRows], TextIndex]:
    """Return what makes the index of texts that the settings ask for.

    Args:
        settings: how texts are compared.
        meaning: returns the backbone, if they are compared by meaning.
        vectors: returns the texts' vectors, if they are known.
    """
    if not settings.by_meaning:
        return lambda texts: ByCharacters(texts, settings.similarity)
    known = vectors or (lambda: None)
    return lambda texts: ByMeaning(texts, settings.similarity, meaning(), known())


def _form(text: tuple[str, ...]) -> str:
    form = normalise(text)
    return form if form.strip("\x1f") else ""
