"""Thresholds, one per label, for metrics that average a score of each row's labels over rows.

Labels interact in these, so a local search looks for the optimum: coordinate ascent, which sets one
threshold at a time to its exact best value, pair moves, which do so for two at a time (for two labels
that is exhaustive), and starts and restarts from other thresholds. On small sets it mostly finds the
optimum; there is no guarantee. Shapes and types are those of `thresholds.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from foldstack.ensemble.thresholds import (
    MIDDLE,
    ROUNDING,
    SHRINKAGE,
    Sweep,
    best_threshold,
    columns,
    counts_at,
    nearest_best,
    own_share,
    rarer_side,
    shrink,
    threshold_grid,
)
from foldstack.metrics import AVERAGED, Counted

ROUNDS = 20
ROWS = 1 << 16
SEARCHED = 1000  # rows of the sample on which starts, pairs and restarts are tried
RESTARTS = 30
RESTARTED = 1000  # values (rows times labels) of all restarts together
GRID = 64  # thresholds per label in a pair move; all of them if the values are fewer


def _jaccard_or_empty(tp, fp, fn, tn):
    return np.where(tp + fp + fn == 0, 1.0, AVERAGED["jaccard"](tp, fp, fn, tn))


def _exact_match(tp, fp, fn, tn):
    return (fp + fn == 0).astype(float)


# Metrics of several labels that average a score of each row's counts over rows.
OF_ROWS: dict[str, Counted] = {
    **{f"{name}_samples": one for name, one in AVERAGED.items()},
    "jaccard": _jaccard_or_empty,
    "accuracy": _exact_match,
    "exact_match": _exact_match,
}


def row_thresholds(
    name: str,
    targets: np.ndarray,
    probabilities: np.ndarray,
    shrinkage: float = SHRINKAGE,
    *,
    thorough: bool = True,
) -> np.ndarray:
    """Return thresholds for a metric of `OF_ROWS`, a local optimum.

    Coordinate ascent begins at the best common threshold of a grid and, if thorough, at what `search`
    finds on a sample of the rows; the better result is taken, of equals the former. Then the thresholds
    are shrunk towards the common one (see `shrink`).

    Args:
        name: of `OF_ROWS`.
        targets: (n, labels) of 0/1.
        probabilities: (n, labels).
        shrinkage: k of `thresholds.own_share`.
        thorough: False for coordinate ascent alone, which is several times faster on few rows.

    Returns:
        (labels,) thresholds.
    """
    common = common_row_threshold(name, targets, probabilities)
    start = np.full(targets.shape[1], common)
    thresholds, reached = ascend_rows(name, targets, probabilities, start)
    if thorough:
        rows = _sampled(len(targets))
        found = search(name, targets[rows], probabilities[rows], thresholds)
        if (found != thresholds).any():
            other, of_other = ascend_rows(name, targets, probabilities, found)
            thresholds = other if of_other > reached + ROUNDING else thresholds
    rarer = rarer_side(counts_at(thresholds, targets, probabilities))
    return shrink(thresholds, common, own_share(rarer, shrinkage))


def _sampled(n: int) -> np.ndarray | slice:
    """Return `SEARCHED` of n rows, always the same; all if there are fewer."""
    if n <= SEARCHED:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n, SEARCHED, replace=False))


def common_row_threshold(name: str, targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the best of a grid of thresholds common to all labels, for a metric of `OF_ROWS`."""
    grid = threshold_grid(probabilities)
    gains = np.zeros(len(grid) + 1)
    for first in range(0, len(targets), ROWS):
        part = slice(first, first + ROWS)
        values, gained = _gains(OF_ROWS[name], targets[part], probabilities[part])
        reached = np.searchsorted(grid, values.ravel(), "right")
        gains += np.bincount(reached, weights=gained.ravel(), minlength=len(gains))
    scores = np.cumsum(gains[::-1])[::-1][1:]
    # Sums of the same gains in another order differ by rounding.
    return nearest_best(grid, np.where(scores >= scores.max() - ROUNDING, scores.max(), scores))


def _gains(
    one: Counted, targets: np.ndarray, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, labels) each: a row's probabilities, descending, and the gain of one more label."""
    order = np.argsort(-probabilities, axis=1)
    values, hits = (np.take_along_axis(x, order, axis=1) for x in (probabilities, targets))
    tp = np.pad(np.cumsum(hits, axis=1, dtype=float), ((0, 0), (1, 0)))
    fp = np.arange(tp.shape[1]) - tp
    return values, np.diff(one(tp, fp, tp[:, -1:] - tp, 0), axis=1)


# --- coordinate ascent ------------------------------------------------------------------------


def ascend_rows(
    name: str, targets: np.ndarray, probabilities: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return thresholds by coordinate ascent from `start`, never worse than that, and their score.

    Each label's threshold in turn is set to its best value while the others stay fixed, until a round
    changes nothing. Every step is exact: another predicted label in a row changes the score of that
    row only.

    Args:
        name: of `OF_ROWS`.
        targets: (n, labels) of 0/1.
        probabilities: (n, labels).
        start: (labels,) thresholds.

    Returns:
        (labels,) thresholds, and the sum of the rows' scores.
    """
    one, thresholds = OF_ROWS[name], start.astype(float)
    given = targets.sum(axis=1, dtype=float)
    tp, called = (np.zeros(len(targets)) for _ in range(2))
    for threshold, (target, column) in zip(
        thresholds, columns(targets, probabilities), strict=True
    ):
        now = column >= np.array([threshold])
        tp += now * target
        called += now
    for _ in range(ROUNDS):
        moved = False
        for k, (target, column) in enumerate(columns(targets, probabilities)):
            now = column >= thresholds[k : k + 1]
            tp -= now * target
            called -= now
            gains = one(tp + target, called + 1 - tp - target, given - tp - target, 0)
            gains -= one(tp, called - tp, given - tp, 0)
            threshold, gained = _best_gain(column, gains)
            if gained > gains[now].sum() + ROUNDING:
                thresholds[k], moved = threshold, True
            now = column >= thresholds[k : k + 1]
            tp += now * target
            called += now
        if not moved:
            break
    return thresholds, float(one(tp, called - tp, given - tp, 0).sum())


def _best_gain(probabilities: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """Return the threshold above which the gains (n,) sum to most, nearest .5 if tied; and the sum."""
    order = np.argsort(probabilities)
    values = probabilities[order].astype(float)
    cuts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1], [True])))
    sums = np.append(np.cumsum(gains[order][::-1])[::-1], 0.0)[cuts]
    most = sums.max()
    sweep = Sweep(values[cuts[:-1]], sums, sums)
    return sweep.best(np.where(sums >= most - ROUNDING, most, sums)), float(most)


# --- starts, pairs and restarts ---------------------------------------------------------------


def search(
    name: str, targets: np.ndarray, probabilities: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return the best thresholds (labels,) that several starts lead to.

    Coordinate ascent begins at `start`, at .5 and at each label's most accurate threshold; pair moves
    continue from the best. On small sets they restart from it with about half of the thresholds drawn
    again, as often as `RESTARTED` allows; draws are the same every time.

    Args:
        name: of `OF_ROWS`.
        targets: (n, labels) of 0/1.
        probabilities: (n, labels).
        start: (labels,) thresholds.
    """
    pairs = Pairs(name, targets, probabilities)
    starts = [ascend_rows(name, targets, probabilities, each) for each in (start, *pairs.starts())]
    best, score = pairs.climb(max(starts, key=lambda found: found[1])[0])
    rng = np.random.default_rng(0)
    for _ in range(min(RESTARTS, RESTARTED // targets.size)):
        found, reached = pairs.climb(pairs.redrawn(best, rng))
        if reached > score + ROUNDING:
            best, score = found, reached
    return best


class Pairs:
    """Climbs by single and pair moves, for a metric of `OF_ROWS` on fixed rows."""

    def __init__(self, name: str, targets: np.ndarray, probabilities: np.ndarray):
        self.name, self.targets, self.probabilities = name, targets, probabilities
        self.given = targets.sum(axis=1, dtype=float)
        sweeps = [Sweep.of(*column) for column in columns(targets, probabilities)]
        self.cuts = [sweep.thresholds(_spread(len(sweep.values) + 1)) for sweep in sweeps]
        # How many cuts decide for the label in each row.
        self.passed = [
            np.searchsorted(cuts, column, "right")
            for cuts, column in zip(self.cuts, probabilities.T, strict=True)
        ]

    def starts(self) -> Iterator[np.ndarray]:
        yield np.full(len(self.cuts), MIDDLE)
        own = columns(self.targets, self.probabilities)
        yield np.array([best_threshold("accuracy", *column) for column in own])

    def redrawn(self, thresholds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        drawn = np.array([rng.choice(cuts) for cuts in self.cuts])
        return np.where(rng.random(len(drawn)) < 0.5, drawn, thresholds)

    def climb(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        """Return thresholds that neither a single nor a pair move improves, and their score."""
        for _ in range(ROUNDS):
            thresholds, score = ascend_rows(self.name, self.targets, self.probabilities, start)
            start = thresholds.copy()
            for pair in combinations(range(len(start)), 2):
                start[list(pair)] = self._best_pair(start, pair)
            if (start == thresholds).all():
                break
        return thresholds, score

    def _best_pair(self, thresholds: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
        """Return the best thresholds (2,) of two labels while the others stay fixed."""
        now = self.probabilities >= thresholds
        now[:, pair] = False
        tp, called = (now * self.targets).sum(axis=1), now.sum(axis=1)
        first, second = (self.targets[:, k] for k in pair)
        one = OF_ROWS[self.name]

        def scores(hits: np.ndarray, more: int) -> np.ndarray:
            found = tp + hits
            return one(found, called + more - found, self.given - found, 0)

        none, a, b = scores(0, 0), scores(first, 1), scores(second, 1)
        both = scores(first + second, 2)
        sums = self._sums(pair, a - none, b - none, both - a - b + none)
        current = self.probabilities[:, pair] >= thresholds[list(pair)]
        decided = np.where(current[:, 0], np.where(current[:, 1], both, a),
                           np.where(current[:, 1], b, none))  # fmt: skip
        if not sums.max() > (decided - none).sum() + ROUNDING:
            return thresholds[list(pair)]
        apart = [np.abs(self.cuts[k] - MIDDLE) for k in pair]
        tied = np.where(sums >= sums.max() - ROUNDING, np.add.outer(*apart), np.inf)
        at = np.unravel_index(tied.argmin(), tied.shape)
        return np.array([self.cuts[k][cut] for k, cut in zip(pair, at, strict=True)])

    def _sums(self, pair: tuple[int, int], *gains: np.ndarray) -> np.ndarray:
        """Return (cuts, cuts) sums of the gains of rows with the first, the second and both labels."""
        i, j = (self.passed[k] for k in pair)
        of_first, of_second, of_both = gains
        shape = tuple(len(self.cuts[k]) + 1 for k in pair)
        cells = np.zeros(shape)
        cells += np.bincount(i * shape[1] + j, of_both, shape[0] * shape[1]).reshape(shape)
        sums = cells[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1][1:, 1:]
        rows = np.bincount(i, of_first, shape[0])[::-1].cumsum()[::-1][1:]
        return sums + rows[:, None] + np.bincount(j, of_second, shape[1])[::-1].cumsum()[::-1][1:]


def _spread(count: int) -> np.ndarray:
    """Return `GRID` of the cuts at equal distances, the first and the last among them; or all."""
    return np.unique(np.linspace(0, count - 1, min(count, GRID)).round().astype(int))
