"""How far the nested score is above truth because training rows are shared, and how far it scatters.

An out-of-fold prediction of a row in fold i comes from a run that learned the labels of fold j. So
the score on fold i, by which a model is chosen for fold j, and the score on fold j itself contain the
same products of labels: the influence of a label in j on the prediction of a row in i, and the other
way round. For a linear smoother the two influences are equal (its matrix is symmetric). Hence:

- Scores of different folds are correlated, and the variance of their mean is larger than the bootstrap
  over rows shows (Bengio and Grandvalet 2004, "No unbiased estimator of the variance of K-fold
  cross-validation": it cannot be seen in the scores).
- A choice for fold j from the other folds' scores knows something of fold j's score.

The size of the influence is seen without labels: K runs predict the same test rows and differ by the
folds that they lack. If each fold adds an independent part to a prediction, the variance between runs
(divisor K - 1) is the mean square of one fold's part: the jackknife. Its share `h` of the
predictions' variance is the share of the score's variance that a pair of folds has in common. With
uninformative labels all variance is such, and h = 1 / (K - 1), which is its limit.

With V the variance, over rows, of the differences between models' scores on K - 1 folds, the
differences on fold j have the covariance (K - 1) h V with these, and the regression coefficient
    beta = (K - 1) h V / max(S, (1 + (K - 2) h) V),
where S is the observed variance between models. The expected optimism of a model chosen for fold j
is beta times the lead of its score, and that of a weighted mean the mean of the leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import median_abs_deviation

FAR = 3.0  # standard deviations, beyond which a model's lead counts as that much


@dataclass(frozen=True)
class SharedTraining:
    """The correction of a nested score for runs that share training rows; by default there is none.

    optimism: taken off the score, larger is better. variance_ratio: by which the bootstrap's variance
    is multiplied.
    """

    optimism: float = 0.0
    variance_ratio: float = 1.0


def shared_variance(predictions: np.ndarray, *, between_models: bool = False) -> float:
    """Return the share h of the predictions' variance that one fold's labels account for.

    Args:
        predictions: (runs, rows, models, outputs) ranks of the same rows.
        between_models: of the differences between models, instead of the predictions themselves.

    Returns:
        A number from 0 to 1 / (runs - 1).
    """
    runs = len(predictions)
    if between_models:
        predictions = predictions - predictions.mean(axis=2, keepdims=True)
    between = predictions.var(axis=0, ddof=1).mean(axis=0).sum()
    total = predictions.var(axis=1).mean(axis=0).sum()
    return float(min(between / total, 1 / (runs - 1))) if total > 0 else 0.0


def variance_ratio(predictions: np.ndarray) -> float:
    """Return the variance of a pooled score relative to what the bootstrap over rows shows, from 1 to 2.

    predictions: (runs, rows, outputs) ranks of the same rows by the runs of each fold.
    """
    return 1 + (len(predictions) - 1) * shared_variance(predictions[:, :, None])


def difference_variance_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Return `variance_ratio` of the difference between two models' scores, from 1 to 2.

    a, b: (runs, rows, outputs) ranks of the same rows by each model's runs, one per fold.
    """
    both = np.stack([a, b], axis=2)
    return 1 + (len(both) - 1) * shared_variance(both, between_models=True)


def leads(scores: np.ndarray, covariance: np.ndarray, shared: float, folds: int) -> np.ndarray:
    """Return how far each model's score on a held-out fold is above truth, given the other folds'.

    Args:
        scores: (models,) on the other folds, larger is better.
        covariance: (models, models) of these scores over resamples of rows.
        shared: h, of the differences between models.
        folds: K.

    Returns:
        (models,) with mean 0; zeros for a single model.
    """
    models = len(scores)
    if models < 2 or not np.isfinite(scores).all() or not np.isfinite(covariance).all():
        return np.zeros(models)
    variance = (np.trace(covariance) - covariance.mean() * models) / (models - 1)
    spread = median_abs_deviation(scores, scale="normal")
    total = max(spread**2, (1 + (folds - 2) * shared) * variance)
    if total <= 0:
        return np.zeros(models)
    lead = scores - np.median(scores)
    lead = np.clip(lead, -FAR * np.sqrt(total), FAR * np.sqrt(total))
    return (folds - 1) * shared * variance / total * (lead - lead.mean())


def effective_weights(models: np.ndarray, blended: np.ndarray) -> np.ndarray:
    """Return the non-negative weights (models,), of sum 1, with which a blend follows its models.

    Args:
        models: (rows, models, outputs) ranks of some rows.
        blended: (rows, outputs) ranks of the blend for the same rows.
    """
    by_model = np.moveaxis(models - models.mean(axis=0), 1, 2).reshape(-1, models.shape[1])
    weights, _ = nnls(by_model, (blended - blended.mean(axis=0)).ravel())
    if not weights.sum() > 0:
        return np.full(len(weights), 1 / len(weights))
    return weights / weights.sum()
