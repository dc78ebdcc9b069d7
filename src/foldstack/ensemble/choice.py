"""Comparing what was predicted for the same rows, to choose among it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.ensemble.estimate import bootstrap, spread
from foldstack.metrics import Metric

RESAMPLES = 100


@dataclass(frozen=True)
class Comparison:
    """Scores of several predictions, and how far each is behind one of them; (k,) each.

    Attributes:
        scores: by the metric.
        signed: the same, larger is better.
        behind: how much worse than the reference; below 0 what is better.
        errors: standard error of that difference, paired; 0 for the reference itself.
    """

    scores: np.ndarray
    signed: np.ndarray
    behind: np.ndarray
    errors: np.ndarray


def compare(
    metric: Metric,
    targets: np.ndarray,
    predictions: Sequence[np.ndarray],
    groups: np.ndarray,
    *,
    seed: int,
    reference: int | None = None,
) -> Comparison:
    """Scores predictions, each (n, outputs), on the same resamples of the groups.

    Args:
        reference: which of them the others are compared with; None for the best.
    """
    scores = np.array([metric.score(targets, each) for each in predictions])
    resampled = bootstrap(metric, targets, predictions, groups, seed=seed, resamples=RESAMPLES)
    signed = metric.sign * scores
    # Where the metric is undefined it is so for all, having one class; then the first.
    base = int(signed.argmax()) if reference is None else reference
    errors = spread(resampled[:, [base]] - resampled)
    return Comparison(scores, signed, signed[base] - signed, errors)
