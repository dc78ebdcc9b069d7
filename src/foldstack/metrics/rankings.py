"""Scores of rankings and of probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from foldstack.metrics.metric import OfSums, Prepared, Scorer, mean_of_rows, ratio, weighted_sum


@dataclass(frozen=True)
class _Sorted:
    """A column (n,) by ascending prediction: positions, targets, and starts of distinct predictions.

    Bootstraps score hundreds of times; with one sort this is many times faster than scikit-learn's.
    """

    order: np.ndarray
    target: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, target: np.ndarray, prediction: np.ndarray) -> _Sorted:
        order = np.argsort(prediction)
        values = prediction[order]
        starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
        return cls(order, target[order], starts)

    def ties(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights of (positives, negatives) at each distinct prediction, ascending."""
        weights = weights[self.order]
        positive = weights * self.target
        return (
            np.add.reduceat(positive, self.starts),
            np.add.reduceat(weights - positive, self.starts),
        )


def roc_auc_column(positives: np.ndarray, negatives: np.ndarray) -> float:
    # Mann-Whitney: a positive beats the negatives below it and half of those tied with it.
    below = np.cumsum(negatives) - negatives
    return weighted_sum(positives, below + negatives / 2) / (positives.sum() * negatives.sum())


def average_precision_column(positives: np.ndarray, negatives: np.ndarray) -> float:
    positives, negatives = positives[::-1], negatives[::-1]
    found = np.cumsum(positives)
    precision = ratio(found, found + np.cumsum(negatives))
    return weighted_sum(positives, precision) / found[-1]


def macro(column_score: Callable[[np.ndarray, np.ndarray], float]) -> Scorer:
    """Return a scorer: the mean score of the columns that hold both classes; nan without one.

    column_score: of the weights of positives and of negatives at each distinct prediction.
    """

    def of_rows(targets: np.ndarray, predictions: np.ndarray) -> Callable[[np.ndarray], float]:
        column = cache(lambda k: _Sorted.of(targets[:, k], predictions[:, k]))

        def score(weights: np.ndarray) -> float:
            positive, negative = weighted_sum(weights, targets), weighted_sum(weights, 1 - targets)
            both = np.flatnonzero((positive > 0) & (negative > 0)).tolist()
            scores = [column_score(*column(k).ties(weights)) for k in both]
            return np.mean(scores) if scores else np.nan

        return score

    return Prepared(of_rows)


def _clip(probabilities: np.ndarray) -> np.ndarray:
    # As in scikit-learn, so that one certain mistake costs 36 and not infinity.
    tiny = np.finfo(float).eps
    return np.clip(probabilities.astype(float), tiny, 1 - tiny)


def log_loss_columns(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    clipped = _clip(predictions)
    return -(targets * np.log(clipped) + (1 - targets) * np.log1p(-clipped)).mean(axis=1)


def log_loss_classes(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return -(targets * np.log(_clip(predictions))).sum(axis=1)


def _places(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return (n,) the place of each row's class by descending probability, the first of equals first."""
    given = targets.argmax(axis=1)[:, None]
    own = np.take_along_axis(probabilities, given, axis=1)
    before = (probabilities == own) & (np.arange(targets.shape[1]) < given)
    return 1 + ((probabilities > own) | before).sum(axis=1)


def mean_reciprocal_rank(top: int) -> OfSums:
    """Return the scorer MAP@k for one class per row: 1 / its place if that is at most `top`, else 0."""

    def value(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        places = _places(targets, probabilities)
        return (places <= top) / places

    return mean_of_rows(value)


def top_accuracy(top: int) -> OfSums:
    """Return a scorer: the share of rows whose class is among the `top` most probable."""
    return mean_of_rows(lambda targets, probabilities: _places(targets, probabilities) <= top)
