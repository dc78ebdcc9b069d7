"""The score of out-of-fold predictions, weighted to a test file that differs from training."""

from __future__ import annotations

import numpy as np

from foldstack.ensemble.estimate import Estimate, estimate
from foldstack.metrics import Metric

# Weights of a fitted model move a score too little: in `tests/bench/simulated/drift.py` 13 to 16 % of
# the correction is missing. So much of it counts as a standard error of its own.
MISSING = 0.15


def estimate_on_test(
    metric: Metric,
    targets: np.ndarray,
    predictions: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray,
    *,
    seed: int,
    seed_variance: float = 0.0,
    variance_ratio: float = 1.0,
    optimism: float = 0.0,
) -> Estimate:
    """Return the score weighted to the test file, with an interval that includes the weights' error.

    Args:
        metric: scores them.
        targets: (n, outputs).
        predictions: (n, outputs).
        groups: (n,) duplicate groups.
        weights: (n,) importance weights, see `drift.compare`.
        seed, seed_variance, variance_ratio, optimism: see `estimate`.

    Returns:
        The score with its 95 % interval.
    """
    correction = metric.score(targets, predictions, weights) - metric.score(targets, predictions)
    return estimate(
        metric,
        targets,
        predictions,
        groups,
        seed=seed,
        seed_variance=seed_variance + (MISSING * correction) ** 2,
        weights=weights,
        variance_ratio=variance_ratio,
        optimism=optimism,
    )
