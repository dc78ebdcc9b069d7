"""Decisions of least expected cost, from probabilities and the costs of `foldstack.costs`.

Elkan 2001, "The Foundations of Cost-Sensitive Learning": the best decision for a row minimises the
sum over the truths of probability times cost. It needs no fitting, but calibrated probabilities; for
two outcomes it is a threshold.
"""

from __future__ import annotations

import numpy as np

from foldstack.costs import Costs
from foldstack.ensemble.thresholds import (
    MIDDLE,
    ROUNDING,
    Sweep,
    columns,
    own_share,
    shrink,
)
from foldstack.kinds import Kind


def _dearer(kind: Kind, costs: Costs) -> tuple[np.ndarray, np.ndarray]:
    """Return the extra cost of a false positive and of a false negative, (outputs,) each."""
    table = np.array(costs)
    if kind.several_labels_per_row:
        return table[:, 0], table[:, 1]
    return table[:1, 1] - table[:1, 0], table[1:, 0] - table[1:, 1]


def least_cost_thresholds(kind: Kind, costs: Costs) -> np.ndarray:
    """Return (outputs,) thresholds, for binary and multilabel, from which a positive is cheaper.

    Elkan's equation 2: p* = (c10 - c00) / (c10 - c00 + c01 - c11), where cij is the cost of deciding
    i if j is the truth. It is .5 if a label's mistakes cost nothing.
    """
    false_positive, false_negative = _dearer(kind, costs)
    both = false_positive + false_negative
    return np.divide(false_positive, both, out=np.full(len(both), MIDDLE), where=both > 0)


def least_cost_class(probabilities: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return (n,) the first class of least expected cost; costs are (classes, classes)."""
    # BLAS rounds a row depending on the rows beside it.
    return np.einsum("nt,td->nd", probabilities, costs).argmin(axis=1)


def fitted_thresholds(
    kind: Kind, costs: Costs, targets: np.ndarray, probabilities: np.ndarray, shrinkage: float
) -> np.ndarray:
    """Return thresholds of the least cost on these rows, for binary and multilabel.

    Exact for binary; per-label thresholds are shrunk (see `thresholds.shrink`) towards those that are
    best for calibrated probabilities. Of equally good ones the nearest to those are taken.

    Args:
        kind: binary or multilabel.
        costs: as `foldstack.costs.cost_table` returns them.
        targets: (n, outputs) of 0/1.
        probabilities: (n, outputs).
        shrinkage: k of `thresholds.own_share`.

    Returns:
        (outputs,) thresholds.
    """
    expected = least_cost_thresholds(kind, costs)
    parts = zip(columns(targets, probabilities), *_dearer(kind, costs), expected, strict=True)
    found = np.array([_cheapest(Sweep.of(*column), *of_column) for column, *of_column in parts])
    if kind.has_positive_class:
        return found
    positives = targets.sum(axis=0)
    rarer = np.minimum(positives, len(targets) - positives)
    return shrink(found, expected, own_share(rarer, shrinkage))


def _cheapest(sweep: Sweep, false_positive: float, false_negative: float, expected: float) -> float:
    saved = false_negative * sweep.tp - false_positive * sweep.fp
    best = saved >= saved.max() - ROUNDING
    if best[np.searchsorted(sweep.values, expected)]:
        return expected
    thresholds = sweep.thresholds(np.flatnonzero(best))
    return float(thresholds[np.abs(thresholds - expected).argmin()])
