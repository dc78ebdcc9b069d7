"""Stratified assignment of groups to folds, and measures of its balance.

The measures are those of Sechidis, Tsoumakas & Vlahavas 2011, "On the stratification of multi-label
data".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, hstack

ROUNDS = 100  # most rounds of local search; it usually converges long before
SHORTLIST = 200  # groups per fold that a round tries to swap
LEAST = 1e-9  # a smaller gain is rounding error


class Balance(NamedTuple):
    """Measures of imbalance between folds; 0 is perfect.

    labels: label distribution (LD), the mean over labels and folds of the absolute difference
    between a label's odds in the fold and in all rows. examples: examples distribution (ED), the
    mean over folds of the absolute difference from n / folds rows. missing: fold-label pairs with
    zero positives (FLZ), for labels that have any.
    """

    labels: float
    examples: float
    missing: int


def balance(labels: np.ndarray, folds: np.ndarray, count: int) -> Balance:
    """Return the balance of (n, q) 0/1 labels, dense or sparse, over (n,) folds 0 … count-1.

    Rows of fold -1 and labels without positives are ignored. If every row of a fold has a label,
    the odds assume one row without it.
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


def assign_folds(groups: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assign whole groups to folds so that rows and labels are spread evenly.

    The objective is the sum, over folds and labels, of (positives - expected positives)² / all
    positives: Pearson's chi-squared statistic for independence of label and fold, in which a rare
    label counts as much as a frequent one. The number of rows is one more term, weighted as a tenth
    of all labels. A greedy pass assigns the heaviest groups first (large ones, and those with rare
    labels), each to the fold where the objective grows least. Local search then moves single groups
    and swaps pairs while the objective falls.

    Args:
        groups: (n,) group of each row.
        labels: (n, q) 0/1, dense or sparse.
        count: number of folds.
        seed: of the order among equally heavy groups.

    Returns:
        (n,) int folds 0 … count-1.
    """
    _, member = np.unique(groups, return_inverse=True)
    n, size = len(member), member.max() + 1
    collect = csr_matrix((np.ones(n), (member, np.arange(n))), shape=(size, n))
    brings = csr_matrix(collect @ hstack([np.ones((n, 1)), _sparse(labels)], format="csr"))
    total = np.asarray(brings.sum(axis=0)).ravel()
    weights = 1 / np.maximum(total, 1)
    weights[0] *= max(1, labels.shape[1] / 10)
    search = _Search(brings, weights, count, np.random.default_rng(seed))
    search.start()
    search.improve()
    return search.fold[member]


class _Search:
    """Search state: moving x from fold a to b adds 2 x·w·(held_b - held_a + x) to the objective."""

    def __init__(self, brings: csr_matrix, weights: np.ndarray, count: int, rng):
        self.brings, self.weights, self.count, self.rng = brings, weights, count, rng
        self.fold = np.zeros(brings.shape[0], dtype=np.int64)
        self.held = np.zeros((brings.shape[1], count))  # (labels, folds)
        self.weighted = brings.copy()  # same order of indices, which _of relies on
        self.weighted.data *= weights[brings.indices]
        self.own = np.asarray(self.weighted.multiply(brings).sum(axis=1)).ravel()

    def _of(self, group: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a group's (labels, positives per label, weighted positives)."""
        at = slice(self.brings.indptr[group], self.brings.indptr[group + 1])
        return self.brings.indices[at], self.brings.data[at], self.weighted.data[at]

    def start(self) -> None:
        """Assign groups greedily, heaviest first, each to the fold with the lowest cost."""
        shuffled = self.rng.permutation(len(self.fold))
        for group in shuffled[np.argsort(-self.own[shuffled], kind="stable")].tolist():
            labels, rows, weighted = self._of(group)
            self.fold[group] = fold = (weighted @ self.held[labels]).argmin()
            self.held[labels, fold] += rows

    def improve(self) -> None:
        """Move groups, and swap them if no move helps, until neither lowers the objective."""
        for _ in range(ROUNDS):
            if not self._moves() and not self._swaps():
                return

    def _costs(self) -> np.ndarray:
        """Return (groups, folds) half the change in the objective per move; 0 for a group's own fold."""
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
            labels, _, weighted = self._of(group)  # recomputed: other groups have moved since
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
