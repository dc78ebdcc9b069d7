"""Weights on the simplex by smooth surrogates of a metric, as starts for a search on the metric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from foldstack.kinds import Kind
from foldstack.metrics import Metric

ROWS = 20_000  # enough for a start
PAIRS = 20_000  # (positive, negative) pairs per column

# From blended values to their mean loss and its gradient.
SmoothLoss = Callable[[np.ndarray], tuple[float, np.ndarray]]


def fit_surrogate(
    metric: Metric,
    kind: Kind,
    predictions: np.ndarray,
    targets: np.ndarray,
    lowest: float,
    seed: int,
) -> np.ndarray | None:
    """Return weights (models,) that sum to one, by SLSQP.

    The surrogate is a logistic loss of the differences between positives and negatives for ranking
    metrics, soft F1 (probabilities instead of decisions) for F1 and Jaccard, squared error for
    regression, and otherwise the log loss. It uses at most `ROWS` rows or `PAIRS` pairs.

    Args:
        metric: decides which surrogate.
        kind: of the competition.
        predictions: (outputs, models, n).
        targets: (n, outputs).
        lowest: the smallest weight, 0 or below.
        seed: of the sample of rows or pairs.

    Returns:
        The weights; None if the rows determine none.
    """
    rng = np.random.default_rng(seed)
    if metric.wants == "ranking":
        found = _pairs(predictions, targets, rng)
        return None if found is None else _minimise(*found, lowest)
    if len(targets) > ROWS:
        rows = np.sort(rng.choice(len(targets), ROWS, replace=False))
        predictions, targets = predictions[:, :, rows], targets[rows]
    if kind.is_values:
        return _minimise(predictions, _squared_error(targets.T), lowest)
    if kind.is_one_hot:
        rows = np.arange(len(targets))
        given = predictions[targets.argmax(axis=1), :, rows].T[None]
        return _minimise(given, _log_loss, lowest)
    if metric.wants == "labels" and metric.name.startswith(("f1", "jaccard")):
        return _minimise(predictions, _soft_f1(targets.T), lowest)
    # Weights sum to one, so the blend's probability of the truth is the blend of the models'.
    given = np.where(targets.T[:, None, :] > 0, predictions, 1 - predictions)
    return _minimise(given, _log_loss, lowest)


def _minimise(data: np.ndarray, loss: SmoothLoss, lowest: float) -> np.ndarray:
    models = data.shape[1]

    def value_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        # BLAS sums depend on the number of threads.
        value, gradient = loss(np.einsum("omn,m->on", data, weights))
        return value, np.einsum("omn,on->m", data, gradient)

    found = minimize(
        value_and_gradient,
        np.full(models, 1 / models),
        jac=True,
        method="SLSQP",
        bounds=[(lowest, None)] * models,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"maxiter": 100, "ftol": 1e-9},
    )
    if not np.isfinite(found.x).all():
        return np.full(models, 1 / models)
    weights = np.maximum(found.x, lowest)
    weights[weights.argmax()] += 1 - weights.sum()
    return weights


def _log_loss(given: np.ndarray) -> tuple[float, np.ndarray]:
    given = np.maximum(given, 1e-9)
    return -np.log(given).mean(), -1 / (given * given.size)


def _soft_f1(targets: np.ndarray) -> SmoothLoss:
    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        twice = 2 * (targets * values).sum(axis=1, keepdims=True)
        total = targets.sum(axis=1, keepdims=True) + values.sum(axis=1, keepdims=True) + 1e-9
        gradient = (2 * targets * total - twice) / total**2
        return -(twice / total).mean(), -gradient / len(targets)

    return loss


def _squared_error(targets: np.ndarray) -> SmoothLoss:
    variance = np.maximum(targets.var(axis=1, keepdims=True), 1e-12)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        missed = (values - targets) / variance
        return (missed**2 * variance).mean(), 2 * missed / values.size

    return loss


def _pairs(
    predictions: np.ndarray, targets: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, SmoothLoss] | None:
    """Return differences (columns, models, pairs) of random pairs, and their logistic loss."""
    differences = []
    for target, values in zip(targets.T, predictions, strict=True):
        positive, negative = np.flatnonzero(target > 0), np.flatnonzero(target <= 0)
        if len(positive) and len(negative):
            above, below = rng.choice(positive, PAIRS), rng.choice(negative, PAIRS)
            differences.append(values[:, above] - values[:, below])
    if not differences:
        return None
    data = np.stack(differences)
    scale = max(data.mean(axis=1).std(), 1e-12)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        values = values / scale
        return np.logaddexp(0, -values).mean(), -expit(-values) / (scale * values.size)

    return data, loss
