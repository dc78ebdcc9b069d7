"""Metrics by scikit-learn's scorer names, over arrays of one shape for every kind of target.

Targets and predictions are always (n, outputs): one 0/1 column for binary, one-hot rows for
multiclass, a 0/1 column a label for multilabel. The definitions are scikit-learn's, with
zero_division=0; unlike there, what is undefined (a ranking of one class only) is nan and never
a warning, since bootstraps meet it. They are written here, and tested against scikit-learn,
for two reasons: bootstraps score thousands of times, and the threshold search needs metrics of
decisions for all thresholds at once, by the very definition that scores them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from foldstack.errors import InputError, nearest

Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A metric, made for one kind of target by `get`.

    Attributes:
        name: scikit-learn's name for it.
        kinds: the kinds of target it is defined for: 'binary', 'multiclass', 'multilabel'.
        wants: what it scores: 'ranking' (only the order within a column counts),
            'probability', or 'labels' (decisions 0/1, one-hot for multiclass).
        greater_is_better: False for losses.
    """

    name: str
    kinds: frozenset[str]
    wants: str
    greater_is_better: bool
    scorer: Scorer = field(repr=False)

    def score(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """The metric of predictions (n, outputs) against targets (n, outputs).

        Args:
            weights: (n,) row weights, None for ones. A row of weight 0 counts as absent.

        Returns:
            The score; nan where it is undefined, such as roc_auc where one class is absent.

        Raises:
            ValueError: the shapes differ or are not (n, outputs).
        """
        if targets.ndim != 2 or targets.shape != predictions.shape:
            # Numpy would broadcast (n,) against (n, 1) to a wrong score without a word.
            raise ValueError(
                f"targets {targets.shape} and predictions {predictions.shape} "
                "must both be (n, outputs)"
            )
        weights = np.ones(len(targets)) if weights is None else np.asarray(weights, float)
        return float(self.scorer(targets, predictions, weights))

    def signed(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """`score`, with its sign turned for losses: larger is always better."""
        return self.sign * self.score(targets, predictions, weights)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value it can take."""
        if self.name == "log_loss":
            return 0.0, np.inf
        return (-1.0 if self.name == "matthews" else 0.0), 1.0

    @property
    def sign(self) -> float:
        """1.0 where greater is better, else -1.0."""
        return 1.0 if self.greater_is_better else -1.0


def get(name: str, kind: str) -> Metric:
    """The metric `name` for targets of `kind`.

    Raises:
        InputError: the name is unknown, or the metric is not defined for this kind.
    """
    if name not in _METRICS:
        raise InputError(f"metric '{name}' is not known: {nearest(name, _METRICS)}")
    wants, scorers = _METRICS[name]
    if kind not in scorers:
        fitting = ", ".join(other for other, (_, has) in _METRICS.items() if kind in has)
        raise InputError(
            f"metric '{name}' does not fit kind '{kind}' (it is for {', '.join(scorers)}): "
            f"choose one of {fitting}"
        )
    return Metric(name, frozenset(scorers), wants, name != "log_loss", scorers[kind])


# --- rankings and probabilities ---------------------------------------------------------------


def _ties(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> tuple:
    """Weights of (positives, negatives) at each distinct prediction, ascending, by one sort.

    Bootstraps score hundreds of times; this is several times faster than scikit-learn's.
    """
    order = np.argsort(prediction)
    values, weights = prediction[order], weights[order]
    positive = weights * target[order]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return np.add.reduceat(positive, starts), np.add.reduceat(weights - positive, starts)


def _roc_auc_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    # Mann-Whitney: a positive beats the negatives below it and half of those tied with it.
    positives, negatives = _ties(target, prediction, weights)
    below = np.cumsum(negatives) - negatives
    return positives @ (below + negatives / 2) / (positives.sum() * negatives.sum())


def _average_precision_column(
    target: np.ndarray, prediction: np.ndarray, weights: np.ndarray
) -> float:
    positives, negatives = (each[::-1] for each in _ties(target, prediction, weights))
    found = np.cumsum(positives)
    precision = _ratio(found, found + np.cumsum(negatives))
    return positives @ precision / found[-1]


def _macro(column_score: Scorer) -> Scorer:
    """The mean of a column's score over the columns that hold both classes; nan without one."""

    def score(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        positive = weights @ targets
        both = np.flatnonzero((positive > 0) & (weights @ (1 - targets) > 0))
        scores = [column_score(targets[:, k], predictions[:, k], weights) for k in both]
        return np.mean(scores) if scores else np.nan

    return score


def _clip(probabilities: np.ndarray) -> np.ndarray:
    # As scikit-learn does, so that one certain mistake costs 36 and not infinity.
    tiny = np.finfo(float).eps
    return np.clip(probabilities.astype(float), tiny, 1 - tiny)


def _log_loss_columns(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    clipped = _clip(predictions)
    losses = targets * np.log(clipped) + (1 - targets) * np.log1p(-clipped)
    return -np.average(losses.mean(axis=1), weights=weights)


def _log_loss_classes(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    losses = (targets * np.log(_clip(predictions))).sum(axis=1)
    return -np.average(losses, weights=weights)


# --- decisions: confusion counts (tp, fp, fn, tn) ---------------------------------------------


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    # 0 where the denominator is 0: scikit-learn's zero_division=0.
    denominator = np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)


def _counts(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> tuple:
    """Weighted (tp, fp, fn, tn), each (outputs,)."""
    no_target, no_decision = 1 - targets, 1 - decisions
    return (
        weights @ (targets * decisions),
        weights @ (no_target * decisions),
        weights @ (targets * no_decision),
        weights @ (no_target * no_decision),
    )


def _f1(tp, fp, fn, tn):
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _binary_f1_macro(tp, fp, fn, tn):
    # A class neither given nor predicted takes no part, as in scikit-learn.
    present = (tp + fp + fn > 0).astype(float) + (tn + fp + fn > 0)
    return _ratio(_f1(tp, fp, fn, tn) + _f1(tn, fn, fp, tp), present)


def _binary_accuracy(tp, fp, fn, tn):
    return _ratio(tp + tn, tp + fp + fn + tn)


def _binary_balanced_accuracy(tp, fp, fn, tn):
    recalls = (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2
    return np.where((tp + fn > 0) & (tn + fp > 0), recalls, np.nan)


def _binary_matthews(tp, fp, fn, tn):
    spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    both = (tp + fn > 0) & (tn + fp > 0)
    return np.where(both, _ratio(tp * tn - fp * fn, spread), np.nan)


_FROM_COUNTS = {
    "f1": _f1,
    "f1_macro": _binary_f1_macro,
    "accuracy": _binary_accuracy,
    "balanced_accuracy": _binary_balanced_accuracy,
    "matthews": _binary_matthews,
}


def from_counts(
    name: str, tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray
) -> np.ndarray:
    """A binary metric of decisions from confusion counts, elementwise over arrays of counts.

    Args:
        name: f1, f1_macro, accuracy, balanced_accuracy or matthews.
        tp, fp, fn, tn: true and false positives, false and true negatives, of one shape.

    Returns:
        Scores of that shape; nan where the metric is undefined.
    """
    return _FROM_COUNTS[name](tp, fp, fn, tn)


def _binary(name: str) -> Scorer:
    def score(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
        return from_counts(name, *_counts(targets, decisions, weights))[0]

    return score


def _f1_macro_classes(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    tp, fp, fn, tn = _counts(targets, decisions, weights)
    return _ratio(_f1(tp, fp, fn, tn).sum(), (tp + fp + fn > 0).sum())


def _f1_macro_labels(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    return _f1(*_counts(targets, decisions, weights)).mean()


def _f1_weighted(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    tp, fp, fn, tn = _counts(targets, decisions, weights)
    support = tp + fn
    return _ratio(support @ _f1(tp, fp, fn, tn), support.sum())


def _f1_micro(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    return _f1(*(count.sum() for count in _counts(targets, decisions, weights)))


def _f1_samples(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    both, either = (targets * decisions).sum(axis=1), (targets + decisions).sum(axis=1)
    return np.average(_ratio(2 * both, either), weights=weights)


def _accuracy(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    # Equality of whole rows: for one-hot rows that of classes, for labels subset accuracy.
    return np.average((targets == decisions).all(axis=1), weights=weights)


def _balanced_accuracy(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    tp, _, fn, _ = _counts(targets, decisions, weights)
    present = tp + fn > 0
    return (tp[present] / (tp + fn)[present]).mean() if present.sum() > 1 else np.nan


def _matthews(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    # Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation".
    given, predicted, total = weights @ targets, weights @ decisions, weights.sum()
    if (given > 0).sum() < 2:
        return np.nan
    correct = weights @ (targets * decisions).sum(axis=1)
    spread = np.sqrt(max(total**2 - predicted @ predicted, 0.0)) * np.sqrt(
        max(total**2 - given @ given, 0.0)
    )
    return _ratio(correct * total - given @ predicted, spread)


_METRICS: dict[str, tuple[str, dict[str, Scorer]]] = {
    "roc_auc": (
        "ranking",
        {"binary": _macro(_roc_auc_column), "multilabel": _macro(_roc_auc_column)},
    ),
    "roc_auc_ovr": ("ranking", {"multiclass": _macro(_roc_auc_column)}),
    "average_precision": (
        "ranking",
        {
            "binary": _macro(_average_precision_column),
            "multilabel": _macro(_average_precision_column),
        },
    ),
    "log_loss": (
        "probability",
        {
            "binary": _log_loss_columns,
            "multiclass": _log_loss_classes,
            "multilabel": _log_loss_columns,
        },
    ),
    "accuracy": (
        "labels",
        {"binary": _binary("accuracy"), "multiclass": _accuracy, "multilabel": _accuracy},
    ),
    "balanced_accuracy": (
        "labels",
        {"binary": _binary("balanced_accuracy"), "multiclass": _balanced_accuracy},
    ),
    "f1": ("labels", {"binary": _binary("f1")}),
    "f1_micro": ("labels", {"multiclass": _f1_micro, "multilabel": _f1_micro}),
    "f1_macro": (
        "labels",
        {
            "binary": _binary("f1_macro"),
            "multiclass": _f1_macro_classes,
            "multilabel": _f1_macro_labels,
        },
    ),
    "f1_weighted": ("labels", {"multiclass": _f1_weighted, "multilabel": _f1_weighted}),
    "f1_samples": ("labels", {"multilabel": _f1_samples}),
    "matthews": ("labels", {"binary": _binary("matthews"), "multiclass": _matthews}),
}
