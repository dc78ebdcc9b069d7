"""Metrics by scikit-learn's scorer names, over arrays of one shape for every kind of target.

Targets and predictions are always (n, outputs): one 0/1 column for binary, one-hot rows for
multiclass, one 0/1 column per label for multilabel, numbers for regression. The definitions are
scikit-learn's, with zero_division=0; unlike there, an undefined score (a ranking of one class only)
is nan without a warning, since it is common in bootstraps. They are implemented here, and tested
against scikit-learn, for two reasons: bootstraps score thousands of times, and the threshold search
needs metrics of decisions for all thresholds at once, by the definition that scores them afterwards.

A user's own metric is a function in the workspace's metrics.py, named `metrics.py:NAME`.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from numbers import Real
from pathlib import Path
from types import ModuleType

import numpy as np

from foldstack.costs import Costs, row_costs
from foldstack.errors import InputError, Interrupted, cut, nearest
from foldstack.kinds import Kind

Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
Counted = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A metric, made for one kind of target by `get`.

    Attributes:
        name: scikit-learn's name for it.
        kinds: the kinds of target it is defined for: 'binary', 'multiclass', 'multilabel',
            'regression'.
        wants: what it scores: 'ranking' (only the order within a column counts), 'probability',
            'labels' (decisions 0/1, one-hot for multiclass), or 'value' (a number, for regression).
        greater_is_better: False for losses and errors.
        bounds: its lowest and highest value.
        costs: of decisions, see `foldstack.costs`; only for the metric `cost`.
        columns: the columns that are scored; None for all.
    """

    name: str
    kinds: frozenset[str]
    wants: str
    greater_is_better: bool
    bounds: tuple[float, float]
    scorer: Scorer = field(repr=False)
    costs: Costs | None = None
    columns: tuple[int, ...] | None = None

    def score(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return the metric of predictions (n, outputs) against targets (n, outputs).

        Args:
            weights: (n,) row weights, None for ones. A row of weight 0 counts as absent.

        Returns:
            The score; nan if it is undefined, such as roc_auc with one class absent, and every metric if
            no row has a weight.

        Raises:
            ValueError: the shapes differ or are not (n, outputs).
            InputError: a user's own metric does not support these weights, or returned no number.
        """
        if targets.ndim != 2 or targets.shape != predictions.shape:
            # Numpy would silently broadcast (n,) against (n, 1) to a wrong score.
            raise ValueError(
                f"targets {targets.shape} and predictions {predictions.shape} "
                "must both be (n, outputs)"
            )
        weights = np.ones(len(targets)) if weights is None else np.asarray(weights, float)
        if not weights.any():
            return float("nan")
        if self.columns is not None:
            targets, predictions = (x[:, list(self.columns)] for x in (targets, predictions))
        return float(self.scorer(targets, predictions, weights))

    def of_rows(
        self, targets: np.ndarray, predictions: np.ndarray
    ) -> Callable[[np.ndarray], float]:
        """Return `score` of these rows as a function of weights (n,) float64, to call many times.

        What does not depend on weights is computed once: sorted rankings, losses per row.
        """
        if not isinstance(self.scorer, (Prepared, OfSums)):
            return lambda weights: self.score(targets, predictions, weights)
        if self.columns is not None:
            targets, predictions = (x[:, list(self.columns)] for x in (targets, predictions))
        scorer = self.scorer.of_rows(targets, predictions)
        return lambda weights: float(scorer(weights)) if weights.any() else float("nan")

    def signed(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return `score`, negated for losses: larger is always better."""
        return self.sign * self.score(targets, predictions, weights)

    def ranked(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        """Return `signed` to choose by: an undefined score is -inf, worse than any other."""
        score = self.signed(targets, predictions)
        return -np.inf if np.isnan(score) else score

    def over(self, columns: tuple[int, ...] | None) -> Metric:
        """Return this mean over columns as one over some of them; undefined for none, None for all."""
        if columns is None:
            return self
        return replace(self, columns=columns, scorer=self.scorer if columns else _never)

    def of_decisions(self, decide: Callable[[np.ndarray], np.ndarray]) -> Metric:
        """Return this metric of labels as one of probabilities, which are decided first."""
        of = self.scorer
        if isinstance(of, OfSums):
            scorer = replace(of, parts=lambda t, p: of.parts(t, decide(p)))
        else:
            scorer = lambda t, p, w: of(t, decide(p), w)  # noqa: E731
        return replace(self, wants="probability", scorer=scorer)

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's."""
        return self.name.startswith("metrics.py:")

    @property
    def sign(self) -> float:
        """1.0 if greater is better, else -1.0."""
        return 1.0 if self.greater_is_better else -1.0


def _never(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    return float("nan")


@dataclass(frozen=True)
class Prepared:
    """A scorer that prepares the rows before it knows the weights.

    of_rows: from targets and predictions (n, outputs) to a function of weights (n,).
    """

    of_rows: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]]

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        return self.of_rows(targets, predictions)(weights)


@dataclass(frozen=True)
class OfSums:
    """A scorer that needs only sums over rows, which a bootstrap adds up without the rows.

    Attributes:
        parts: from (targets, predictions) to each row's summands: arrays (n,) or (n, k).
        score: from the sums over rows, () or (k,) each, to the score.
    """

    parts: Callable[[np.ndarray, np.ndarray], list[np.ndarray]]
    score: Callable[..., float]

    def of_rows(
        self, targets: np.ndarray, predictions: np.ndarray
    ) -> Callable[[np.ndarray], float]:
        """Return a function of weights, see `Prepared.of_rows`."""
        parts = self.parts(targets, predictions)
        return lambda weights: self.score(*(weighted_sum(weights, part) for part in parts))

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        return self.of_rows(targets, predictions)(weights)


@dataclass(frozen=True)
class _Definition:
    """A line of the table of metrics: the attributes of `Metric`, and a scorer per kind."""

    wants: str
    scorers: dict[str, Scorer]
    bounds: tuple[float, float] = (0.0, 1.0)
    greater_is_better: bool = True


def get(name: str, kind: Kind, root: Path | None = None, costs: Costs | None = None) -> Metric:
    """Return the metric `name` for targets of `kind`.

    `metrics.py:NAME` is the function NAME in the file metrics.py of the workspace `root`. Here,
    and nowhere else, code of the user is executed, since the user has named it. The function is

        def NAME(targets, predictions) -> float

    or has a third parameter `weights`, (n,) numbers of 0 or more. Its arrays are copies, (n,) if
    there is one output, else (n, outputs), with targets and decisions as everywhere in this module.
    Without `weights` it gets each row as often as its weight, so that bootstraps work. It returns
    nan if a score is undefined on these rows. Two attributes may describe it: `NAME.wants`, as in
    `Metric` (default: 'value' for regression, otherwise 'probability'), and
    `NAME.greater_is_better = False`.

    Args:
        name: a name of the table below, or metrics.py:NAME.
        kind: 'binary', 'multiclass', 'multilabel' or 'regression'.
        root: the workspace, for metrics.py:NAME only.
        costs: of decisions, for `cost` only; see `foldstack.costs.cost_table`.

    Returns:
        The metric.

    Raises:
        InputError: the name is unknown, or the metric is not defined for this kind; it is `cost`
            without costs; metrics.py is missing or does not import, or the function is missing or
            not as above.
        ValueError: metrics.py:NAME without a root.
    """
    kind = Kind(kind)
    if ".py" in name or ":" in name:
        return _own(name, kind, root)
    if name not in METRICS:
        raise InputError(f"metric '{name}' is not known: {nearest(name, METRICS)}")
    of = METRICS[name]
    if kind not in of.scorers:
        fitting = ", ".join(other for other, has in METRICS.items() if kind in has.scorers)
        raise InputError(
            f"metric '{name}' does not fit kind '{kind}' (it is for {', '.join(of.scorers)}): "
            f"choose one of {fitting}"
        )
    kinds = frozenset(of.scorers)
    if name == "cost":
        return _cost(kind, kinds, costs)
    return Metric(name, kinds, of.wants, of.greater_is_better, of.bounds, of.scorers[kind])


def weighted_sum(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return `weights @ values`, (n,) by (n,) or (n, k), without BLAS.

    From 10,000 rows on BLAS uses threads, which on busy cores wait a hundred times as long as the sum
    takes.
    """
    return np.einsum("n,n...->...", weights, values)


# --- rankings and probabilities ---------------------------------------------------------------


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


def _roc_auc_column(positives: np.ndarray, negatives: np.ndarray) -> float:
    # Mann-Whitney: a positive beats the negatives below it and half of those tied with it.
    below = np.cumsum(negatives) - negatives
    return weighted_sum(positives, below + negatives / 2) / (positives.sum() * negatives.sum())


def _average_precision_column(positives: np.ndarray, negatives: np.ndarray) -> float:
    positives, negatives = positives[::-1], negatives[::-1]
    found = np.cumsum(positives)
    precision = _ratio(found, found + np.cumsum(negatives))
    return weighted_sum(positives, precision) / found[-1]


def _macro(column_score: Callable[[np.ndarray, np.ndarray], float]) -> Scorer:
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


def _log_loss_columns(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    clipped = _clip(predictions)
    return -(targets * np.log(clipped) + (1 - targets) * np.log1p(-clipped)).mean(axis=1)


def _log_loss_classes(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return -(targets * np.log(_clip(predictions))).sum(axis=1)


# --- decisions: confusion counts (tp, fp, fn, tn) ---------------------------------------------


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    # 0 where the denominator is 0: scikit-learn's zero_division=0.
    denominator = np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)


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


def _of_counts(score: Callable[..., float]) -> OfSums:
    """Return a scorer from a function of (tp, fp, fn, tn), each (outputs,)."""
    return OfSums(_confusions, score)


def _of_rows(value: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> OfSums:
    """Return a scorer: the mean over rows of a function of (targets, predictions) to (n,)."""

    def parts(targets: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
        return [value(targets, predictions), np.ones(len(targets))]

    return OfSums(parts, lambda total, weight: total / weight)


def _f1(tp, fp, fn, tn):
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _precision(tp, fp, fn, tn):
    return _ratio(tp, tp + fp)


def _recall(tp, fp, fn, tn):
    return _ratio(tp, tp + fn)


def _jaccard(tp, fp, fn, tn):
    return _ratio(tp, tp + fp + fn)


def _binary_macro(one: Counted) -> Counted:
    def score(tp, fp, fn, tn):
        # A class neither given nor predicted takes no part, as in scikit-learn.
        present = (tp + fp + fn > 0).astype(float) + (tn + fp + fn > 0)
        return _ratio(one(tp, fp, fn, tn) + one(tn, fn, fp, tp), present)

    return score


def _binary_accuracy(tp, fp, fn, tn):
    return _ratio(tp + tn, tp + fp + fn + tn)


def _binary_balanced_accuracy(tp, fp, fn, tn):
    recalls = (_ratio(tp, tp + fn) + _ratio(tn, tn + fp)) / 2
    return np.where((tp + fn > 0) & (tn + fp > 0), recalls, np.nan)


def _binary_matthews(tp, fp, fn, tn):
    spread = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    both = (tp + fn > 0) & (tn + fp > 0)
    return np.where(both, _ratio(tp * tn - fp * fn, spread), np.nan)


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
        name: one of `FROM_COUNTS`: f1, precision, recall, jaccard, each also as _macro, accuracy,
            balanced_accuracy, matthews.
        tp, fp, fn, tn: true and false positives, false and true negatives, of one shape.

    Returns:
        Scores of that shape; nan if the metric is undefined.
    """
    return FROM_COUNTS[name](tp, fp, fn, tn)


def _binary(name: str) -> OfSums:
    return _of_counts(lambda *counts: from_counts(name, *counts)[0])


def _macro_classes(one: Counted) -> OfSums:
    def score(tp, fp, fn, tn):
        return _ratio(one(tp, fp, fn, tn).sum(), (tp + fp + fn > 0).sum())

    return _of_counts(score)


def _macro_labels(one: Counted) -> OfSums:
    return _of_counts(lambda *counts: one(*counts).mean())


def _weighted(one: Counted) -> OfSums:
    def score(tp, fp, fn, tn):
        support = tp + fn
        return _ratio(support @ one(tp, fp, fn, tn), support.sum())

    return _of_counts(score)


def _micro(one: Counted) -> OfSums:
    return _of_counts(lambda *counts: one(*(count.sum() for count in counts)))


def _row_counts(targets: np.ndarray, decisions: np.ndarray) -> tuple:
    """Return (tp, fp, fn, tn) per row over its labels, each (n,)."""
    tp, given, decided = (x.sum(axis=1) for x in (targets * decisions, targets, decisions))
    return tp, decided - tp, given - tp, targets.shape[1] - given - decided + tp


def _samples(one: Counted) -> OfSums:
    return _of_rows(lambda targets, decisions: one(*_row_counts(targets, decisions)))


def _jaccard_rows(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    tp, fp, fn, _ = _row_counts(targets, decisions)
    # A row without labels, given or predicted, is right, unlike with zero_division=0.
    empty = tp + fp + fn == 0
    return np.where(empty, 1.0, _jaccard(tp, fp, fn, 0))


def _rows_right(targets: np.ndarray, decisions: np.ndarray) -> np.ndarray:
    # Equality of whole rows: of classes for one-hot rows, subset accuracy for labels.
    return (targets == decisions).all(axis=1).astype(float)


def _balanced_accuracy(tp, fp, fn, tn):
    present = tp + fn > 0
    return (tp[present] / (tp + fn)[present]).mean() if present.sum() > 1 else np.nan


def _matthews(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
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
    return _ratio(correct * total - given @ predicted, spread)


def _quadratic_kappa(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
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


def _cost(kind: Kind, kinds: frozenset[str], costs: Costs | None) -> Metric:
    """Return the metric of the mean cost of decisions over rows (multilabel: over rows and labels)."""
    if costs is None:
        raise InputError(
            "metric 'cost' requires `costs` in competition.yaml, and to be `metric` or in "
            "`report_metrics` there"
        )

    scorer = _of_rows(lambda targets, decisions: row_costs(kind, costs, targets, decisions))
    if kind.several_labels_per_row:
        bounds = (0.0, float(np.mean([max(label) for label in costs])))
    else:
        bounds = (min(map(min, costs)), max(map(max, costs)))
    return Metric("cost", kinds, "labels", False, bounds, scorer, costs)


def _without_costs(targets: np.ndarray, decisions: np.ndarray, weights: np.ndarray) -> float:
    raise ValueError("`get` makes the metric 'cost' from costs")


# --- regression -------------------------------------------------------------------------------


def _rmse(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    return np.sqrt(np.average((targets - predictions) ** 2, axis=0, weights=weights)).mean()


def _mae(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
    return np.average(np.abs(targets - predictions), axis=0, weights=weights).mean()


def _mean_of_varying(column_score: Scorer) -> Scorer:
    """Return a scorer: the mean score of the columns whose target varies; nan without one."""

    def score(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        present = weights > 0
        targets, predictions = targets[present], predictions[present].astype(float)
        varying = np.flatnonzero((targets != targets[0]).any(axis=0))
        scores = [column_score(targets[:, k], predictions[:, k], weights[present]) for k in varying]
        return np.mean(scores) if scores else np.nan

    return score


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return values - np.average(values, weights=weights)


def _r2_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    missed, spread = (target - prediction) ** 2, _centred(target, weights) ** 2
    return 1 - weighted_sum(weights, missed) / weighted_sum(weights, spread)


def _pearson_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    # A constant prediction of a varying target has no correlation. Excluded as undefined, it would
    # raise the mean over the columns.
    if (prediction == prediction[0]).all():
        return 0.0
    target, prediction = _centred(target, weights), _centred(prediction, weights)
    spread = np.sqrt(weighted_sum(weights, target**2)) * np.sqrt(
        weighted_sum(weights, prediction**2)
    )
    return np.clip(_ratio(weighted_sum(weights, target * prediction), spread), -1, 1)


def _mid_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return average ranks of rows, each repeated by its weight, up to a constant."""
    _, where = np.unique(values, return_inverse=True)
    standing = np.bincount(where, weights=weights)
    return (np.cumsum(standing) - standing / 2)[where]


def _spearman_column(target: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> float:
    return _pearson_column(_mid_ranks(target, weights), _mid_ranks(prediction, weights), weights)


# --- the table --------------------------------------------------------------------------------


def _averages(name: str) -> dict[str, _Definition]:
    """Return the definitions of a metric of one class or label, by scikit-learn's averages."""
    one = AVERAGED[name]
    macro = {
        "binary": _binary(f"{name}_macro"),
        "multiclass": _macro_classes(one),
        "multilabel": _macro_labels(one),
    }
    return {
        name: _Definition("labels", {"binary": _binary(name)}),
        f"{name}_micro": _Definition(
            "labels", dict.fromkeys(("multiclass", "multilabel"), _micro(one))
        ),
        f"{name}_macro": _Definition("labels", macro),
        f"{name}_weighted": _Definition(
            "labels", dict.fromkeys(("multiclass", "multilabel"), _weighted(one))
        ),
        f"{name}_samples": _Definition("labels", {"multilabel": _samples(one)}),
    }


_POSITIVE, _SIGNED = (0.0, np.inf), (-1.0, 1.0)
METRICS: dict[str, _Definition] = {
    "roc_auc": _Definition(
        "ranking", dict.fromkeys(("binary", "multilabel"), _macro(_roc_auc_column))
    ),
    "roc_auc_ovr": _Definition("ranking", {"multiclass": _macro(_roc_auc_column)}),
    "average_precision": _Definition(
        "ranking", dict.fromkeys(("binary", "multilabel"), _macro(_average_precision_column))
    ),
    "log_loss": _Definition(
        "probability",
        {
            "binary": _of_rows(_log_loss_columns),
            "multiclass": _of_rows(_log_loss_classes),
            "multilabel": _of_rows(_log_loss_columns),
        },
        _POSITIVE,
        greater_is_better=False,
    ),
    "accuracy": _Definition(
        "labels",
        {
            "binary": _binary("accuracy"),
            "multiclass": _of_rows(_rows_right),
            "multilabel": _of_rows(_rows_right),
        },
    ),
    "exact_match": _Definition("labels", {"multilabel": _of_rows(_rows_right)}),
    "balanced_accuracy": _Definition(
        "labels",
        {"binary": _binary("balanced_accuracy"), "multiclass": _of_counts(_balanced_accuracy)},
    ),
    **_averages("f1"),
    **_averages("precision"),
    **_averages("recall"),
    **_averages("jaccard"),
    # For labels plain `jaccard` is the mean over rows; an empty row counts as right.
    "jaccard": _Definition(
        "labels", {"binary": _binary("jaccard"), "multilabel": _of_rows(_jaccard_rows)}
    ),
    "matthews": _Definition(
        "labels", {"binary": _binary("matthews"), "multiclass": _matthews}, _SIGNED
    ),
    "quadratic_kappa": _Definition("labels", {"multiclass": _quadratic_kappa}, _SIGNED),
    "cost": _Definition(
        "labels",
        dict.fromkeys(("binary", "multiclass", "multilabel"), _without_costs),
        _POSITIVE,
        greater_is_better=False,
    ),
    "rmse": _Definition("value", {"regression": _rmse}, _POSITIVE, greater_is_better=False),
    "mae": _Definition("value", {"regression": _mae}, _POSITIVE, greater_is_better=False),
    # The usual name of rmse for several columns: scikit-learn's is the mean over them, too.
    "mcrmse": _Definition("value", {"regression": _rmse}, _POSITIVE, greater_is_better=False),
    "r2": _Definition("value", {"regression": _mean_of_varying(_r2_column)}, (-np.inf, 1.0)),
    "pearson": _Definition("value", {"regression": _mean_of_varying(_pearson_column)}, _SIGNED),
    "spearman": _Definition("ranking", {"regression": _mean_of_varying(_spearman_column)}, _SIGNED),
}


# --- metrics of the user's own ----------------------------------------------------------------


def _own(name: str, kind: Kind, root: Path | None) -> Metric:
    """Return the metric that `get` describes under metrics.py:NAME."""
    form = re.fullmatch(r"metrics\.py:([^\W\d]\w*)", name)
    if form is None:
        raise InputError(
            f"metric '{name}' is not of the form metrics.py:NAME, where NAME is a function in the "
            "workspace's metrics.py"
        )
    if root is None:
        raise ValueError(f"metric '{name}' requires the workspace's root")
    path = root / "metrics.py"
    function = _own_function(path, form[1])
    wants, greater_is_better = _own_attributes(path, function, form[1], kind)
    scorer = _own_scorer(path, function, form[1])
    return Metric(name, frozenset([kind]), wants, greater_is_better, (-np.inf, np.inf), scorer)


# Means over the columns whose target varies, and metrics that require more than one class.
OVER_VARYING = frozenset(
    {"roc_auc", "roc_auc_ovr", "average_precision", "r2", "pearson", "spearman"}
)
OF_SEVERAL_CLASSES = frozenset({"balanced_accuracy", "matthews", "quadratic_kappa"})


def defined_columns(metric: Metric, targets: np.ndarray) -> np.ndarray:
    """Return whether good predictions have a score on these rows.

    Args:
        metric: one of the table, or of the user's own.
        targets: (n, outputs).

    Returns:
        (outputs,) bool for a mean over columns; otherwise (1,) for all of them together.
    """
    if metric.is_own:
        score = metric.score(targets, _nearly(metric, targets)) if len(targets) else np.nan
        return np.array([not np.isnan(score)])
    varying = (targets != targets[:1]).any(axis=0)
    if metric.name in OVER_VARYING:
        return varying
    return np.array([len(targets) > 0 and (metric.name not in OF_SEVERAL_CLASSES or varying.any())])


def _nearly(metric: Metric, targets: np.ndarray) -> np.ndarray:
    """Return predictions that are nearly right, but not certain, for an own metric."""
    (kind,) = metric.kinds  # an own metric is made for one
    toward = 1 / targets.shape[1] if kind.is_one_hot else 0.5
    if kind.is_values:
        toward = targets.mean(axis=0)
    return targets if metric.wants == "labels" else 0.8 * targets + 0.2 * toward


def try_on(metric: Metric, targets: np.ndarray, path: Path) -> None:
    """Raise InputError if an own metric fails, or returns no finite number, for good predictions.

    Otherwise it would fail after hours of training. The predictions are nearly right, but not certain,
    since a certain mistake has an infinite log loss.

    Args:
        targets: (n, outputs) of all training rows.
        path: of metrics.py.
    """
    score = metric.score(targets, _nearly(metric, targets))
    if not np.isfinite(score):
        name = metric.name.removeprefix("metrics.py:")
        raise InputError(
            f"{path}: {name} gives {score} for predictions that are nearly right for all "
            f"{len(targets):,} training rows: a metric is a finite number there"
        )


def _own_function(path: Path, name: str) -> Callable:
    if not path.is_file():
        raise InputError(
            f"{path}: the file is missing: metric 'metrics.py:{name}' expects it to hold "
            f"`def {name}(targets, predictions)`"
        )
    module = _run(path)
    function = getattr(module, name, None)
    if not callable(function):
        own = [
            other
            for other, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        remedy = nearest(name, own) if own else f"write `def {name}(targets, predictions)`"
        raise InputError(f"{path}: there is no function '{name}': {remedy}")
    return function


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("workspace_metrics", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    try:
        # Compiled here, and not by the loader, whose cache in __pycache__ misses an edit within the
        # same second that keeps the size, and litters the workspace.
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        exec(code, vars(module))
    except (Interrupted, MemoryError):  # no fault of the file
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path}: the file does not import ({what}): fix it") from error
    return module


def _own_attributes(path: Path, function: Callable, name: str, kind: Kind) -> tuple[str, bool]:
    """Return (wants, greater_is_better) of the user's function; reject misspelt attributes."""
    for key in vars(function) if inspect.isfunction(function) else ():
        if key not in ("wants", "greater_is_better") and not key.startswith("_"):
            known = nearest(key, ("wants", "greater_is_better"))
            raise InputError(f"{path}: {name}.{key} is not an attribute of a metric: {known}")
    valid = ("value", "ranking") if kind.is_values else ("probability", "ranking", "labels")
    wants = getattr(function, "wants", valid[0])
    if wants not in valid:
        raise InputError(
            f"{path}: {name}.wants is {wants!r}: for kind {kind} it is one of {', '.join(valid)}"
        )
    greater_is_better = getattr(function, "greater_is_better", True)
    if not isinstance(greater_is_better, bool):
        raise InputError(
            f"{path}: {name}.greater_is_better is {greater_is_better!r}: it is True or False"
        )
    return wants, greater_is_better


def _own_scorer(path: Path, function: Callable, name: str) -> Scorer:
    try:
        signature = inspect.signature(function)
        weighted = "weights" in signature.parameters
        signature.bind(0, 0, **({"weights": 0} if weighted else {}))
    except (TypeError, ValueError):  # It takes other arguments, or, written in C, does not tell.
        raise InputError(
            f"{path}: function '{name}' must take (targets, predictions) or (targets, "
            "predictions, weights)"
        ) from None

    def score(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        # Copies both ways, since a function may modify its arguments.
        arrays = [x[:, 0] if x.shape[1] == 1 else x for x in (targets, predictions)]
        if weighted:
            given = {"weights": weights.copy()}
            value = _called(path, function, name, [x.copy() for x in arrays], given)
        else:
            times = _times(path, name, weights)
            value = _called(path, function, name, [np.repeat(x, times, axis=0) for x in arrays], {})
        if not isinstance(value, Real):
            raise InputError(
                f"{path}: {name} returned a value of type {type(value).__name__}: a metric "
                "returns a number"
            )
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{path}: {name} returned a number too large for a score") from None

    return score


def _called(
    path: Path, function: Callable, name: str, arrays: list[np.ndarray], given: dict
) -> object:
    """Call the user's function; raise InputError with its error, or if it exits."""
    try:
        return function(*arrays, **given)
    except (Interrupted, MemoryError):  # no fault of the function
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: {name} failed ({_reason(error, path)}): fix it") from error


def _reason(error: BaseException, path: Path) -> str:
    """Return an error of the user's code on one line, with the line number in that code if known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    what = cut(f"{type(error).__name__}: {error}".strip(": "))
    return f"{what}, line {lines[-1]}" if lines else what


def _times(path: Path, name: str, weights: np.ndarray) -> np.ndarray:
    times = weights.astype(int)
    if (times != weights).any():
        raise InputError(
            f"{path}: {name} takes no row weights, and these are not whole numbers, for which "
            "rows are repeated: give it a third parameter `weights`"
        )
    return times
