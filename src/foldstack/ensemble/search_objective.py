"""The metric of a blend on fixed rows, scored thousands of times per fit.

Metrics of one column (AUC, average precision, and metrics of decisions at their best threshold)
need the confusion counts at every cut, for which a column is sorted. Target and prediction are
packed into one integer, so that sorting keeps them together: an in-place sort of integers, several
times faster than an argsort, without rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from foldstack import metrics
from foldstack.ensemble.decide import fit_rule
from foldstack.kinds import Kind
from foldstack.metrics import AVERAGED, FROM_COUNTS, Metric, from_counts


@dataclass(frozen=True)
class Cuts:
    """Confusion counts at each distinct prediction that a positive row has, ascending; (k,) each.

    Attributes:
        positives, negatives: numbers of rows in the column.
        tp, fp: if rows with this prediction or a higher one are predicted positive.
        found: positives with exactly this prediction.
        tied: negatives with exactly this prediction.
    """

    positives: int
    negatives: int
    tp: np.ndarray
    fp: np.ndarray
    found: np.ndarray
    tied: np.ndarray


class Column:
    """One target column (n,) of 0/1, against which columns of predictions are counted."""

    def __init__(self, target: np.ndarray):
        self._bits = (target > 0).astype(np.int64)
        self.positives = int(self._bits.sum())
        self.negatives = len(target) - self.positives

    @property
    def has_both(self) -> bool:
        return self.positives > 0 and self.negatives > 0

    def cuts(self, values: np.ndarray) -> Cuts:
        """Count predictions (n,), which are float64 and not negative.

        The bits of such floats, read as integers, sort as the floats do, and the two highest are free,
        which makes room for the target below: negatives sort before positives tied with them.
        """
        keys = np.ascontiguousarray(values).view(np.int64) << 1  # also drops the sign of -0.0
        keys |= self._bits
        keys.sort()
        at = np.flatnonzero(keys & 1)
        own = keys[at]
        first = np.flatnonzero(np.concatenate(([True], own[1:] != own[:-1]))[: len(own)])
        own, at = own[first], at[first]
        start = at.copy()
        tied = keys[np.maximum(at - 1, 0)] == own - 1
        start[tied] = np.searchsorted(keys, own[tied] - 1)
        tp = self.positives - first
        found = np.diff(np.append(first, self.positives))
        return Cuts(self.positives, self.negatives, tp, len(keys) - start - tp, found, at - start)


def roc_auc(cuts: Cuts) -> float:
    """Return the Mann-Whitney statistic, bit for bit as `metrics`: terms are halves of integers."""
    below = cuts.negatives - cuts.fp
    won = np.sum(cuts.found * (below + cuts.tied / 2))
    return won / (float(cuts.positives) * cuts.negatives)


def average_precision(cuts: Cuts) -> float:
    return np.sum(cuts.found * (cuts.tp / (cuts.tp + cuts.fp))) / cuts.positives


def best_decision(name: str) -> Callable[[Cuts], float]:
    """Return a function for the metric of decisions (of `FROM_COUNTS`) at its best threshold.

    A cut just above a negative is better than the one just below it, since false positives improve
    none of these metrics; so only cuts below a positive, and the one above all rows, are evaluated.
    """

    def score(cuts: Cuts) -> float:
        tp, fp = np.append(cuts.tp, 0.0), np.append(cuts.fp, 0.0)
        scores = from_counts(name, tp, fp, cuts.positives - tp, cuts.negatives - fp)
        return scores.max()  # nan with one class only, at every cut

    return score


RANKINGS = {"roc_auc": roc_auc, "roc_auc_ovr": roc_auc, "average_precision": average_precision}


@dataclass(frozen=True)
class SearchObjective:
    """A metric against fixed targets, larger is better.

    Metrics of decisions are taken at the best threshold on the same rows: exact for the metrics of one
    column and for their macro and weighted averages, one common threshold for micro averages, and by
    `fit_rule` otherwise. Multiclass decides for the most probable class, unless decisions have costs.

    Attributes:
        targets: (n, outputs).
        of_cuts: scores a column, None if the metric is not one of columns.
        average: over columns: 'macro', 'weighted', 'micro' (all entries make one column), or
            'ranking', over the columns that hold both classes.
    """

    metric: Metric
    kind: Kind
    targets: np.ndarray
    of_cuts: Callable[[Cuts], float] | None = None
    average: str = ""

    @classmethod
    def of(cls, metric: Metric, kind: Kind, targets: np.ndarray) -> SearchObjective:
        kind = Kind(kind)
        return cls(metric, kind, targets, *_by_columns(metric, kind))

    def take(self, rows: np.ndarray) -> SearchObjective:
        return replace(self, metric=self.metric.take(rows), targets=self.targets[rows])

    @cached_property
    def _columns(self) -> list[Column]:
        if self.average == "micro":
            return [Column(self.targets.T.ravel())]
        return [Column(target) for target in self.targets.T]

    @cached_property
    def _shares(self) -> np.ndarray:
        return _shares(self._columns, self.average, self.metric.columns)

    def __call__(self, values: np.ndarray) -> float:
        """Return the score of predictions (outputs, n), float64; -inf if it is undefined."""
        score = self._directly(values.T) if self.of_cuts is None else self._averaged(values)
        return float(score) if np.isfinite(score) else -np.inf

    def _averaged(self, values: np.ndarray) -> float:
        rows = values.reshape(len(self._columns), -1)
        scores = [
            share * self.of_cuts(column.cuts(row))
            for column, row, share in zip(self._columns, rows, self._shares, strict=True)
            if share
        ]
        return sum(scores) if scores else np.nan

    def _directly(self, values: np.ndarray) -> float:
        if self.metric.wants != "labels":
            return self.metric.signed(self.targets, values)
        family = "default" if self.kind.is_one_hot else "fitted"
        if self.metric.costs is not None:
            family = "least_cost"
        rule = fit_rule(self.metric, self.kind, self.targets, values, family=family, thorough=False)
        return self.metric.signed(self.targets, rule.apply(values))

    def by_label(self) -> list[SearchObjective | None] | None:
        """Return each label's own objective (None if undefined); None if labels interact.

        The blends that are best label by label are then best overall.
        """
        if not self.kind.several_labels_per_row:
            return None
        targets = [target[:, None] for target in self.targets.T]
        if self.of_cuts is None and self.metric.name == "log_loss":
            one = metrics.get("log_loss", Kind.BINARY)
            return [SearchObjective(one, Kind.BINARY, target) for target in targets]
        if self.of_cuts is None or self.average == "micro":
            return None
        return [
            SearchObjective(self.metric, Kind.BINARY, target, self.of_cuts, "macro")
            if share
            else None
            for target, share in zip(targets, self._shares, strict=True)
        ]


def _by_columns(metric: Metric, kind: Kind) -> tuple[Callable[[Cuts], float] | None, str]:
    """Return the score of a column, None if the metric has none, and how columns are averaged."""
    if metric.wants == "ranking" and metric.name in RANKINGS:
        return RANKINGS[metric.name], "ranking"
    if metric.wants == "labels" and kind.has_positive_class and metric.name in FROM_COUNTS:
        return best_decision(metric.name), "macro"
    one, _, average = metric.name.rpartition("_")
    averaged = one in AVERAGED and average in ("macro", "weighted", "micro")
    if metric.wants == "labels" and kind.several_labels_per_row and averaged:
        return best_decision(one), average
    return None, ""


def _shares(columns: list[Column], average: str, scored: tuple[int, ...] | None) -> np.ndarray:
    """Return (columns,) that sum to one; all 0 if nothing is defined. scored: see `Metric.columns`."""
    if average == "weighted":
        shares = np.array([column.positives for column in columns], float)
    elif average == "ranking":  # undefined for a column with one class
        shares = np.array([column.has_both for column in columns], float)
        if scored is not None:
            shares[np.isin(np.arange(len(shares)), scored, invert=True)] = 0
    else:
        shares = np.ones(len(columns))
    return shares / max(shares.sum(), 1)
