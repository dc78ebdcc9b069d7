"""Scores with intervals: bootstraps over duplicate groups, paired for comparisons.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap". Copies of one text are not
independent, so groups are resampled, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from foldstack.metrics import Metric, OfSums

PREPARED = 50_000_000  # predictions kept sorted at a time, about 20 bytes each
DRAWN = 4_000_000  # groups of resamples drawn at a time, 8 bytes each

ResampleScorer = Callable[
    [np.ndarray], list[float]
]  # from how often each resample draws each group, (r, groups)


@dataclass(frozen=True)
class Estimate:
    """A score pooled over rows, with a 95 % interval of 1.96 standard errors either way."""

    score: float
    low: float
    high: float
    standard_error: float


def bootstrap(
    metric: Metric,
    targets: np.ndarray,
    predictions_list: Sequence[np.ndarray],
    groups: np.ndarray,
    *,
    seed: int,
    resamples: int = 200,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return scores of several predictions on the same resamples of the groups.

    Args:
        metric: scores them.
        targets: (n, outputs).
        predictions_list: k predictions, each (n, outputs).
        groups: (n,) duplicate groups; a resample draws as many groups as there are, with
            replacement, and a row's weight is the number of times its group was drawn.
        seed: of the resamples.
        resamples: number of resamples.
        weights: (n,) row weights that multiply those, None for ones.

    Returns:
        (resamples, k) scores, paired along a row; nan if a resample leaves the metric undefined.
    """
    rng = np.random.default_rng(seed)
    names, group = np.unique(groups, return_inverse=True)
    weights = np.ones(len(targets)) if weights is None else weights
    score = _by_rows
    if isinstance(metric.scorer, OfSums):
        score = _by_sums
    elif sum(each.size for each in predictions_list) > PREPARED:
        score = _by_rows_anew
    scorers = [score(metric, targets, each, group, weights) for each in predictions_list]
    scores = np.empty((resamples, len(predictions_list)))
    step = max(1, DRAWN // len(names))
    with threadpool_limits(1):  # the order of sums changes their bytes
        for start in range(0, resamples, step):
            some = scores[start : start + step]
            draws = np.empty((len(some), len(names)))
            for drawn in draws:
                drawn[:] = np.bincount(
                    rng.integers(len(names), size=len(names)), minlength=len(names)
                )
            some[:] = np.transpose([scorer(draws) for scorer in scorers])
    return scores


def _by_rows(
    metric: Metric, targets: np.ndarray, predictions: np.ndarray, group: np.ndarray, w: np.ndarray
) -> ResampleScorer:
    """Return a map from how often groups are drawn, (r, groups), to r scores. w: (n,) row weights."""
    prepared = metric.of_rows(targets, predictions)
    return lambda draws: [prepared(drawn[group] * w) for drawn in draws]


def _by_rows_anew(
    metric: Metric, targets: np.ndarray, predictions: np.ndarray, group: np.ndarray, w: np.ndarray
) -> ResampleScorer:
    """Return the same as `_by_rows`, with nothing kept between resamples."""
    return lambda draws: [metric.score(targets, predictions, drawn[group] * w) for drawn in draws]


def _by_sums(
    metric: Metric, targets: np.ndarray, predictions: np.ndarray, group: np.ndarray, w: np.ndarray
) -> ResampleScorer:
    """Return the same from each group's part of the metric's sums, without reading the rows again."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def by_group(rows: np.ndarray) -> np.ndarray:
        return np.add.reduceat((rows.T * w).T[order], starts, axis=0)

    weight = by_group(np.ones(len(w)))
    parts = [by_group(part) for part in metric.scorer.parts(targets, predictions)]

    def scores(draws: np.ndarray) -> list[float]:
        sums = zip(draws @ weight, *(draws @ part for part in parts), strict=True)
        score = metric.scorer.score
        return [float(score(*each)) if total else float("nan") for total, *each in sums]

    return scores


def spread(scores: np.ndarray) -> np.ndarray:
    """Return the standard deviation over resamples (resamples, k) -> (k,), nan resamples ignored.

    nan if fewer than two resamples are defined.
    """
    columns = [column[np.isfinite(column)] for column in scores.T]
    return np.array([column.std(ddof=1) if len(column) > 1 else np.nan for column in columns])


def estimate(
    metric: Metric,
    targets: np.ndarray,
    predictions: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    seed_variance: float = 0.0,
    weights: np.ndarray | None = None,
    variance_ratio: float = 1.0,
    optimism: float = 0.0,
) -> Estimate:
    """Return the score of predictions, with an interval.

    Args:
        metric: scores them.
        targets: (n, outputs).
        predictions: (n, outputs).
        groups: (n,) duplicate groups.
        seed: of the bootstrap.
        seed_variance: variance of the score over training seeds, added to the bootstrap's.
        weights: (n,) row weights, None for ones.
        variance_ratio: by which the bootstrap's variance is multiplied, see `optimism.py`.
        optimism: taken off the score, in units in which larger is better.

    Returns:
        The score with its 95 % interval, clipped to the metric's bounds.
    """
    score = metric.score(targets, predictions, weights) - metric.sign * optimism
    score = float(np.clip(score, *metric.bounds))
    resampled = bootstrap(metric, targets, [predictions], groups, seed=seed, weights=weights)
    error = float(np.sqrt(variance_ratio * spread(resampled)[0] ** 2 + seed_variance))
    # A normal interval may exceed the metric's bounds.
    low, high = np.clip([score - 1.96 * error, score + 1.96 * error], *metric.bounds)
    return Estimate(score, float(low), float(high), error)


@dataclass(frozen=True)
class Difference:
    """The difference between two models: the mean over seeds, and a 95 % interval.

    by_seed: (seeds,) differences, one per pair of equal seeds. seed_error: the seeds' part of the
    standard error; nan for a single seed, which does not show it.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    by_seed: np.ndarray
    seed_error: float


def paired_difference(
    metric: Metric,
    targets: np.ndarray,
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    groups: np.ndarray,
    seed: int,
) -> Difference:
    """Return how much better predictions `a` are than `b`; positive if `a` is better, for losses too.

    All are scored on the same resamples, so that common noise cancels. The variance of the mean over
    seeds is added to the bootstrap's.

    Args:
        metric: scores them.
        targets: (n, outputs).
        a, b: one (n, outputs) array per seed.
        groups: (n,) duplicate groups.
        seed: of the bootstrap.

    Returns:
        The mean difference over seeds, with its interval.
    """
    pairs = len(a)
    by_seed = np.array(
        [metric.signed(targets, x) - metric.signed(targets, y) for x, y in zip(a, b, strict=True)]
    )
    scores = metric.sign * bootstrap(metric, targets, [*a, *b], groups, seed=seed)
    resampled = (scores[:, :pairs] - scores[:, pairs:]).mean(axis=1, keepdims=True)
    seed_error = float(by_seed.std(ddof=1) / np.sqrt(pairs)) if pairs > 1 else np.nan
    error = float(np.hypot(spread(resampled)[0], np.nan_to_num(seed_error)))
    difference = float(by_seed.mean())
    low, high = difference - 1.96 * error, difference + 1.96 * error
    return Difference(difference, low, high, error, by_seed, seed_error)
