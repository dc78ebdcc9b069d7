"""Pairs of sentences as the input of a network that reads each sentence by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from foldstack.errors import InputError
from foldstack.rows import Rows
from foldstack.text.tokens import Tokens, in_one

STREAM = 6  # separates this random stream from those of batches and windows


def check_pairs(rows: Rows, what: str) -> None:
    """Raise InputError, `what` being the setting and its verb, unless each row has two texts."""
    if len(rows) and (segments := len(rows.texts[0])) != 2:
        raise InputError(
            f"{what} the two texts of a pair, but `text` in competition.yaml names {segments}: leave it "
            "out"
        )


def contrastive_pairs(
    classes: np.ndarray, iterations: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw pairs of n rows: per row and iteration one with its own class and one with another.

    A row is not paired with itself; one that is alone in its class has pairs with others only, and
    if there is one class only, there are none of two classes.

    Args:
        classes: (n,) int.
        iterations: positive and negative pairs per row.
        seed: of the draws.

    Returns:
        (m,) numbers of the first rows, of the second ones, and whether both have one class.
    """
    rng, n = np.random.default_rng([seed, STREAM]), len(classes)
    order = np.argsort(classes, kind="stable")
    _, code, count = np.unique(classes, return_inverse=True, return_counts=True)
    begin = np.cumsum(count) - count  # of each class in `order`
    place = np.argsort(order) - begin[code]  # of each row in its class
    found = []
    for _ in range(iterations):
        for same, size in ((True, count[code] - 1), (False, n - count[code])):
            some = np.flatnonzero(size)
            drawn = rng.integers(size[some])
            own = code[some]
            if same:
                drawn = begin[own] + drawn + (drawn >= place[some])
            else:
                drawn = drawn + count[own] * (drawn >= begin[own])
            found.append((some, order[drawn], np.full(len(some), same)))
    first, second, alike = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, alike


def turned(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return (n,) which pairs an epoch reads in the other order: each with a chance of one half."""
    return np.random.default_rng([seed, epoch, STREAM]).random(n) < 0.5


def in_both_orders(tokens: Tokens, other: Tokens) -> Tokens:
    """Return the sequences of both orders of n pairs, those of a row side by side."""
    both = in_one(tokens, other)
    return both.taken(np.argsort(both.rows, kind="stable"))


def in_an_order(tokens: Tokens, other: Tokens, turn: np.ndarray) -> Tokens:
    """Return the sequence of each pair in the other order if `turn` (n,) says so."""
    n = len(turn)
    return replace(in_one(tokens, other).taken(np.arange(n) + n * turn), rows=tokens.rows)


@dataclass(frozen=True)
class Sentenced:
    """The different sentences of n pairs.

    Attributes:
        texts: m sentences, in the order of their first place.
        first, second: (n,) the number of each pair's sentences among them.
    """

    texts: list[str]
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, ...]]) -> Sentenced:
        number: dict[str, int] = {}
        found = [[number.setdefault(text, len(number)) for text in pair] for pair in pairs]
        first, second = np.array(found, dtype=np.int64).reshape(-1, 2).T
        return cls(list(number), first, second)

    @property
    def rows(self) -> Rows:
        """One row per sentence, without targets."""
        n = len(self.texts)
        return Rows(
            np.arange(n).astype(str).astype(object),
            [(text,) for text in self.texts],
            None,
            np.ones(n),
            np.arange(n),
            np.full(n, "gold", dtype=object),
        )


@dataclass(frozen=True)
class PairTokens:
    """Tokens of n pairs of sentences, with what their loss depends on.

    sentences: m token sequences. first, second: (n,) numbers of each pair's. targets: (n, outputs) in
    0 … 1, and weights: (n,); None of rows to be predicted.
    """

    sentences: Tokens
    first: np.ndarray
    second: np.ndarray
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    redraw = None  # no text is read in other windows in another epoch
    rows = None  # one sequence per row

    def take(self, rows: np.ndarray) -> PairTokens:
        """Return these pairs to be learned, of the same sentences."""
        return replace(
            self,
            first=self.first[rows],
            second=self.second[rows],
            targets=self.targets[rows],
            weights=self.weights[rows],
        )

    @property
    def lengths(self) -> np.ndarray:
        """(n,) tokens of the longer sentence."""
        lengths = self.sentences.lengths
        return np.maximum(lengths[self.first], lengths[self.second])

    @property
    def flat(self) -> np.ndarray:
        return self.sentences.flat

    @property
    def pad_id(self) -> int:
        return self.sentences.pad_id

    @property
    def cut(self) -> int:
        return self.sentences.cut

    def turned(self, turn: np.ndarray) -> PairTokens:
        """Return the pairs with the sentences of those exchanged that `turn` (n,) names."""
        first, second = (
            np.where(turn, self.second, self.first),
            np.where(turn, self.first, self.second),
        )
        return replace(self, first=first, second=second)

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        """Return the inputs of `nets.siamese.BiEncoder` for b pairs, padded to (2 b, t)."""
        both = np.concatenate([self.first[rows], self.second[rows]])
        given = self.sentences.batch(both, multiple)
        if self.targets is None:
            return given
        return given | {
            "targets": torch.from_numpy(self.targets[rows].astype(np.float32)),
            "weights": torch.from_numpy(self.weights[rows].astype(np.float32)),
            "sentences": torch.from_numpy(both),
        }
