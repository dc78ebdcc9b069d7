"""Thresholds, one per label, for metrics that average a score of each row's labels over rows.

Labels interact in these, so coordinate ascent finds a local optimum, by exact steps. Shapes and types
are those of `thresholds.py`.
"""

from __future__ import annotations

import numpy as np

from foldstack.ensemble.thresholds import (
    ROUNDING,
    SHRINKAGE,
    Sweep,
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
    name: str, targets: np.ndarray, probabilities: np.ndarray, shrinkage: float = SHRINKAGE
) -> np.ndarray:
    """Return thresholds for a metric of `OF_ROWS`, a local optimum by coordinate ascent.

    From the best common threshold of a grid on, each label's threshold in turn is set to its best
    value while the others stay fixed, until a round changes nothing. Every step is exact: another
    predicted label in a row changes the score of that row only. Then the thresholds are shrunk
    towards the common one (see `shrink`).

    Args:
        name: of `OF_ROWS`.
        targets: (n, labels) of 0/1.
        probabilities: (n, labels).
        shrinkage: k of `thresholds.own_share`.

    Returns:
        (labels,) thresholds.
    """
    common = common_row_threshold(name, targets, probabilities)
    thresholds = ascend_rows(name, targets, probabilities, np.full(targets.shape[1], common))
    rarer = rarer_side(counts_at(thresholds, targets, probabilities))
    return shrink(thresholds, common, own_share(rarer, shrinkage))


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


def ascend_rows(
    name: str, targets: np.ndarray, probabilities: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return thresholds by coordinate ascent from `start`, never worse than that.

    Args:
        name: of `OF_ROWS`.
        targets: (n, labels) of 0/1.
        probabilities: (n, labels).
        start: (labels,) thresholds.

    Returns:
        (labels,) thresholds.
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
    return thresholds


def _best_gain(probabilities: np.ndarray, gains: np.ndarray) -> tuple[float, float]:
    """Return the threshold above which the gains (n,) sum to most, nearest .5 if tied; and the sum."""
    order = np.argsort(probabilities)
    values = probabilities[order].astype(float)
    cuts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1], [True])))
    sums = np.append(np.cumsum(gains[order][::-1])[::-1], 0.0)[cuts]
    most = sums.max()
    sweep = Sweep(values[cuts[:-1]], sums, sums)
    return sweep.best(np.where(sums >= most - ROUNDING, most, sums)), float(most)
