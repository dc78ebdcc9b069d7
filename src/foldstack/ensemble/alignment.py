"""Alignment of runs whose predictions are pooled.

Out-of-fold predictions pooled over folds mix runs whose scores are distributed differently: one
predicts .9 where another predicts .99. This lowers the estimate only, never a submission, since every
run predicts every new row (Forman and Scholz 2010, "Apples-to-apples in cross-validation studies").
Without labels each run is mapped to the average of the runs' distributions, the mean of their quantile
functions (their Wasserstein barycenter).

The distributions are compared on the rows that each run holds out, which are alike if folds are drawn
at random, so that no prediction depends on the test file; or on rows that all runs predict. Then
unequal skill is seen, too: the log odds of a calibrated run spread in proportion to its correlation
with the truth, so the average distribution is scaled by each run's agreement with the other runs (rank
correlation with their mean rank) relative to the mean agreement.
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


Aligned = Callable[[np.ndarray], np.ndarray]


def align(tests: Sequence[np.ndarray], otherwise: Aligned = np.asarray) -> list[Aligned]:
    """Return, per run, a map of its probabilities (n, outputs) that keeps the order within an output.

    tests: each run's predictions for the same rows, (t, outputs). otherwise: the map below 100 rows.
    """
    return _align(tests, lambda: _relative_agreement(tests), otherwise)


def align_held_out(held: Sequence[np.ndarray]) -> list[Aligned]:
    """Return, per run, a map as `align` does, by predictions of other rows of the same distribution.

    held: each run's predictions for the rows that it holds out, (its rows, outputs). Without rows in
    common, how far runs agree is not known: all get the same distribution.
    """
    return _align(held, lambda: np.ones((len(held), held[0].shape[1])), np.asarray)


def _align(
    samples: Sequence[np.ndarray], scales: Callable[[], np.ndarray], otherwise: Aligned
) -> list[Aligned]:
    """Return the maps of runs; `scales` returns (runs, outputs) factors of their log odds."""
    knots = min(min(map(len, samples)) // ROWS_PER_KNOT, MOST)
    if knots < FEWEST:
        return [otherwise] * len(samples)
    levels = (np.arange(knots) + 0.5) / knots
    own = [np.quantile(_log_odds(sample), levels, axis=0) for sample in samples]
    common = np.mean(own, axis=0)
    centre = np.median(common, axis=0)
    return [
        partial(_mapped, own=each, common=_over_ties(each, centre + (common - centre) * scale))
        for each, scale in zip(own, scales(), strict=True)
    ]


def _over_ties(own: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Return (knots, outputs) common quantiles, averaged where a run's own are equal.

    A run that predicts a constant is mapped to a constant.
    """
    columns = []
    for mine, theirs in zip(own.T, common.T, strict=True):
        _, place, count = np.unique(mine, return_inverse=True, return_counts=True)
        columns.append((np.bincount(place, theirs) / count)[place])
    return np.column_stack(columns)


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
