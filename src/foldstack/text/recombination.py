"""New pairs of the sentences of known pairs, and their choice by the labels that teachers predict.

Thakur et al. 2021, Augmented SBERT: Data augmentation method for improving bi-encoders for pairwise
sentence scoring tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import gaussian_kde

from foldstack.errors import InputError
from foldstack.rows import normalise
from foldstack.techniques.teaching import Recombination
from foldstack.text.cosine import unit
from foldstack.text.ngrams import words_of_text

AT_ONCE = 1 << 22  # scores of a first and a second sentence in memory

Pair = tuple[str, str]
ToVectors = Callable[[Sequence[str]], np.ndarray]
Compared = Iterator[np.ndarray]  # of each first sentence in turn, the (m,) scores of second ones


@dataclass(frozen=True)
class Sides:
    """Sentences that may be paired, equal ones once.

    Attributes:
        first, second: each sentence by its normal form, in the order of the pairs.
        known: normal forms of the pairs that are there, in both orders.
    """

    first: dict[str, str]
    second: dict[str, str]
    known: frozenset[Pair]

    @classmethod
    def of(cls, pairs: Sequence[Pair], hidden: Collection[str]) -> Sides:
        """Return the sides of these pairs.

        hidden: normal forms of sentences that are not used.
        """
        hidden = {*hidden, ""}
        sides: tuple[dict[str, str], dict[str, str]] = {}, {}
        forms = [(form_of(a), form_of(b)) for a, b in pairs]
        for pair, both in zip(pairs, forms, strict=True):
            for side, text, form in zip(sides, pair, both, strict=True):
                if form not in hidden:
                    side.setdefault(form, text)
        return cls(*sides, frozenset({*forms, *((b, a) for a, b in forms)}))

    def forbidden(self) -> list[list[int]]:
        """Return, for each first sentence, the places of second ones that it is not paired with."""
        place = {form: i for i, form in enumerate(self.second)}
        of: dict[str, list[int]] = {form: [] for form in self.first}
        for a, b in sorted(self.known):
            if a in of and b in place:
                of[a].append(place[b])
        for form in self.first.keys() & place.keys():
            of[form].append(place[form])
        return list(of.values())


def form_of(sentence: str) -> str:
    """Return the normal form that equal sentences share."""
    return normalise((sentence,))


def recombined(
    pairs: Sequence[Pair],
    hidden: Collection[str],
    settings: Recombination,
    seed: int,
    vectors: ToVectors | None = None,
) -> list[Pair]:
    """Return new pairs of the sentences of pairs.

    A first sentence is paired with second ones, none with itself, and of two pairs of the same
    sentences the first one is returned.

    Args:
        pairs: n pairs.
        hidden: normal forms of sentences that are not used.
        settings: how partners are found, and how many.
        seed: of `random`.
        vectors: returns (k, size) vectors of k sentences, for `semantic`.
    """
    sides = Sides.of(pairs, hidden)
    first, second = list(sides.first.values()), list(sides.second.values())
    if not first or not second:
        return []
    ways: list[Compared] = []
    if settings.by_words:
        ways.append(_by_words(first, second))
    if settings.by_vectors:
        ways.append(_by_vectors(first, second, vectors))
    ways = ways or [_by_chance(len(first), len(second), seed)]
    forbidden, forms = sides.forbidden(), (list(sides.first), list(sides.second))
    made: dict[frozenset[str], Pair] = {}
    for i, each in enumerate(zip(*ways, strict=True)):
        for j in dict.fromkeys(j for scores in each for j in _best(scores, forbidden[i], settings)):
            made.setdefault(frozenset((forms[0][i], forms[1][j])), (first[i], second[j]))
    return list(made.values())


def _best(scores: np.ndarray, forbidden: list[int], settings: Recombination) -> list[int]:
    """Return the places of the highest of (m,) scores, the first of equals first; never of -inf."""
    scores[forbidden] = -np.inf
    top = min(settings.top, len(scores))
    least = np.partition(scores, -top)[-top]
    places = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return places[np.argsort(-scores[places], kind="stable")][:top].tolist()


def _by_chance(n: int, m: int, seed: int) -> Compared:
    rng = np.random.default_rng([seed, 0])
    return (rng.random(m) for _ in range(n))


def _by_words(first: list[str], second: list[str]) -> Compared:
    """Yield BM25 scores; -inf without a word in common."""
    import bm25s  # an extra

    index = bm25s.BM25(backend="numpy")
    index.index([words_of_text(text) or [""] for text in second], show_progress=False)
    for text in first:
        known = [word for word in words_of_text(text) if word in index.vocab_dict]
        scores = index.get_scores(known) if known else np.zeros(len(second))
        yield np.where(scores > 0, scores, -np.inf)


def _by_vectors(first: list[str], second: list[str], vectors: ToVectors) -> Compared:
    """Yield cosines."""
    u, v = (unit(vectors(texts)) for texts in (first, second))
    size = max(AT_ONCE // len(second), 1)
    for start in range(0, len(first), size):
        yield from u[start : start + size] @ v.T


def most_of(most: float, gold: int) -> int:
    """Return the number of new rows that `most` per gold row allows."""
    return int(most * gold)


def drawn(n: int, most: float, gold: int, seed: int) -> np.ndarray:
    """Return the places, ascending, of at most `most` per gold row of n new rows, at random."""
    count = min(n, most_of(most, gold))
    return np.sort(np.random.default_rng([seed, 1]).permutation(n)[:count])


def near_gold(gold: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the places of rows that are kept so that their labels are distributed like gold ones.

    A row is kept with probability min(1, F_gold / F_new), densities by Gaussian kernels of Scott's
    width (Thakur et al. 2021, section 3.1).

    Args:
        gold: (n, 1) targets.
        labels: (m, 1) of the new rows.
        seed: of the draw.

    Raises:
        InputError: the targets or the labels have no density, since all are equal.
    """
    densities = []
    for values, whose in ((gold, "the training rows' targets"), (labels, "the new rows' labels")):
        try:
            densities.append(gaussian_kde(values.T)(labels.T))
        except ValueError:  # numpy's LinAlgError is one
            raise InputError(
                f"pseudo_labels.recombine.density compares distributions, but {whose} are all equal: "
                "leave it out"
            ) from None
    wanted, found = densities
    chance = np.random.default_rng([seed, 2]).random(len(labels))
    return np.flatnonzero(chance * found < wanted)
