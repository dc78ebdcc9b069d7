"""Decision rules: from probabilities to the labels that a metric of decisions scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldstack.metrics import AVERAGED, FROM_COUNTS, Metric, from_counts

GRID = 199
# Metrics of several labels that are best where each label's own metric is, and those that are
# one label's metric over all entries pooled; to that metric.
LABEL_BY_LABEL = {f"{one}_{how}": one for one in AVERAGED for how in ("macro", "weighted")}
POOLED = {f"{one}_micro": one for one in AVERAGED}


@dataclass(frozen=True)
class Rule:
    """How probabilities become labels.

    Attributes:
        kind: 'binary', 'multiclass' or 'multilabel'.
        thresholds: one a column; a label holds where its probability reaches the threshold.
            None for multiclass, where the most probable class is taken.
    """

    kind: str
    thresholds: tuple[float, ...] | None

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Decisions 0.0/1.0 in the shape of the probabilities (n, outputs)."""
        if self.thresholds is None:
            return np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
        # An array of thresholds, since numpy rounds a bare float to float32 beside float32
        # probabilities, and the row at the threshold would change sides.
        return (probabilities >= np.array(self.thresholds)).astype(float)

    def to_json(self) -> dict:
        """A dict of plain values; `from_json` reads it."""
        thresholds = None if self.thresholds is None else list(self.thresholds)
        return {"kind": self.kind, "thresholds": thresholds}

    @classmethod
    def from_json(cls, values: dict) -> Rule:
        """The rule that `to_json` described."""
        thresholds = values["thresholds"]
        return cls(values["kind"], None if thresholds is None else tuple(thresholds))


def default_rule(kind: str, outputs: int) -> Rule:
    """The rule with nothing fitted: the most probable class, otherwise a threshold of .5."""
    return Rule(kind, None if kind == "multiclass" else (0.5,) * outputs)


def fit_rule(metric: Metric, kind: str, targets: np.ndarray, probabilities: np.ndarray) -> Rule:
    """The rule with the best score on these rows; ties go to the threshold nearest .5.

    Exact for binary, and for the macro and weighted (a threshold a label) and micro (one common
    threshold) averages of multilabel f1, precision, recall and jaccard. Other metrics of several
    labels, such as accuracy and f1_samples, and the user's own take one common threshold, the
    best of a grid of quantiles. Multiclass takes the most probable class.

    Args:
        metric: one that wants labels.
        targets: (n, outputs) of 0/1.
        probabilities: (n, outputs) between 0 and 1.
    """
    probabilities = np.asarray(probabilities, float)
    outputs = targets.shape[1]
    if kind == "multiclass":
        return default_rule(kind, outputs)
    if kind == "binary" and metric.name in FROM_COUNTS:
        thresholds = (_exact(metric.name, targets, probabilities),)
    elif kind == "multilabel" and metric.name in LABEL_BY_LABEL:
        one, columns = LABEL_BY_LABEL[metric.name], zip(targets.T, probabilities.T, strict=True)
        thresholds = tuple(_exact(one, *column) for column in columns)
    elif metric.name in POOLED:
        thresholds = (_exact(POOLED[metric.name], targets, probabilities),) * outputs
    else:
        thresholds = (_grid(metric, targets, probabilities),) * outputs
    return Rule(kind, thresholds)


def _exact(name: str, targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The best threshold over all entries pooled, from the confusion counts at every cut."""
    values, where = np.unique(probabilities.ravel(), return_inverse=True)
    positives = np.bincount(where, weights=targets.ravel())
    negatives = np.bincount(where) - positives
    # Cut k calls the values from the k-th on positive; the last cut calls none so.
    tp = np.append(np.cumsum(positives[::-1])[::-1], 0.0)
    fp = np.append(np.cumsum(negatives[::-1])[::-1], 0.0)
    scores = from_counts(name, tp, fp, tp[0] - tp, fp[0] - fp)
    return _nearest_half(_cuts(values), scores)


def _cuts(values: np.ndarray) -> np.ndarray:
    """Thresholds below, midway between and above ascending distinct values: one more of them."""
    lower, upper = np.append(0.0, values), np.append(values, 1.0)
    cuts = (lower + upper) / 2
    # Between neighbouring floats, and above a largest value of 1, the midpoint is the lower
    # value itself, which the cut must leave out.
    stuck = cuts[1:] <= values
    cuts[1:][stuck] = np.nextafter(values[stuck], np.inf)
    return cuts


def _grid(metric: Metric, targets: np.ndarray, probabilities: np.ndarray) -> float:
    quantiles = np.quantile(probabilities, np.linspace(0, 1, GRID))
    thresholds = np.unique(np.append(quantiles, 0.5))
    scores = [metric.signed(targets, (probabilities >= t).astype(float)) for t in thresholds]
    return _nearest_half(thresholds, np.array(scores))


def _nearest_half(thresholds: np.ndarray, scores: np.ndarray) -> float:
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = scores == scores.max()
    if best.all():  # Nothing to learn, such as F1 without a positive row.
        return 0.5
    return float(min(thresholds[best], key=lambda threshold: abs(threshold - 0.5)))
