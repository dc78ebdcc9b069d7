"""Thresholds, one per label or one for all, that are best for a metric on given rows.

As a label's threshold rises through its n probabilities, its decisions change at no more than n
places, so one sort gives every possible decision. Labels are processed one at a time, so that a
million rows of many labels take little memory. Targets are (n, labels) of 0/1, of any type;
probabilities (n, labels) between 0 and 1, float32 or float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

from foldstack.metrics import AVERAGED, from_counts

SHRINKAGE = 5.0
CERTAIN = 1e-9
MIDDLE = 0.5
SAMPLE = 1_000_000
COLUMNS = 16
# A smaller difference between two sums over rows is rounding.
ROUNDING = 1e-9


def columns(
    targets: np.ndarray, probabilities: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (targets, probabilities), each (n,), of one label after another."""
    # A single column of a row-major matrix reads the whole matrix; 16 at a time are cheap.
    for first in range(0, targets.shape[1], COLUMNS):
        part = slice(first, first + COLUMNS)
        yield from zip(
            np.ascontiguousarray(targets[:, part].T),
            np.ascontiguousarray(probabilities[:, part].T),
            strict=True,
        )


# --- one label --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """The decisions of each threshold: cut k predicts the values from the k-th on positive.

    values: (v,) distinct probabilities, ascending. tp, fp: (v + 1,) true and false positives at each
    cut; the last one predicts nothing positive.
    """

    values: np.ndarray
    tp: np.ndarray
    fp: np.ndarray

    @classmethod
    def of(cls, target: np.ndarray, probabilities: np.ndarray) -> Sweep:
        """Return the sweep of targets (n,) of 0/1 and probabilities (n,).

        Raises:
            ValueError: a probability is not a number between 0 and 1.
        """
        keys, kind = _sorted_keys(target, probabilities)
        bits = keys >> 1
        cuts = np.flatnonzero(np.concatenate(([True], bits[1:] != bits[:-1], [True])))
        positives_below = np.concatenate(([0], np.cumsum(keys & 1, dtype=np.int64)))[cuts]
        tp = positives_below[-1] - positives_below
        fp = len(keys) - cuts - tp
        values = bits[cuts[:-1]].view(kind).astype(float)
        return cls(values, tp.astype(float), fp.astype(float))

    @property
    def positives(self) -> float:
        return self.tp[0]

    @property
    def negatives(self) -> float:
        return self.fp[0]

    def scores(self, name: str) -> np.ndarray:
        """Return the metric `name` of `metrics.FROM_COUNTS` at each cut (v + 1,)."""
        return from_counts(
            name, self.tp, self.fp, self.positives - self.tp, self.negatives - self.fp
        )

    def thresholds(self, cuts: np.ndarray) -> np.ndarray:
        """Return thresholds of these cuts: below all values, midway between two, or above all."""
        last = len(self.values)
        lower = np.where(cuts > 0, self.values[cuts - 1], 0.0)
        upper = np.where(cuts < last, self.values[np.minimum(cuts, last - 1)], 1.0)
        middle = (lower + upper) / 2
        # Between neighbouring floats, and above a largest value of 1, the midpoint is the lower
        # value itself, which the cut must exclude.
        stuck = (cuts > 0) & (middle <= lower)
        return np.where(stuck, np.nextafter(lower, np.inf), middle)

    def nearest(self, cuts: np.ndarray) -> int:
        """Return the one of these cuts whose threshold is nearest .5."""
        return int(cuts[np.abs(self.thresholds(cuts) - MIDDLE).argmin()])

    def best(self, scores: np.ndarray) -> float:
        """Return the threshold of the best of (v + 1,) scores; of equals the nearest to .5."""
        scores = np.where(np.isnan(scores), -np.inf, scores)
        best = np.flatnonzero(scores == scores.max())
        if len(best) == len(scores):  # All equal, such as F1 without a positive row.
            return MIDDLE
        return float(self.thresholds(np.array(self.nearest(best))))

    def counts(self, thresholds: np.ndarray) -> np.ndarray:
        """Return (tp, fp, fn, tn) at each of the thresholds: (4, thresholds)."""
        cuts = np.searchsorted(self.values, thresholds)
        tp, fp = self.tp[cuts], self.fp[cuts]
        return np.array([tp, fp, self.positives - tp, self.negatives - fp])


def _sorted_keys(target: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, type]:
    """Return ascending integers (n,): a probability's bits, then a bit for its target.

    Floats from 0 to 1 sort as their bits do and leave the sign bit free. Sorting these is several times
    faster than an argsort, and nothing has to be gathered.
    """
    if probabilities.dtype not in (np.float32, np.float64):
        probabilities = probabilities.astype(float)
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):  # also fails for nan
        raise ValueError("probabilities must be numbers between 0 and 1")
    kind = probabilities.dtype
    whole = np.dtype(f"u{kind.itemsize}")
    keys = probabilities.view(whole) << whole.type(1)
    keys |= target.astype(whole)
    keys.sort()
    return keys, kind.type


def best_threshold(name: str, target: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the exact best threshold for a metric of `metrics.FROM_COUNTS`.

    target, probabilities: of one shape; several labels are pooled. Of equally good thresholds the one
    nearest .5 is taken, and .5 if all are equally good.
    """
    sweep = Sweep.of(np.ravel(target), np.ravel(probabilities))
    return sweep.best(sweep.scores(name))


def rate_thresholds(probabilities: np.ndarray) -> np.ndarray:
    """Return (labels,) thresholds whose number of predicted positives is the sum of probabilities.

    They need no targets: for calibrated probabilities the mean is the expected rate of positives.
    """
    nothing, found = np.zeros(probabilities.shape, bool), []
    for target, column in columns(nothing, probabilities):
        sweep = Sweep.of(target, column)
        # Without targets every positive is a false one.
        found.append(sweep.best(-np.abs(sweep.fp - column.sum(dtype=float))))
    return np.array(found)


# --- a threshold per label, from label counts ---------------------------------------------


def counted_thresholds(
    name: str,
    average: str,
    targets: np.ndarray,
    probabilities: np.ndarray,
    shrinkage: float = SHRINKAGE,
) -> np.ndarray:
    """Return thresholds for the macro, weighted or micro average of a metric.

    With a shrinkage of 0 they are the exact optimum: label by label for macro and weighted, by
    Dinkelbach's iteration for micro. Then they are shrunk (see `shrink`) towards the best threshold of
    a grid for all labels in common.

    Args:
        name: f1, precision, recall or jaccard.
        average: 'macro', 'weighted' or 'micro'.
        targets: (n, labels) of 0/1.
        probabilities: (n, labels).
        shrinkage: k of `own_share`.

    Returns:
        (labels,) thresholds.
    """
    grid = threshold_grid(probabilities)
    parts, counts = [], []
    for column in columns(targets, probabilities):
        sweep = Sweep.of(*column)
        parts.append(Corners.of(sweep) if average == "micro" else sweep.best(sweep.scores(name)))
        counts.append(sweep.counts(grid))
    thresholds = dinkelbach(name, parts) if average == "micro" else np.array(parts)
    on_grid = np.stack(counts, axis=1)
    common = nearest_best(grid, average_counts(name, average, on_grid))
    return shrink(thresholds, common, own_share(rarer_side(on_grid[:, :, 0]), shrinkage))


def average_counts(name: str, average: str, counts: np.ndarray) -> np.ndarray:
    """Return (…) averaged metrics from (4, labels, …) counts tp, fp, fn, tn."""
    one = AVERAGED[name]
    if average == "micro":
        return one(*counts.sum(axis=1))
    scores, (tp, _, fn, _) = one(*counts), counts
    if average == "macro":
        return scores.mean(axis=0)
    support = tp + fn
    return (support * scores).sum(axis=0) / np.maximum(support.sum(axis=0), 1)


def counts_at(thresholds: np.ndarray, targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return (4, labels) counts tp, fp, fn, tn at one threshold per label."""
    found = []
    for threshold, (target, column) in zip(
        thresholds, columns(targets, probabilities), strict=True
    ):
        # An array: beside float32 probabilities numpy would round a bare float to float32.
        decided, given = column >= np.array([threshold]), target.astype(bool)
        tp, predicted, positives = (np.count_nonzero(x) for x in (decided & given, decided, given))
        fp, fn = predicted - tp, positives - tp
        found.append((tp, fp, fn, len(given) - tp - fp - fn))
    return np.array(found, float).T


def rarer_side(counts: np.ndarray) -> np.ndarray:
    """Return (labels,) the number of rows on each label's rarer side, from (4, labels) counts."""
    tp, fp, fn, tn = counts
    return np.minimum(tp + fn, fp + tn)


def own_share(rows: np.ndarray, shrinkage: float) -> np.ndarray:
    """Return m / (m + k): the weight of a label's own optimum against the common one.

    As in empirical Bayes (Efron & Morris 1975, "Data analysis using Stein's estimator and its
    generalizations") estimates from little data are shrunk to the common value. k is the shrinkage: at
    m = k both weigh the same. The default of 5 was the best compromise over simulated sets of 20
    labels, 300 to 4,000 rows and probabilities from calibrated to far off.

    Args:
        rows: (labels,) m, a label's positive or negative rows, whichever are fewer.
        shrinkage: k >= 0; 0 shrinks nothing.
    """
    return rows / np.maximum(rows + shrinkage, 1) if shrinkage else np.ones(len(rows))


def shrink(thresholds: np.ndarray, common: float, share: np.ndarray) -> np.ndarray:
    """Return thresholds (labels,) shrunk towards the common one: means of logits by `own_share`.

    On logits, since a threshold of .02 is as far from .04 as one of .1 from .2. A threshold with share
    1 stays the same to the last digit.
    """
    own, other = (logit(np.clip(x, CERTAIN, 1 - CERTAIN)) for x in (thresholds, common))
    return np.where(share < 1, expit(share * own + (1 - share) * other), thresholds)


# --- Dinkelbach -------------------------------------------------------------------------------

# Numerator a TP and denominator b TP + c FP + d (TP + FN).
RATIOS = {
    "f1": (2, 1, 1, 1),
    "precision": (1, 1, 1, 0),
    "recall": (1, 0, 0, 1),
    "jaccard": (1, 0, 1, 1),
}


@dataclass(frozen=True)
class Corners:
    """The cuts of a sweep that are optimal for some gain per hit and cost per false alarm.

    They are the corners of the convex hull of the label's ROC curve, a few of many thousands, and on
    the side of the hull that holds .5 the cut nearest to it, which ties with the corners there.
    """

    thresholds: np.ndarray
    tp: np.ndarray
    fp: np.ndarray

    @classmethod
    def of(cls, sweep: Sweep) -> Corners:
        positives, every = -np.diff(sweep.tp), -np.diff(sweep.tp + sweep.fp)
        # The blocks of pooling adjacent violators are the sides of the hull: Fawcett &
        # Niculescu-Mizil 2007, "PAV and the ROC convex hull".
        corners = isotonic_regression(positives / every, weights=every).blocks
        middle = np.searchsorted(sweep.values, MIDDLE)
        side = min(np.searchsorted(corners, middle, "right"), len(corners) - 1)
        first, last = corners[side - 1], corners[side]
        tp, fp = sweep.tp[first : last + 1], sweep.fp[first : last + 1]
        across = (tp - tp[0]) * (fp[-1] - fp[0]) - (fp - fp[0]) * (tp[-1] - tp[0])
        cuts = np.union1d(corners, sweep.nearest(first + np.flatnonzero(across == 0)))
        return cls(sweep.thresholds(cuts), sweep.tp[cuts], sweep.fp[cuts])

    @property
    def positives(self) -> float:
        return self.tp[0]

    def best(self, gain: float, cost: float) -> int:
        """Return the cut of the largest gain * tp - cost * fp, of equals the nearest to .5."""
        values = gain * self.tp - cost * self.fp
        best = values >= values.max() - ROUNDING
        return int(np.where(best, np.abs(self.thresholds - MIDDLE), np.inf).argmin())


def dinkelbach(name: str, labels: list[Corners]) -> np.ndarray:
    """Return (labels,) thresholds that together are best for the micro average, exact.

    Dinkelbach 1967, "On nonlinear fractional programming": a ratio N / D has its largest value r where
    the maximum of N - r D is 0. For a given r each label's threshold is chosen independently, and the
    resulting ratio is the next r, until it stops rising.
    """
    a, b, c, _ = RATIOS[name]
    positives = sum(label.positives for label in labels)
    ratio, thresholds = 0.0, np.full(len(labels), MIDDLE)
    while positives:
        picks = [label.best(a - ratio * b, ratio * c) for label in labels]
        tp, fp = (
            sum(getattr(label, of)[pick] for label, pick in zip(labels, picks, strict=True))
            for of in ("tp", "fp")
        )
        reached = float(AVERAGED[name](tp, fp, positives - tp, 0))
        # At the optimum itself there are many ties, and these picks are those nearest to .5.
        if reached >= ratio - 1e-15:
            thresholds = np.array(
                [label.thresholds[pick] for label, pick in zip(labels, picks, strict=True)]
            )
        if reached <= ratio:
            break
        ratio = reached
    return thresholds


# --- one threshold for all labels -------------------------------------------------------------


def threshold_grid(probabilities: np.ndarray) -> np.ndarray:
    """Return ascending thresholds at which decisions change: quantiles and .5.

    They are denser towards the largest probabilities, where rare labels are decided. Many rows are
    subsampled at a regular stride.
    """
    step = max(1, probabilities.size // SAMPLE)
    levels = np.append(np.linspace(0, 1, 199), 1 - np.geomspace(1e-6, 1, 100))
    return np.unique(np.append(np.quantile(probabilities[::step].astype(float), levels), MIDDLE))


def nearest_best(thresholds: np.ndarray, scores: np.ndarray) -> float:
    """Return the threshold of the best score, of equals the nearest to .5, or .5 if all are equal."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = thresholds[scores == scores.max()]
    if len(best) == len(thresholds):
        return MIDDLE
    return float(best[np.abs(best - MIDDLE).argmin()])
