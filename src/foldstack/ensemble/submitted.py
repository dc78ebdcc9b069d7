"""The score of what is submitted: a mean over the runs of all folds, which no held-out row tests.

A held-out row is predicted by the runs of one fold, a test row by the mean of all. By how much the mean
is better is estimated on test rows without their labels: labels are drawn from the probabilities of the
runs, calibrated on the out-of-fold rows, and the mean and the single runs are scored against them. If
the labels depend on the texts as these probabilities say, the expected difference is the true one,
whatever the metric. For the squared error it is the variance between runs (Krogh and Vedelsby 1995,
"Neural network ensembles, cross validation, and active learning").

Out-of-fold rows calibrate single runs. What differs between runs is noise, which weakens the slope of a
calibration (Carroll et al. 2006, "Measurement Error in Nonlinear Models", regression dilution), and the
mean of runs has less of it: its slope is larger by the variance of a run's log odds over the mean's.

What the winner, chosen on all folds, has over the winners chosen without one is not counted.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, softmax

from foldstack.ensemble.calibration import calibrate
from foldstack.ensemble.estimate import Estimate
from foldstack.kinds import Kind
from foldstack.links import TINY, to_logits
from foldstack.metrics import Metric

DRAWS = 30


def averaging_gain(
    metric: Metric, of_runs: np.ndarray, of_mean: np.ndarray, drawn: np.ndarray
) -> float:
    """Return how much better the mean scores than a single run, against drawn labels.

    Args:
        metric: scores them.
        of_runs: (runs, rows, outputs) what single runs would submit.
        of_mean: (rows, outputs) what is submitted.
        drawn: (draws, rows, outputs) targets.

    Returns:
        The mean difference, positive if the mean is better; 0 if it is defined in no draw.
    """
    gains = [
        metric.signed(targets, of_mean) - np.mean([metric.signed(targets, run) for run in of_runs])
        for targets in drawn
    ]
    defined = np.isfinite(gains)
    return float(np.mean(np.array(gains)[defined])) if defined.any() else 0.0


def draw_targets(
    kind: Kind,
    oof: np.ndarray,
    targets: np.ndarray,
    of_runs: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Draw targets of test rows as the runs predict them.

    Args:
        kind: of the competition.
        oof: (n, outputs) out-of-fold predictions, undecided.
        targets: (n, outputs) of the same rows.
        of_runs: (runs, rows, outputs) test predictions of single runs, undecided.
        seed: of the draws.

    Returns:
        (draws, rows, outputs): 0/1, or for regression the mean prediction with a residual of an
        out-of-fold row.
    """
    rng = np.random.default_rng(seed)
    if kind.is_values:
        return _draw_values(rng, oof, targets, of_runs)
    calibration = calibrate("platt", kind, oof, targets)
    calibrated = np.stack([calibration.apply(run) for run in of_runs])
    log_odds = (
        to_logits(calibrated) if not kind.is_one_hot else np.log(np.clip(calibrated, TINY, 1))
    )
    steeper = _undiluted(log_odds)
    # By chance a calibration may fall: its outputs then tell nothing of the rows.
    together = (of_runs - of_runs.mean(axis=(0, 1))) * (log_odds - log_odds.mean(axis=(0, 1)))
    steeper = np.where(together.sum(axis=(0, 1)) > 0, steeper, steeper.mean(axis=0))
    if not kind.is_one_hot:
        rates = calibrated.mean(axis=(0, 1))
        pairs = zip(steeper.T, rates, strict=True)
        probabilities = np.column_stack([_with_rate(column, rate) for column, rate in pairs])
        return (rng.random((DRAWS, *probabilities.shape)) < probabilities).astype(float)
    edges = softmax(steeper, axis=1).cumsum(axis=1)
    points = rng.random((DRAWS, len(edges), 1))
    return np.eye(edges.shape[1])[(points > edges[None, :, :-1]).sum(axis=2)]


def _draw_values(
    rng: np.random.Generator, oof: np.ndarray, targets: np.ndarray, of_runs: np.ndarray
) -> np.ndarray:
    """Draw (draws, rows, outputs) values around the mean prediction, calibrated linearly."""
    centred = oof - oof.mean(axis=0)
    slope = (centred * targets).sum(axis=0) / np.maximum((centred**2).sum(axis=0), TINY)
    mean = targets.mean(axis=0) + slope * (_undiluted(of_runs) - of_runs.mean(axis=(0, 1)))
    residuals = targets - targets.mean(axis=0) - slope * centred
    explained = slope**2 * (_undiluted(of_runs).var(axis=0) - of_runs.var(axis=1).mean(axis=0))
    left = np.clip(1 - explained / np.maximum(residuals.var(axis=0), TINY), 0.1, 1)
    picked = rng.integers(len(residuals), size=(DRAWS, of_runs.shape[1]))
    return mean + residuals[picked] * np.sqrt(left)


def _undiluted(values: np.ndarray) -> np.ndarray:
    """Return (rows, outputs) the mean over runs, spread out by the noise that averaging removes.

    values: (runs, rows, outputs), calibrated run by run.
    """
    mean = values.mean(axis=0)
    of_mean = mean.var(axis=0)
    ratio = np.divide(
        values.var(axis=1).mean(axis=0), of_mean, where=of_mean > 0, out=1 + 0 * of_mean
    )
    return mean.mean(axis=0) + ratio * (mean - mean.mean(axis=0))


def _with_rate(log_odds: np.ndarray, rate: float) -> np.ndarray:
    """Return probabilities of log odds (rows,), shifted so that their mean is `rate`."""
    far = np.abs(log_odds).max() + 40
    return expit(log_odds + brentq(lambda by: expit(log_odds + by).mean() - rate, -far, far))


def shifted(nested: Estimate, gain: float, sign: int, bounds: tuple[float, float]) -> Estimate:
    """Return the estimate of a single run, moved by the gain of the mean.

    Half of the gain counts as its standard error.
    """
    score = float(np.clip(nested.score + sign * gain, *bounds))
    error = float(np.hypot(nested.standard_error, gain / 2))
    low, high = np.clip([score - 1.96 * error, score + 1.96 * error], *bounds)
    return Estimate(score, float(low), float(high), error, nested.undefined_share)
