"""Scores with intervals: bootstraps over duplicate groups, paired for comparisons.

Efron & Tibshirani 1993, "An Introduction to the Bootstrap". Copies of one text are not
independent, so groups are resampled, not rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t
from threadpoolctl import threadpool_limits

from foldstack.metrics import Metric, OfSums

PREPARED = 50_000_000  # predictions kept sorted at a time, about 20 bytes each
DRAWN = 4_000_000  # groups of resamples drawn at a time, 8 bytes each
SHARED = 0.5  # correlation over rows, above which equal seeds of two models are paired

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
    undefined_share: float = 0.0


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
        optimism: taken off the score, in units in which larger is better; half of it counts as its
            own standard error.

    Returns:
        The score with its 95 % interval, clipped to the metric's bounds.
    """
    score = metric.score(targets, predictions, weights) - metric.sign * optimism
    score = float(np.clip(score, *metric.bounds))
    resampled = bootstrap(metric, targets, [predictions], groups, seed=seed, weights=weights)
    variance = variance_ratio * spread(resampled)[0] ** 2 + seed_variance
    error = float(np.sqrt(variance + (optimism / 2) ** 2))
    # A normal interval may exceed the metric's bounds.
    low, high = np.clip([score - 1.96 * error, score + 1.96 * error], *metric.bounds)
    undefined = float(np.isnan(resampled).mean())
    return Estimate(score, float(low), float(high), error, undefined)


@dataclass(frozen=True)
class Difference:
    """The difference between two models: the mean over seeds, and a 95 % interval.

    Attributes:
        by_seed: (seeds,) differences, one per pair of equal seeds.
        row_error: the rows' part of the standard error: models scored on other rows.
        seed_error: the seeds' part: models trained with other seeds and scored on the same rows. nan
            for a single seed, which does not show it; the interval is then over rows only.
        degrees: degrees of freedom of the standard error; the interval is their t quantile times it.
            Infinite, and the quantile 1.96, if seeds add nothing.
        seeds_paired: whether equal seeds share their noise, see `paired_difference`.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    by_seed: np.ndarray
    row_error: float
    seed_error: float
    degrees: float
    seeds_paired: bool


def paired_difference(
    metric: Metric,
    targets: np.ndarray,
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    groups: np.ndarray,
    seed: int,
    variance_ratio: float = 1.0,
) -> Difference:
    """Return how much better predictions `a` are than `b`; positive if `a` is better, for losses too.

    Rows are paired: all predictions are scored on the same resamples, so that common noise cancels.
    Equal seeds are paired if they share noise in the single rows, as they may in like models; in
    unlike models the same number gives no common noise, and both models' variances over seeds add up.
    A variance over seeds is that of whole out-of-fold scores, since the runs of one seed may be good
    or bad together in all folds. It includes what seeds do to single rows, which is therefore
    subtracted from the bootstrap's variance (Owen 2007, "The pigeonhole bootstrap").

    Args:
        metric: scores them.
        targets: (n, outputs).
        a, b: one (n, outputs) array per seed.
        groups: (n,) duplicate groups.
        seed: of the bootstrap.
        variance_ratio: by which the rows' variance is multiplied, see `optimism.py`.

    Returns:
        The mean difference over seeds, with its interval.
    """
    seeds = len(a)
    scores = np.array([[metric.signed(targets, each) for each in model] for model in (a, b)])
    by_seed = scores[0] - scores[1]
    resampled = metric.sign * bootstrap(metric, targets, [*a, *b], groups, seed=seed)
    row_variance, seeds_paired = split_variance(resampled.reshape(-1, 2, seeds))
    row_variance *= variance_ratio
    seed_variances = [0.0]
    if seeds > 1:
        independent = [by_seed] if seeds_paired else scores
        seed_variances = [float(each.var(ddof=1)) / seeds for each in independent]
    variance = row_variance + sum(seed_variances)
    degrees = _welch_satterthwaite(variance, seed_variances, seeds - 1)
    error = float(np.sqrt(variance))
    half = error * (1.96 if np.isinf(degrees) else float(student_t.ppf(0.975, degrees)))
    difference = float(by_seed.mean())
    return Difference(
        difference,
        difference - half,
        difference + half,
        error,
        by_seed,
        float(np.sqrt(row_variance)),
        float(np.sqrt(sum(seed_variances))) if seeds > 1 else np.nan,
        degrees,
        seeds_paired,
    )


def split_variance(resampled: np.ndarray) -> tuple[float, bool]:
    """Return the variance of a difference over rows, without that part which seeds have in it.

    The mean over seeds varies over resamples by what each seed does to single rows, too: the
    interaction of rows and seeds, divided by the number of seeds. It is estimated as in a two-way
    analysis of variance.

    Args:
        resampled: (resamples, 2, seeds) scores of two models; undefined resamples are ignored.

    Returns:
        The variance over rows, 0 if the interaction explains all of it and nan if fewer than two
        resamples are defined; and whether the interactions of equal seeds are correlated, above
        `SHARED`, between the models. A single seed shows no interaction: nothing is subtracted.
    """
    resampled = resampled[np.isfinite(resampled).all(axis=(1, 2))]
    count, _, seeds = resampled.shape
    if count < 2:
        return float("nan"), False
    means = resampled.mean(axis=2)
    variance = float((means[:, 0] - means[:, 1]).var(ddof=1))
    if seeds == 1:
        return variance, False
    deviations = resampled - resampled.mean(axis=0)
    deviations = np.swapaxes(deviations - deviations.mean(axis=2, keepdims=True), 0, 1)
    products = np.einsum("irs,jrs->ij", deviations, deviations) / ((count - 1) * (seeds - 1))
    seeds_paired = bool(products[0, 1] > SHARED * np.sqrt(products[0, 0] * products[1, 1]))
    interaction = np.trace(products) - 2 * seeds_paired * products[0, 1]
    return max(0.0, variance - float(interaction) / seeds), seeds_paired


def _welch_satterthwaite(variance: float, seed_variances: Sequence[float], degrees: int) -> float:
    """Return the effective degrees of freedom of a variance over rows and seeds.

    Welch 1947, "The generalization of 'Student's' problem when several different population variances
    are involved". Rows are many, so that only what seeds add to the variance is uncertain.

    Args:
        variance: the sum.
        seed_variances: the seeds' parts.
        degrees: degrees of freedom of each of these parts.

    Returns:
        The degrees of freedom, infinite if seeds add nothing.
    """
    squares = sum(each**2 for each in seed_variances)
    return float(degrees * variance**2 / squares) if squares else float("inf")
