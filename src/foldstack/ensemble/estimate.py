"""Scores with intervals: bootstraps over duplicate groups, paired where things are compared.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap". Copies of one text are not
independent, so whole groups are drawn, never rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.metrics import Metric


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
    scores = np.empty((resamples, len(predictions_list)))
    for row in scores:
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        row_weights = drawn[group] if weights is None else drawn[group] * weights
        row[:] = [metric.score(targets, each, row_weights) for each in predictions_list]
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


def paired_difference(
    metric: Metric,
    targets: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> tuple[float, float]:
    """How much better predictions `a` are than `b`, both (n, outputs), and its standard error.

    Positive where `a` is better, for losses too. Both are scored on the same resamples, so
    what is common to them cancels.
    """
    difference = metric.signed(targets, a) - metric.signed(targets, b)
    scores = bootstrap(metric, targets, [a, b], groups, seed=seed)
    return difference, float(spread(scores[:, :1] - scores[:, 1:])[0])
