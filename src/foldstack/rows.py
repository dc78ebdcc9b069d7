"""Rows, the input of a learner, their hashes, and groups of duplicate texts."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

PSEUDO = "pseudo"  # origin of rows that have been labelled by teachers


@dataclass(frozen=True)
class Rows:
    """Table of n rows, all arrays aligned.

    Attributes:
        ids: (n,) str.
        texts: n tuples of one text, or of two (a sentence pair) or three segments.
        targets: (n, outputs) float64, soft targets allowed (binary: 1 output, multiclass: one per class,
            multilabel: one per label, regression: one per target); None if unlabelled.
        weights: (n,) float64, used in training only.
        groups: (n,) int; rows of a group (equal normalised text, equal group column) share a fold.
        origin: (n,) str, 'gold' for the competition's own rows, 'external' for other sources, PSEUDO
            for those that teachers have labelled, and 'augmented' for copies of the others.
        features: (n, f) float64, nan if unknown; None without feature columns.
        auxiliary: (n, a) float64 auxiliary targets of training rows, nan if unknown; None without.
        difficulty: (n,) losses under an earlier run, for `sampling: hard`; None without.
        taught: (n, outputs) probabilities of teachers, for `distil.temperature`, nan where there is
            none; None without.
    """

    ids: np.ndarray
    texts: list[tuple[str, ...]]
    targets: np.ndarray | None
    weights: np.ndarray
    groups: np.ndarray
    origin: np.ndarray
    features: np.ndarray | None = None
    auxiliary: np.ndarray | None = None
    difficulty: np.ndarray | None = None
    taught: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: np.ndarray) -> Rows:
        """Return the rows at these positions, in this order."""
        return replace(
            self,
            ids=self.ids[index],
            texts=[self.texts[i] for i in index],
            targets=None if self.targets is None else self.targets[index],
            weights=self.weights[index],
            groups=self.groups[index],
            origin=self.origin[index],
            features=None if self.features is None else self.features[index],
            auxiliary=None if self.auxiliary is None else self.auxiliary[index],
            difficulty=None if self.difficulty is None else self.difficulty[index],
            taught=None if self.taught is None else self.taught[index],
        )

    def concatenated(self, more: Rows) -> Rows:
        """Return these rows followed by `more`; missing columns, but for those below, become nan.

        Raises ValueError if only one side has targets or difficulty, which have no missing value.
        """
        both = {
            name: np.concatenate([getattr(self, name), getattr(more, name)])
            for name in ("ids", "weights", "groups", "origin")
        }
        for name in ("targets", "difficulty", "features", "auxiliary", "taught"):
            both[name] = self._joined(more, name)
        return Rows(texts=self.texts + more.texts, **both)

    def _joined(self, more: Rows, name: str) -> np.ndarray | None:
        """Return the concatenation of an optional column; None if neither side has it."""
        sides = [getattr(self, name), getattr(more, name)]
        known = next((side for side in sides if side is not None), None)
        if known is None:
            return None
        if any(side is None for side in sides) and name in ("targets", "difficulty"):
            raise ValueError(f"rows with {name} cannot be joined with rows without")
        filled = [
            np.full((len(rows), *known.shape[1:]), np.nan) if side is None else side
            for rows, side in zip((self, more), sides, strict=True)
        ]
        return np.concatenate(filled)

    def joined_texts(self) -> list[str]:
        """Return one text per row, segments joined by a space."""
        return [" ".join(part for part in text if part) for text in self.texts]

    def hash(self) -> str:
        """Return a hash of ids, texts and targets, in this order of rows."""
        return self._hash

    @cached_property
    def _hash(self) -> str:  # read once per run and stage
        h = hashlib.sha256()
        for id_, text in zip(self.ids, self.texts, strict=True):
            for part in (id_, *text):
                data = part.encode("utf-8", "surrogatepass")
                h.update(b"%d:" % len(data))  # lengths keep ("ab", "c") apart from ("a", "bc")
                h.update(data)
        if self.targets is not None:
            h.update(np.ascontiguousarray(self.targets, dtype="<f8").tobytes())
        return h.hexdigest()[:16]

    def overlay_hash(self) -> str | None:
        """Return a hash of what affects training only (the weights); None if all weights are 1."""
        if np.all(self.weights == 1):
            return None
        return _digest(self.weights)

    def features_hash(self) -> str | None:
        """Return a hash of the feature columns, which stacks read; None if there are none."""
        return None if self.features is None else _digest(self.features)

    def auxiliary_hash(self) -> str | None:
        """Return a hash of the auxiliary targets, which some presets learn; None if there are none."""
        return None if self.auxiliary is None else _digest(self.auxiliary)


def evenly(n: int, most: int) -> np.ndarray:
    """Return at most `most` evenly spaced positions of n rows, ascending."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, "<f8").tobytes()).hexdigest()[:16]


def normalise(text: tuple[str, ...]) -> str:
    """Return the normal form that duplicates share: NFKC, case-folded, white space collapsed."""
    return "\x1f".join([_normal(part) for part in text])


def _normal(text: str) -> str:
    if text.isascii():  # NFKC does not change ASCII, and lower case equals case folding
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def text_digests(texts: Iterable[tuple[str, ...]]) -> np.ndarray:
    """Return (n,) uint64 digests of the normalised texts; 0 for empty texts."""
    digests = [
        hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if form.strip("\x1f")
        else bytes(8)
        for form in map(normalise, texts)
    ]
    return np.frombuffer(b"".join(digests), "<u8")


def sentences_of(texts: Iterable[tuple[str, ...]]) -> set[str]:
    """Return the normal forms of all segments of the texts, without the empty one."""
    return {_normal(segment) for text in texts for segment in text} - {""}


def duplicate_groups(texts: list[tuple[str, ...]], keys: Iterable[str] | None = None) -> np.ndarray:
    """Return (n,) int groups: rows with equal normalised text or equal key share one, transitively.

    Texts that are empty after normalising, and empty keys, are not shared. Groups are numbered by
    first appearance.
    """
    n, rows = len(texts), np.arange(len(texts))
    first: dict[str, int] = {}
    forms = (normalise(text) for text in texts)
    mates = [
        first.setdefault(form, row) if form.strip("\x1f") else row for row, form in enumerate(forms)
    ]
    edges = [(rows, np.array(mates, dtype=np.int64))]
    if keys is not None:
        first = {}
        mates = [first.setdefault(key, row) if key else row for row, key in enumerate(keys)]
        edges.append((rows, np.array(mates, dtype=np.int64)))
    a, b = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    graph = coo_matrix((np.ones(len(a), dtype=np.int8), (a, b)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    _, first_row, group = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_row))[group]


def connected_groups(texts: list[tuple[str, ...]]) -> np.ndarray:
    """Return (n,) int groups: rows that share a segment, in whatever place, share one, transitively.

    Segments are compared after normalising; empty ones are not shared. Groups are numbered by first
    appearance.
    """
    n, number = len(texts), {}
    edges = [
        (row, number.setdefault(form, len(number)))
        for row, text in enumerate(texts)
        for form in map(_normal, text)
        if form
    ]
    rows, sentences = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    size = n + len(number)
    graph = coo_matrix(
        (np.ones(len(rows), dtype=np.int8), (rows, n + sentences)), shape=(size, size)
    )
    component = connected_components(graph, directed=False)[1][:n]
    _, first_row, group = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_row))[group]
