"""Comparison of predictions for the same rows, to choose among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.ensemble.estimate import bootstrap, spread
from foldstack.metrics import Metric

RESAMPLES = 100


@dataclass(frozen=True)
class ScoreComparison:
    """Scores of several predictions, and their differences from a reference; (k,) each.

    Attributes:
        scores: by the metric.
        signed: the same, larger is better.
        worse_by: how much worse than the reference; below 0 if better.
        errors: standard error of that paired difference; 0 for the reference itself.
        covariance: (k, k) of the signed scores over the resamples in which all are defined.
    """

    scores: np.ndarray
    signed: np.ndarray
    worse_by: np.ndarray
    errors: np.ndarray
    covariance: np.ndarray


def compare(
    metric: Metric,
    targets: np.ndarray,
    predictions: Sequence[np.ndarray],
    groups: np.ndarray,
    *,
    seed: int,
    reference: int | None = None,
) -> ScoreComparison:
    """Score predictions on the same resamples of the groups.

    Args:
        metric: scores them.
        targets: (n, outputs).
        predictions: k arrays (n, outputs).
        groups: (n,) int, resampled as units.
        seed: of the bootstrap.
        reference: index of the predictions to compare with; None for the best.

    Returns:
        Scores and paired differences, (k,) each.
    """
    scores = np.array([metric.score(targets, each) for each in predictions])
    resampled = bootstrap(metric, targets, predictions, groups, seed=seed, resamples=RESAMPLES)
    signed = metric.sign * scores
    # An undefined metric is undefined for all (one class only): then the first is the reference.
    base = int(signed.argmax()) if reference is None else reference
    errors = spread(resampled[:, [base]] - resampled)
    defined = resampled[np.isfinite(resampled).all(axis=1)]
    covariance = np.full(2 * [len(scores)], np.nan)
    if len(defined) > 1:
        covariance = np.cov(defined, rowvar=False).reshape(covariance.shape)
    return ScoreComparison(scores, signed, signed[base] - signed, errors, covariance)
