"""The score of what is submitted: a mean over the runs of all folds, which no held-out row tests.

A held-out row is predicted by the runs of one fold, a test row by the mean of all. By how much the mean
is better is estimated on test rows without their labels: labels are drawn from the probabilities of the
runs, calibrated on the out-of-fold rows, and the mean and the single runs are scored against them. If
the labels depend on the texts as these probabilities say, the expected difference is the true one,
whatever the metric. For the squared error it is the variance between runs (Krogh and Vedelsby 1995,
"Neural network ensembles, cross validation, and active learning"). The probabilities are the mean of
the runs' own, which is less confident than a mean of runs deserves: the gain is rather too small.
"""

from __future__ import annotations

import numpy as np

from foldstack.ensemble.calibration import calibrate
from foldstack.ensemble.estimate import Estimate
from foldstack.kinds import Kind
from foldstack.metrics import Metric

DRAWS = 30


def averaging_gain(
    metric: Metric,
    of_runs: np.ndarray,
    of_mean: np.ndarray,
    drawn: np.ndarray,
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
        residuals = targets - oof
        rows = of_runs.shape[1]
        picked = rng.integers(len(residuals), size=(DRAWS, rows))
        return of_runs.mean(axis=0) + residuals[picked]
    calibration = calibrate("platt", kind, oof, targets)
    probabilities = np.mean([calibration.apply(run) for run in of_runs], axis=0)
    if not kind.is_one_hot:
        return (rng.random((DRAWS, *probabilities.shape)) < probabilities).astype(float)
    edges = probabilities.cumsum(axis=1)
    points = rng.random((DRAWS, len(edges), 1)) * edges[None, :, -1:]
    return np.eye(edges.shape[1])[(points > edges[None]).sum(axis=2)]


def shifted(nested: Estimate, gain: float, sign: int, bounds: tuple[float, float]) -> Estimate:
    """Return the estimate of a single run, moved by the gain of the mean.

    Half of the gain counts as its standard error.
    """
    score = float(np.clip(nested.score + sign * gain, *bounds))
    error = float(np.hypot(nested.standard_error, gain / 2))
    low, high = np.clip([score - 1.96 * error, score + 1.96 * error], *bounds)
    return Estimate(score, float(low), float(high), error)
