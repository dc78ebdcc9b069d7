"""Whether good predictions have a score on some rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foldstack.errors import InputError
from foldstack.metrics.metric import Metric

# Means over the columns whose target varies, and metrics that require more than one class.
OVER_VARYING = frozenset(
    {"roc_auc", "roc_auc_ovr", "average_precision", "r2", "pearson", "spearman"}
)
OF_SEVERAL_CLASSES = frozenset({"balanced_accuracy", "matthews", "quadratic_kappa"})


def defined_columns(metric: Metric, targets: np.ndarray) -> np.ndarray:
    """Return whether good predictions have a score on these rows.

    Args:
        metric: one of the table, or of the user's own.
        targets: (n, outputs).

    Returns:
        (outputs,) bool for a mean over columns; otherwise (1,) for all of them together.
    """
    if metric.is_own:
        score = metric.score(targets, _nearly(metric, targets)) if len(targets) else np.nan
        return np.array([not np.isnan(score)])
    varying = (targets != targets[:1]).any(axis=0)
    if metric.name in OVER_VARYING:
        return varying
    return np.array([len(targets) > 0 and (metric.name not in OF_SEVERAL_CLASSES or varying.any())])


def _nearly(metric: Metric, targets: np.ndarray) -> np.ndarray:
    """Return predictions that are nearly right, but not certain, for an own metric."""
    (kind,) = metric.kinds  # an own metric is made for one
    toward = 1 / targets.shape[1] if kind.is_one_hot else 0.5
    if kind.is_values:
        toward = targets.mean(axis=0)
    return targets if metric.wants == "labels" else 0.8 * targets + 0.2 * toward


def try_on(metric: Metric, targets: np.ndarray, path: Path) -> None:
    """Raise InputError if an own metric fails, or returns no finite number, for good predictions.

    Otherwise it would fail after hours of training. The predictions are nearly right, but not certain,
    since a certain mistake has an infinite log loss.

    Args:
        targets: (n, outputs) of all training rows.
        path: of metrics.py.
    """
    score = metric.score(targets, _nearly(metric, targets))
    if not np.isfinite(score):
        name = metric.name.removeprefix("metrics.py:")
        raise InputError(
            f"{path}: {name} gives {score} for predictions that are nearly right for all "
            f"{len(targets):,} training rows: a metric is a finite number there"
        )
