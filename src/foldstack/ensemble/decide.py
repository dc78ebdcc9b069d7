"""Decision rules: from probabilities to labels, or from numbers to levels, for metrics of decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from foldstack.costs import Costs
from foldstack.ensemble import classes, least_cost, thresholds
from foldstack.ensemble.row_thresholds import OF_ROWS, row_thresholds
from foldstack.errors import InputError, nearest
from foldstack.kinds import Kind
from foldstack.metrics import AVERAGED, FROM_COUNTS, Metric

WITHOUT_LABELS = ("default", "least_cost", "rate")  # families of rules that no label is fitted to
# Metrics of several labels computed from each label's counts: name and average.
OF_LABELS = {
    f"{one}_{average}": (one, average)
    for one in AVERAGED
    for average in ("macro", "weighted", "micro")
}


@dataclass(frozen=True)
class Rule:
    """A map from probabilities to labels, or from numbers to levels.

    Attributes:
        kind: of the competition.
        thresholds: one per column; a label is positive if its probability reaches the threshold. None
            for multiclass, and with `top_k`.
        class_weights: for multiclass, one per class: decide for the largest weight times probability.
            None for the most probable class.
        cut_points: for multiclass with ordered classes, (classes - 1,) ascending: decide for the
            number of cut points that the mean class index reaches. For regression (levels - 1,): decide
            for the level of as many cut points as the number reaches.
        costs: for multiclass, (truths, decisions): decide for the least expected cost.
        top_k: for multilabel, assign the k most probable labels.
        at_least_one: for multilabel, assign the most probable label if no other is.
        levels: for regression, ascending; None to round to whole numbers.
    """

    kind: Kind
    thresholds: tuple[float, ...] | None
    class_weights: tuple[float, ...] | None = None
    cut_points: tuple[float, ...] | None = None
    costs: Costs | None = None
    top_k: int | None = None
    at_least_one: bool = False
    levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))  # text if read from JSON

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return decisions in the shape of the probabilities (n, outputs): 0.0/1.0, or levels."""
        if self.kind.is_values:
            return self._levels(probabilities)
        if self.kind.is_one_hot:
            return np.eye(probabilities.shape[1])[self._classes(probabilities)]
        if self.top_k is not None:
            decided = _most_probable(probabilities, self.top_k)
        else:
            # An array: beside float32 probabilities numpy rounds a bare float threshold to float32,
            # and the decision at the threshold would change.
            decided = probabilities >= np.array(self.thresholds)
        if self.at_least_one:
            empty = ~decided.any(axis=1)
            decided[empty] = _most_probable(probabilities[empty], 1)
        return decided.astype(float)

    def _classes(self, probabilities: np.ndarray) -> np.ndarray:
        if self.cut_points is not None:
            return np.searchsorted(self.cut_points, classes.expected_class(probabilities), "right")
        if self.costs is not None:
            return least_cost.least_cost_class(probabilities, np.array(self.costs))
        if self.class_weights is not None:
            return classes.weighted_argmax(probabilities, np.array(self.class_weights))
        return probabilities.argmax(axis=1)

    def _levels(self, values: np.ndarray) -> np.ndarray:
        if self.levels is None:
            return np.floor(values + 0.5)
        return np.array(self.levels)[np.searchsorted(self.cut_points, values, "right")]

    def to_json(self) -> dict:
        """Return a dict of plain values, without unused ones, for `from_json`."""
        values = {"kind": self.kind, "thresholds": _list(self.thresholds)}
        used = {
            "class_weights": _list(self.class_weights),
            "cut_points": _list(self.cut_points),
            "costs": None if self.costs is None else [list(row) for row in self.costs],
            "top_k": self.top_k,
            "at_least_one": self.at_least_one or None,
            "levels": _list(self.levels),
        }
        return values | {name: value for name, value in used.items() if value is not None}

    @classmethod
    def from_json(cls, values: dict) -> Rule:
        """Return the rule that `to_json` described."""
        return cls(**{name: _tuple(value) for name, value in values.items()})


def _tuple(value: object) -> object:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _list(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)


def _most_probable(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return (n, labels) bool: the `count` most probable labels per row, the first of equals."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    decided = np.zeros(probabilities.shape, bool)
    np.put_along_axis(decided, order, True, axis=1)
    return decided


def default_rule(kind: Kind, outputs: int, levels: tuple[float, ...] | None = None) -> Rule:
    """Return the rule without fitting: the most probable class, the nearest level, a threshold of .5.

    levels: of the metric, for regression; None rounds to whole numbers.
    """
    if levels is not None:
        middles = tuple((a + b) / 2 for a, b in pairwise(levels))
        return Rule(kind, None, cut_points=middles, levels=levels)
    if Kind(kind).is_values:
        return Rule(kind, None)
    thresholds = (0.5,) * outputs if Kind(kind).decides_by_thresholds else None
    return Rule(kind, thresholds)


def is_fitted(metric: Metric, kind: Kind) -> bool:
    """Return whether `fit_rule` uses targets and probabilities; otherwise it returns the default."""
    fitted = metric.name in classes.OF_CLASSES or metric.name == "quadratic_kappa"
    return kind.decides_by_thresholds or fitted


def reads_labels(family: str | None) -> bool:
    """Return whether rules of the family (None: no rule) are fitted to labels."""
    return family is not None and family not in WITHOUT_LABELS


def may_miss_best(metric: Metric, kind: Kind) -> bool:
    """Return whether `fit_rule` searches where no exact method is known: a local optimum, or a grid."""
    if metric.name == "quadratic_kappa" or metric.costs is not None:
        return False
    exact = FROM_COUNTS if kind.has_positive_class else OF_LABELS
    return is_fitted(metric, kind) and (kind.is_one_hot or metric.name not in exact)


# --- fitting ----------------------------------------------------------------------------------


def fit_rule(
    metric: Metric,
    kind: Kind,
    targets: np.ndarray,
    probabilities: np.ndarray,
    *,
    family: str = "fitted",
    shrinkage: float | None = None,
    thorough: bool = True,
) -> Rule:
    """Return the best rule of a family on these rows, or the default rule if that is no worse.

    The family 'fitted' is, by metric:

    - binary, from confusion counts: the best threshold, exact; metrics.py:NAME: the best of a grid.
    - multilabel macro, weighted and micro averages: one threshold per label, exact before shrinking
      (`thresholds.counted_thresholds`); averages over rows, jaccard and accuracy: one threshold per
      label, a local optimum (`row_thresholds.row_thresholds`); metrics.py:NAME: one common threshold,
      the best of a grid.
    - multiclass macro averages and balanced_accuracy: class weights, a local optimum
      (`classes.class_weights`); quadratic_kappa: cut points, exact before shrinking
      (`classes.kappa_cut_points`); others: the most probable class.
    - quadratic_kappa, regression: cut points between the levels, exact (`classes.kappa_level_cuts`).
    - cost, binary and multilabel: the thresholds of the least cost, exact before shrinking
      (`least_cost.fitted_thresholds`).

    A parameter per label or class is shrunk depending on its m rows: its own optimum has a weight of
    m / (m + shrinkage), see `thresholds.own_share`. Of equally good parameters those nearest to the
    default rule's are taken.

    Args:
        metric: a metric of labels.
        kind: of the competition.
        targets: (n, outputs) of 0/1, (n, 1) of levels for regression.
        probabilities: (n, outputs) between 0 and 1, float32 or float64; numbers for regression.
        family: one of `families(kind)`. 'default' fits nothing; 'rate' takes thresholds at which the
            number of predicted positives per label is the sum of its probabilities; 'at_least_one'
            is the fitted rule, plus the most probable label of a row without one; 'top_k' assigns
            the k most probable labels, for the best k; 'least_cost', for the metric cost, decides
            for the least expected cost, and fits nothing.
        shrinkage: k of the weight above, 0 for the optimum on these rows; by default 5 for labels,
            20 for classes and 0 for levels.
        thorough: False for one climb only where the fitted rule is a local optimum over labels.

    Returns:
        The rule.
    """
    kind = Kind(kind)
    if kind.is_values and metric.levels is None:
        metric = replace(metric, levels=tuple(np.unique(targets).tolist()))
    default = default_rule(kind, targets.shape[1], metric.levels)
    if family == "default" or (family == "fitted" and not is_fitted(metric, kind)):
        return default
    if shrinkage is None:
        shrinkage = _shrinkage(kind)
    fit = partial(_fitted, thorough=thorough) if family == "fitted" else _FAMILIES[family]
    rule = fit(metric, kind, targets, probabilities, shrinkage)
    if family in ("rate", "least_cost"):  # Not chosen by their score.
        return rule
    return rule if _beats(metric, targets, probabilities, rule, default) else default


def _shrinkage(kind: Kind) -> float:
    if kind.is_values:
        return classes.LEVEL_SHRINKAGE
    return classes.SHRINKAGE if kind.is_one_hot else thresholds.SHRINKAGE


FAMILIES = {
    Kind.BINARY: ("default", "rate", "fitted"),
    Kind.MULTICLASS: ("default", "fitted"),
    Kind.MULTILABEL: ("default", "rate", "top_k", "fitted", "at_least_one"),
    Kind.REGRESSION: ("default", "fitted"),
}


def families(kind: Kind, metric: Metric | None = None) -> tuple[str, ...]:
    """Return the families of rules for a kind of target, the simplest first.

    With a metric, only those that differ for it.
    """
    kind = Kind(kind)
    if metric is not None and metric.costs is not None:
        fitted = ("fitted",) if kind.decides_by_thresholds else ()
        return ("default", "least_cost", *fitted)
    if metric is not None and not is_fitted(metric, kind):
        return ("default",)
    return FAMILIES[kind]


def choose_families(rules: Sequence[str] | None, metric: Metric, kind: Kind) -> tuple[str, ...]:
    """Return those of `families` that are among the rules (None: all); the default if none differs.

    Raises:
        InputError: a rule is unknown, or none of them fits the kind.
    """
    if rules is None:
        return families(kind, metric)
    for rule in rules:
        if rule not in (known := ["default", *_FAMILIES]):
            raise InputError(f"decision rule '{rule}' is not known: {nearest(rule, known)}")
    there = {*FAMILIES[kind], *families(kind, metric)}
    if not there & set(rules):
        raise InputError(
            f"none of the decision rules {', '.join(rules) or '(none given)'} is for kind {kind}: "
            f"choose among {', '.join(families(kind, metric))}"
        )
    chosen = tuple(family for family in families(kind, metric) if family in rules)
    return chosen or ("default",)


def reference_family(metric: Metric, kind: Kind, among: Sequence[str]) -> str:
    """Return the family that is taken unless another is clearly better; the last one if not `among`.

    It is 'fitted', but 'least_cost' for the metric cost, and 'default' for accuracy and exact match:
    for calibrated probabilities thresholds of .5 are nearly optimal there, and fitted ones mostly
    follow noise. Taking the simplest within one standard error of the best, as for candidates, would
    give up real gains, since a simpler rule saves nothing.
    """
    wanted = "default" if metric.name in ("accuracy", "exact_match") else "fitted"
    if metric.costs is not None:
        wanted = "least_cost"
    return wanted if wanted in among else among[-1]


def _fitted(
    metric: Metric,
    kind: Kind,
    targets: np.ndarray,
    probabilities: np.ndarray,
    shrinkage: float,
    thorough: bool = True,
) -> Rule:
    if kind.is_values:
        return _fit_levels(metric, targets[:, 0], probabilities[:, 0], shrinkage)
    if kind.is_one_hot:
        return _fit_classes(metric, targets.argmax(axis=1), probabilities, shrinkage)
    if metric.costs is not None:
        found = least_cost.fitted_thresholds(kind, metric.costs, targets, probabilities, shrinkage)
    elif kind.has_positive_class and metric.name in FROM_COUNTS:
        found = [thresholds.best_threshold(metric.name, targets, probabilities)]
    elif metric.name in OF_LABELS:
        found = thresholds.counted_thresholds(
            *OF_LABELS[metric.name], targets, probabilities, shrinkage=shrinkage
        )
    elif kind.several_labels_per_row and metric.name in OF_ROWS:
        found = row_thresholds(metric.name, targets, probabilities, shrinkage, thorough=thorough)
    else:
        found = [_common(metric, targets, probabilities)] * targets.shape[1]
    return Rule(kind, tuple(float(threshold) for threshold in found))


def _fit_classes(
    metric: Metric, given: np.ndarray, probabilities: np.ndarray, shrinkage: float
) -> Rule:
    if (given == given[0]).all():  # Some metrics are undefined here.
        return default_rule(Kind.MULTICLASS, probabilities.shape[1])
    if metric.name == "quadratic_kappa":
        points = classes.kappa_cut_points(given, probabilities, shrinkage)
        return Rule(Kind.MULTICLASS, None, cut_points=tuple(points.tolist()))
    weights = classes.class_weights(metric.name, given, probabilities, shrinkage)
    return Rule(Kind.MULTICLASS, None, class_weights=tuple(weights.tolist()))


def _fit_levels(metric: Metric, given: np.ndarray, predicted: np.ndarray, shrinkage: float) -> Rule:
    if (given == given[0]).all():  # Kappa is undefined here.
        return default_rule(Kind.REGRESSION, 1, metric.levels)
    points = classes.kappa_level_cuts(given, predicted, np.array(metric.levels), shrinkage)
    return Rule(Kind.REGRESSION, None, cut_points=tuple(points.tolist()), levels=metric.levels)


def _least_cost(
    metric: Metric, kind: Kind, targets: np.ndarray, probabilities: np.ndarray, shrinkage: float
) -> Rule:
    if kind.is_one_hot:
        return Rule(kind, None, costs=metric.costs)
    return Rule(kind, tuple(least_cost.least_cost_thresholds(kind, metric.costs).tolist()))


def _common(metric: Metric, targets: np.ndarray, probabilities: np.ndarray) -> float:
    grid = thresholds.threshold_grid(probabilities)
    scores = [metric.ranked(targets, (probabilities >= t).astype(float)) for t in grid]
    return thresholds.nearest_best(grid, np.array(scores))


def _at_least_one(metric: Metric, kind: Kind, *rows_and_shrinkage) -> Rule:
    return replace(_fitted(metric, kind, *rows_and_shrinkage), at_least_one=True)


def _rate(
    metric: Metric, kind: Kind, targets: np.ndarray, probabilities: np.ndarray, shrinkage: float
) -> Rule:
    return Rule(kind, tuple(thresholds.rate_thresholds(probabilities).tolist()))


def _top_k(
    metric: Metric, kind: Kind, targets: np.ndarray, probabilities: np.ndarray, shrinkage: float
) -> Rule:
    most = max(1, int(targets.sum(axis=1).max()))
    rules = [Rule(kind, None, top_k=k) for k in range(1, most + 1)]
    return max(rules, key=lambda rule: metric.ranked(targets, rule.apply(probabilities)))


_FAMILIES: dict[str, Callable[..., Rule]] = {
    "rate": _rate,
    "top_k": _top_k,
    "fitted": _fitted,
    "least_cost": _least_cost,
    "at_least_one": _at_least_one,
}


def _beats(
    metric: Metric, targets: np.ndarray, probabilities: np.ndarray, rule: Rule, other: Rule
) -> bool:
    """Return whether the rule scores better on these rows; an undefined score is worse than any."""
    found, least = (_ranked(metric, targets, probabilities, each) for each in (rule, other))
    return bool(found > least + 1e-12)  # Less is rounding.


def _ranked(metric: Metric, targets: np.ndarray, probabilities: np.ndarray, rule: Rule) -> float:
    plain = rule.thresholds is not None and not rule.at_least_one
    if plain and metric.name in OF_LABELS and rule.kind.several_labels_per_row:
        # The same as the metric, but label by label, without matrices of decisions.
        counts = thresholds.counts_at(np.array(rule.thresholds), targets, probabilities)
        return float(thresholds.average_counts(*OF_LABELS[metric.name], counts))
    return metric.ranked(targets, rule.apply(probabilities))
