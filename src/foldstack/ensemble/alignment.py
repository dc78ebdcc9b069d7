"""Alignment of a model's runs by their predictions for the same unlabelled rows.

Out-of-fold predictions pooled over folds mix runs whose scores are distributed differently: one
predicts .9 where another predicts .99. Every run predicts every test row, so this lowers the estimate
only, never a submission (Forman and Scholz 2010, "Apples-to-apples in cross-validation studies"). The
runs' distributions on the test rows are compared without labels: each run is mapped to their average,
the mean of their quantile functions (their Wasserstein barycenter).

Runs of unequal skill should not get equal distributions: a run that ranks the rows at random would
speak as loudly as the others. The log odds of a calibrated run spread in proportion to its correlation
with the truth, so the average distribution is scaled by each run's agreement with the other runs (rank
correlation with their mean rank) relative to the mean agreement. A collapsed run becomes a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import expit

from foldstack.kinds import Kind
from foldstack.links import to_logits, within_run_ranks

# For other kinds a decision compares the outputs of one run in one row.
KINDS = {kind for kind in Kind if kind.decides_by_thresholds}
ROWS_PER_KNOT, FEWEST, MOST = 10, 10, 200  # rows per quantile; number of quantiles (knots)
# Soft F1 drives probabilities to 1e-30; clipping them would create ties.
_log_odds = partial(to_logits, least=np.finfo(np.float64).tiny)


def align(
    tests: Sequence[np.ndarray], otherwise: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> list[Callable[[np.ndarray], np.ndarray]]:
    """Return, per run, a map of its probabilities (n, outputs) that keeps the order within an output.

    tests: each run's predictions for the same rows, (t, outputs). otherwise: the map below 100 rows.
    """
    knots = min(len(tests[0]) // ROWS_PER_KNOT, MOST)
    if knots < FEWEST:
        return [otherwise] * len(tests)
    levels = (np.arange(knots) + 0.5) / knots
    own = [np.quantile(_log_odds(test), levels, axis=0) for test in tests]
    common = np.mean(own, axis=0)
    centre = np.median(common, axis=0)
    return [
        partial(_mapped, own=each, common=centre + (common - centre) * scale)
        for each, scale in zip(own, _relative_agreement(tests), strict=True)
    ]


def _relative_agreement(tests: Sequence[np.ndarray]) -> np.ndarray:
    """Return (runs, outputs) rank correlations with the mean rank of the other runs, of mean 1."""
    ranks = np.stack([within_run_ranks(test) for test in tests])
    ranks -= ranks.mean(axis=1, keepdims=True)
    others = ranks.sum(axis=0) - ranks
    norms = np.sqrt((ranks**2).sum(axis=1) * (others**2).sum(axis=1))
    agreement = np.divide((ranks * others).sum(axis=1), norms, where=norms > 0, out=0 * norms)
    agreement = np.clip(agreement, 0, None)
    mean = agreement.mean(axis=0)
    return np.divide(agreement, mean, where=mean > 0, out=np.ones_like(agreement))


def _mapped(values: np.ndarray, own: np.ndarray, common: np.ndarray) -> np.ndarray:
    given = _log_odds(values)
    # Beyond the outermost quantiles the shift is constant.
    inside = np.clip(given, own[0], own[-1])
    columns = [np.interp(*each) for each in zip(inside.T, own.T, common.T, strict=True)]
    return expit(np.column_stack(columns) + (given - inside))
