"""Scores of decisions 0/1, most of them from confusion counts (tp, fp, fn, tn)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foldstack.costs import Costs, row_costs
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.metrics.metric import Metric, OfSums, mean_of_rows, ratio, weighted_sum

Counted = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _confusions(targets: np.ndarray, decisions: np.ndarray) -> list[np.ndarray]:
    """Return [tp, fp, fn, tn] per row and output, each (n, outputs)."""
    # Products, since differences of weighted sums need not be 0 for a count of 0.
    no_target, no_decision = 1 - targets, 1 - decisions
    return [
        targets * decisions,
        no_target * decisions,
        targets * no_decision,
        no_target * no_decision,
    ]


def of_counts(score: Callable[..., float]) -> OfSums:
    """Return a scorer from a function of (tp, fp, fn, tn), each (outputs,)."""
    return OfSums(_confusions, score)


def _f1(tp, fp, fn, tn):
    return ratio(2 * tp, 2 * tp + fp + fn)


def _precision(tp, fp, fn, tn):
    return ratio(tp, tp + fp)


def _recall(tp, fp, fn, tn):
    return ratio(tp, tp + fn)


def _jaccard(tp, fp, fn, tn):
    return ratio(tp, tp + fp + fn)


def _binary_macro(one: Counted) -> Counted:
    def score(tp, fp, fn, tn):
        # A class neither given nor predicted takes no part, as in scikit-learn.
        present = (tp + fp + fn > 0).astype(float) + (tn + fp + fn > 0)
        return ratio(one(tp, fp, fn, tn) + one(tn, fn, fp, tp), present)

    return score


def _binary_accuracy(tp, fp, fn, tn):
    return ratio(tp + tn, tp + fp + fn + tn)


def _binary_balanced_accuracy(tp, fp, fn, tn):
    recalls = (ratio(tp, tp + fn) + ratio(tn, tn + fp)) / 2
    return np.where((tp + fn > 0) & (tn + fp > 0), recalls, np.nan)


def _binary_matthews(tp, fp, fn, tn):
    spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    both = (tp + fn > 0) & (tn + fp > 0)
    return np.where(both, ratio(tp * tn - fp * fn, spread), np.nan)


# Averaged over classes or labels (micro, macro, weighted), or over rows (samples).
AVERAGED: dict[str, Counted] = {
    "f1": _f1,
    "precision": _precision,
    "recall": _recall,
    "jaccard": _jaccard,
}
FROM_COUNTS: dict[str, Counted] = {
    **AVERAGED,
    **{f"{name}_macro": _binary_macro(one) for name, one in AVERAGED.items()},
    "accuracy": _binary_accuracy,
    "balanced_accuracy": _binary_balanced_accuracy,
    "matthews": _binary_matthews,
}


def from_counts(
    name: str, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray
) -> np.ndarray:
    """Return a binary metric of decisions from confusion counts, elementwise over arrays of counts.

    Args:
        name: one of `FROM_COUNTS`: f1, precision, recall, jaccard, each also as macro, accuracy,
            balanced_accuracy, matthews.
        tp, fp, fn, tn: true and false positives, false and true negatives, of one shape.

    Returns:
        Scores of that shape; nan if the metric is undefined.
    """
    return FROM_COUNTS[name](tp, fp, fn, tn)


def binary(name: str) -> OfSums:
    return of_counts(lambda *counts: from_counts(name, *counts)[0])


def macro_classes(one: Counted) -> OfSums:
    def score(tp, fp, fn, tn):
        return ratio(one(tp, fp, fn, tn).sum(), (tp + fp + fn > 0).sum())

    return of_counts(score)


def macro_labels(one: Counted) -> OfSums:
    return of_counts(lambda *counts: one(*counts).mean())


def weighted(one: Counted) -> OfSums:
    def score(tp, fp, fn, tn):
        support = tp + fn
        return ratio(support @ one(tp, fp, fn, tn), support.sum())

    return of_counts(score)


def micro(one: Counted) -> OfSums:
    return of_counts(lambda *counts: one(*(count.sum() for count in counts)))


def _row_counts(targets: np.ndarray, decisions: np.ndarray) -> tuple:
    """Return (tp, fp, fn, tn) per row over its labels, each (n,)."""
    tp, given, decided = (x.sum(axis=1) for x in (targets * decisions, targets, decisions))
    return tp, decided - tp, given - tp, targets.shape[1] - given - decided + tp


def samples(one: Counted) -> OfSums:
    return mean_of_rows(lambda targets, decisions: one(*_row_counts(targets, decisions)))


def jaccard_rows(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    tp, fp, fn, _ = _row_counts(targets, decisions)
    # A row without labels, given or predicted, is right, unlike with zero_division=0.
    empty = tp + fp + fn == 0
    return np.where(empty, 1.0, _jaccard(tp, fp, fn, 0))


def rows_right(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    # Equality of whole rows: of classes for one-hot rows, subset accuracy for labels.
    return (targets == decisions).all(axis=1).astype(float)


def balanced_accuracy(tp, fp, fn, tn):
    present = tp + fn > 0
    return (tp[present] / (tp + fn)[present]).mean() if present.sum() > 1 else np.nan


def matthews(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    # Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation".
    given, predicted, total = (
        weighted_sum(weights, targets),
        weighted_sum(weights, decisions),
        weights.sum(),
    )
    if (given > 0).sum() < 2:
        return np.nan
    correct = weighted_sum(weights, targets * decisions).sum()
    spread = np.sqrt(max(total**2 - predicted @ predicted, 0.0)) * np.sqrt(
        max(total**2 - given @ given, 0.0)
    )
    return ratio(correct * total - given @ predicted, spread)


def quadratic_kappa(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    # Cohen 1968, "Weighted kappa": 1 minus the mean squared distance between given and predicted
    # class, divided by its value if the two were independent. With one class given it is 0 for any
    # prediction, as uninformative as Matthews' coefficient is there.
    given, predicted = weighted_sum(weights, targets), weighted_sum(weights, decisions)
    if (given > 0).sum() < 2:
        return np.nan
    classes = np.arange(targets.shape[1])
    observed = weighted_sum(weights, ((targets - decisions) @ classes) ** 2)
    apart = (classes[:, None] - classes) ** 2
    return 1 - observed * weights.sum() / (given @ apart @ predicted)


# --- costs ------------------------------------------------------------------------------------


def cost_metric(kind: Kind, kinds: frozenset[str], costs: Costs | None) -> Metric:
    """Return the metric of the mean cost of decisions over rows (multilabel: over rows and labels)."""
    if costs is None:
        raise InputError(
            "metric 'cost' requires `costs` in competition.yaml, and to be `metric` or in "
            "`report_metrics` there"
        )

    scorer = mean_of_rows(lambda targets, decisions: row_costs(kind, costs, targets, decisions))
    if kind.several_labels_per_row:
        bounds = (0.0, float(np.mean([max(label) for label in costs])))
    else:
        bounds = (min(map(min, costs)), max(map(max, costs)))
    return Metric("cost", kinds, "labels", False, bounds, scorer, costs)


def without_costs(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    raise ValueError("`get` makes the metric 'cost' from costs")
