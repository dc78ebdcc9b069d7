"""Scores of numbers: errors and correlations, means over the columns."""

from __future__ import annotations

import numpy as np

from foldstack.metrics.metric import OfSums, Scorer, ratio, weighted_sum


def rmse(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    return np.sqrt(np.average((targets - predictions) ** 2, axis=0, weights=weights)).mean()


def rmsle(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    # Predictions below 0 count as 0: a model of prices may give them, and their logarithm is none.
    return rmse(np.log1p(targets), np.log1p(np.maximum(predictions, 0)), weights)


def mse(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    return np.average((targets - predictions) ** 2, axis=0, weights=weights).mean()


def mae(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    return np.average(np.abs(targets - predictions), axis=0, weights=weights).mean()


def mean_of_varying(column_score: Scorer) -> Scorer:
    """Return a scorer: the mean score of the columns whose target varies; nan without one."""

    def score(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        present = weights > 0
        targets, predictions = targets[present], predictions[present].astype(float)
        varying = np.flatnonzero((targets != targets[0]).any(axis=0))
        scores = [column_score(targets[:, k], predictions[:, k], weights[present]) for k in varying]
        return np.mean(scores) if scores else np.nan

    return score


def _kappa_sums(targets: np.ndarray, decisions: np.ndarray) -> list[np.ndarray]:
    # Kappa does not change if a number is added to all values; near 0 sums of squares are precise.
    middle = targets.mean(axis=0)
    t, p = targets - middle, decisions - middle
    return [np.ones(len(t)), t, p, t**2, p**2, (t - p) ** 2]


def _kappa_of_sums(weight, t, p, t2, p2, apart) -> float:
    chance = weight * (t2 + p2) - 2 * t * p
    varying = weight * t2 - t**2 > 1e-9 * weight * t2
    return (1 - weight * apart[varying] / chance[varying]).mean() if varying.any() else np.nan


# As for classes, by the distances between the values themselves. The squared distance that is expected
# by chance is a sum over all pairs of rows, which sums over rows give.
quadratic_kappa = OfSums(_kappa_sums, _kappa_of_sums)


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return values - np.average(values, weights=weights)


def r2_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    missed, spread = (target - prediction) ** 2, _centred(target, weights) ** 2
    return 1 - weighted_sum(weights, missed) / weighted_sum(weights, spread)


def pearson_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    # A constant prediction of a varying target has no correlation. Excluded as undefined, it would
    # raise the mean over the columns.
    if (prediction == prediction[0]).all():
        return 0.0
    target, prediction = _centred(target, weights), _centred(prediction, weights)
    spread = np.sqrt(weighted_sum(weights, target**2)) * np.sqrt(
        weighted_sum(weights, prediction**2)
    )
    return np.clip(ratio(weighted_sum(weights, target * prediction), spread), -1, 1)


def _mid_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return average ranks of rows, each repeated by its weight, up to a constant."""
    _, where = np.unique(values, return_inverse=True)
    standing = np.bincount(where, weights=weights)
    return (np.cumsum(standing) - standing / 2)[where]


def spearman_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    return pearson_column(_mid_ranks(target, weights), _mid_ranks(prediction, weights), weights)
