"""Scores with intervals: bootstraps over duplicate groups, paired where things are compared.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap". Copies of one text are not
independent, so whole groups are drawn, never rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from foldstack.metrics import Metric, OfSums

PREPARED = 50_000_000  # predictions that are kept sorted at once, some 20 bytes each
DRAWN = 4_000_000  # groups of resamples that are drawn at once, 8 bytes each

ResampleScorer = Callable[
    [np.ndarray], list[float]
]  # from how often each resample draws each group


@dataclass(frozen=True)
class Estimate:
    """A score, pooled over its rows, with a 95 % interval of 1.96 standard errors each way."""

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
    """Scores of several predictions on the same resamples of the groups.

    Args:
        targets: (n, outputs).
        predictions_list: predictions, each (n, outputs).
        groups: (n,) duplicate groups; a resample draws as many groups as there are, with
            replacement, and a row weighs as often as its group was drawn.
        weights: (n,) row weights that multiply those, None for ones.

    Returns:
        (resamples, len(predictions_list)) scores, paired along a row; nan where a resample
        leaves the metric undefined.
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
    with threadpool_limits(1):  # sums in another order are other bytes
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
    """From how often groups are drawn, (r, groups), to r scores. w: (n,) row weights."""
    prepared = metric.of_rows(targets, predictions)
    return lambda draws: [prepared(drawn[group] * w) for drawn in draws]


def _by_rows_anew(
    metric: Metric, targets: np.ndarray, predictions: np.ndarray, group: np.ndarray, w: np.ndarray
) -> ResampleScorer:
    """The same, with nothing kept between resamples."""
    return lambda draws: [metric.score(targets, predictions, drawn[group] * w) for drawn in draws]


def _by_sums(
    metric: Metric, targets: np.ndarray, predictions: np.ndarray, group: np.ndarray, w: np.ndarray
) -> ResampleScorer:
    """The same from what each group adds to the metric's sums, without another look at the rows."""
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
    """Standard deviation down the resamples (resamples, k) -> (k,), nan resamples ignored.

    nan where fewer than two resamples are defined.
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
) -> Estimate:
    """The score of predictions (n, outputs), with an interval.

    Args:
        targets: (n, outputs).
        groups: (n,) duplicate groups.
        seed_variance: variance of the score over training seeds, added to the bootstrap's.
        weights: (n,) row weights, None for ones.
    """
    score = metric.score(targets, predictions, weights)
    resampled = bootstrap(metric, targets, [predictions], groups, seed=seed, weights=weights)
    error = float(np.sqrt(spread(resampled)[0] ** 2 + seed_variance))
    # A normal interval may pass what the metric can take; we do not.
    low, high = np.clip([score - 1.96 * error, score + 1.96 * error], *metric.bounds)
    return Estimate(score, float(low), float(high), error)


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another: the mean over seeds, and a 95 % interval.

    by_seed: (seeds,) differences, one for each pair of equal seeds. seed_error: the part of the
    standard error that the seeds make; nan with a single one, where nothing can be said of it.
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
    """How much better predictions `a` are than `b`, each a list of (n, outputs), one for every seed.

    Positive where `a` is better, for losses too. All are scored on the same resamples, so what is
    common to them cancels. The variance of the mean over seeds is added to the bootstrap's.
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
