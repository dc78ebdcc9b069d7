"""Groups dealt to folds so that sizes and labels stay alike, and how alike they are.

The measures are those of Sechidis, Tsoumakas & Vlahavas 2011, "On the stratification of multi-label
data".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, hstack

ROUNDS = 100  # of the local search, which mostly ends of itself long before
SHORTLIST = 200  # groups of each fold that a round tries to swap with those of another
LEAST = 1e-9  # a smaller gain is rounding


class Balance(NamedTuple):
    """How far folds part from each other; 0 is perfect.

    labels (LD): mean over labels and folds of how much a label's odds in the fold differ from its odds
    in all rows. examples (ED): mean over folds of how many rows the fold has more or less than an even
    share. missing (FLZ): pairs of a fold and a label that has rows, but none in this fold.
    """

    labels: float
    examples: float
    missing: int


def balance(labels: np.ndarray, folds: np.ndarray, count: int) -> Balance:
    """Of (n, labels) 0/1, dense or sparse, over (n,) folds 0 … count-1; rows of fold -1 do not count.

    Labels without a row are left out; where every row of a fold has a label, its odds are reckoned
    with one row without.
    """
    used = folds >= 0
    shown = _sparse(labels)[np.flatnonzero(used)]
    member = csr_matrix(
        (np.ones(used.sum()), (folds[used], np.arange(used.sum()))), shape=(count, used.sum())
    )
    positives = (member @ shown).toarray()
    positives = positives[:, positives.any(axis=0)]
    rows, total = np.bincount(folds[used], minlength=count)[:, None], positives.sum(axis=0)
    odds = positives / np.maximum(rows - positives, 1)
    overall = total / np.maximum(rows.sum() - total, 1)
    return Balance(
        labels=float(np.abs(odds - overall).mean()) if positives.size else 0.0,
        examples=float(np.abs(rows - rows.mean()).mean()),
        missing=int((positives == 0).sum()),
    )


def _sparse(labels: np.ndarray) -> csr_matrix:
    return csr_matrix(labels, dtype=np.float64)


def deal(groups: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(n,) folds 0 … count-1 of whole groups (n,), with rows and labels (n, q) spread evenly.

    What is made small is the sum, over folds and labels, of (rows with the label - an even share)² /
    all rows with the label: Pearson's chi-squared against independence of label and fold, in which
    a rare label counts as much as a frequent one. The number of rows counts likewise, as much as
    a tenth of all labels together. Groups are dealt to the fold that lacks most of what they bring,
    those that weigh most first: the large ones and those with rare labels. Then a local search moves
    single groups, and swaps two, as long as that sum falls.
    """
    _, member = np.unique(groups, return_inverse=True)
    n, size = len(member), member.max() + 1
    collect = csr_matrix((np.ones(n), (member, np.arange(n))), shape=(size, n))
    brings = csr_matrix(collect @ hstack([np.ones((n, 1)), _sparse(labels)], format="csr"))
    total = np.asarray(brings.sum(axis=0)).ravel()
    weights = 1 / np.maximum(total, 1)
    weights[0] *= max(1, labels.shape[1] / 10)
    dealing = _Dealing(brings, weights, count, np.random.default_rng(seed))
    dealing.start()
    dealing.improve()
    return dealing.fold[member]


class _Dealing:
    """Groups in folds; moving x from fold a to b adds 2 x·w·(held_b - held_a + x) to the sum."""

    def __init__(self, brings: csr_matrix, weights: np.ndarray, count: int, rng):
        self.brings, self.weights, self.count, self.rng = brings, weights, count, rng
        self.fold = np.zeros(brings.shape[0], dtype=np.int64)
        self.held = np.zeros((brings.shape[1], count))  # a column a fold, so that labels are rows
        self.weighted = brings.copy()  # with the indices in the same order, on which _of relies
        self.weighted.data *= weights[brings.indices]
        self.own = np.asarray(self.weighted.multiply(brings).sum(axis=1)).ravel()

    def _of(self, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(labels, how many rows of each, weighted) that a group brings."""
        at = slice(self.brings.indptr[group], self.brings.indptr[group + 1])
        return self.brings.indices[at], self.brings.data[at], self.weighted.data[at]

    def start(self) -> None:
        """Greedy: the weightiest group first, to the fold where it meets least of its own."""
        shuffled = self.rng.permutation(len(self.fold))
        for group in shuffled[np.argsort(-self.own[shuffled], kind="stable")].tolist():
            labels, rows, weighted = self._of(group)
            self.fold[group] = fold = (weighted @ self.held[labels]).argmin()
            self.held[labels, fold] += rows

    def improve(self) -> None:
        """Moves, then swaps where no move helps, until neither does."""
        for _ in range(ROUNDS):
            if not self._moves() and not self._swaps():
                return

    def _costs(self) -> np.ndarray:
        """(groups, folds) half of what a move there would add to the sum; 0 at home."""
        met = self.weighted @ self.held
        costs = met + (self.own - met[np.arange(len(met)), self.fold])[:, None]
        costs[np.arange(len(met)), self.fold] = 0
        return costs

    def _move(self, group: int, to: int) -> None:
        labels, rows, _ = self._of(group)
        self.held[labels, self.fold[group]] -= rows
        self.held[labels, to] += rows
        self.fold[group] = to

    def _moves(self) -> int:
        best = self._costs().min(axis=1)
        promising = np.flatnonzero(best < -LEAST)
        done = 0
        for group in promising[np.argsort(best[promising], kind="stable")].tolist():
            labels, _, weighted = self._of(group)  # reckoned anew: others have moved meanwhile
            met = weighted @ self.held[labels]
            costs = met - met[self.fold[group]] + self.own[group]
            costs[self.fold[group]] = 0
            if costs.min() < -LEAST:
                self._move(group, int(costs.argmin()))
                done += 1
        return done

    def _swaps(self) -> int:
        costs = self._costs()
        home = [np.flatnonzero(self.fold == f) for f in range(self.count)]
        done = 0
        for a in range(self.count):
            for b in range(a + 1, self.count):
                there = _lowest(home[a], costs[home[a], b])
                back = _lowest(home[b], costs[home[b], a])
                done += self._swap_some(there, back, a, b)
        return done

    def _swap_some(self, there: np.ndarray, back: np.ndarray, a: int, b: int) -> int:
        """Swap groups of fold a with groups of fold b, best pair first, each group at most once."""
        there, back = there[self.fold[there] == a], back[self.fold[back] == b]
        x, y, towards = self.weighted[there], self.brings[back], self.held[:, b] - self.held[:, a]
        added = (x @ towards + self.own[there])[:, None] - self.weighted[back] @ towards
        added += self.own[back] - 2 * (x @ y.T).toarray()
        done, first, second = 0, *np.unravel_index(np.argsort(added, axis=None), added.shape)
        for i, j in zip(first[: 4 * SHORTLIST], second[: 4 * SHORTLIST], strict=True):
            if added[i, j] >= -LEAST:
                break
            g, h = int(there[i]), int(back[j])
            if self.fold[g] == a and self.fold[h] == b and self._swap_cost(g, h) < -LEAST:
                self._move(g, b)
                self._move(h, a)
                done += 1
        return done

    def _swap_cost(self, g: int, h: int) -> float:
        change = np.zeros(len(self.held))
        for group, sign in ((g, 1), (h, -1)):
            labels, rows, _ = self._of(group)
            change[labels] += sign * rows
        towards = self.held[:, self.fold[h]] - self.held[:, self.fold[g]]
        return float((change * self.weights) @ (towards + change))


def _lowest(groups: np.ndarray, costs: np.ndarray) -> np.ndarray:
    if len(groups) <= SHORTLIST:
        return groups
    return groups[np.argpartition(costs, SHORTLIST)[:SHORTLIST]]
