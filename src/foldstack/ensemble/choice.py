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
        scores: by the metric; nan if undefined.
        signed: the same, larger is better; -inf if undefined, so that it is never the best.
        worse_by: how much worse than the reference; below 0 if better, nan if either is undefined.
        errors: standard error of that paired difference; 0 for the reference itself.
        covariance: (k, k) of the signed scores over the resamples in which all are defined.
    """

    scores: np.ndarray
    signed: np.ndarray
    worse_by: np.ndarray
    errors: np.ndarray
    covariance: np.ndarray

    def better(self, reference: int) -> int | None:
        """Return the best if it beats the reference by more than one standard error; otherwise None.

        An undefined reference is beaten by any defined score.
        """
        best = int(self.signed.argmax())  # of equals the first
        if np.isneginf(self.signed[reference]):
            return None if np.isneginf(self.signed[best]) else best
        return best if -self.worse_by[best] > self.errors[best] else None


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
    signed = np.where(np.isnan(scores), -np.inf, metric.sign * scores)
    # If all are undefined (one class only), the first is the reference.
    base = int(signed.argmax()) if reference is None else reference
    errors = spread(resampled[:, [base]] - resampled)
    defined = resampled[np.isfinite(resampled).all(axis=1)]
    covariance = np.full(2 * [len(scores)], np.nan)
    if len(defined) > 1:
        covariance = np.cov(defined, rowvar=False).reshape(covariance.shape)
    worse_by = metric.sign * (scores[base] - scores)
    return ScoreComparison(scores, signed, worse_by, errors, covariance)
