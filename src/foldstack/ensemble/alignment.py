"""Runs of one model made comparable, by what each predicts for the same unlabelled rows.

Pooled over folds, out-of-fold predictions mix runs of which one says .9 where another says .99. A test
row is predicted by all of them alike, so this costs the estimate what it never costs a submission
(Forman and Scholz 2010, "Apples-to-apples in cross-validation studies"). All runs predict the test
rows, and no label is needed to see how they differ there: each is given the distribution that they
have on average, the mean of their quantile functions (their Wasserstein barycenter).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import expit

from foldstack.kinds import Kind
from foldstack.links import to_logits

# Elsewhere a decision compares what one run says of one row.
KINDS = {kind for kind in Kind if kind.decides_by_thresholds}
ROWS_A_KNOT, FEWEST, MOST = 10, 10, 200  # a quantile for so many rows; knots
# Soft F1 drives probabilities to 1e-30, and a cut would make ties of them.
_log_odds = partial(to_logits, least=np.finfo(np.float64).tiny)


def align(tests: Sequence[np.ndarray]) -> list[Callable[[np.ndarray], np.ndarray]]:
    """For each run a map of its probabilities (n, outputs), which keeps the order within an output.

    tests: what each run predicts for the same rows, (t, outputs). Below 100 rows nothing is changed.
    """
    knots = min(len(tests[0]) // ROWS_A_KNOT, MOST)
    if knots < FEWEST:
        return [np.asarray] * len(tests)
    levels = (np.arange(knots) + 0.5) / knots
    own = [np.quantile(_log_odds(test), levels, axis=0) for test in tests]
    return [partial(_mapped, own=each, common=np.mean(own, axis=0)) for each in own]


def _mapped(values: np.ndarray, own: np.ndarray, common: np.ndarray) -> np.ndarray:
    given = _log_odds(values)
    # Beyond the outermost quantiles all move by as much as they.
    inside = np.clip(given, own[0], own[-1])
    columns = [np.interp(*each) for each in zip(inside.T, own.T, common.T, strict=True)]
    return expit(np.column_stack(columns) + (given - inside))
