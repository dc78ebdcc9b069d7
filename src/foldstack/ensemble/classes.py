"""Decisions among classes: weights on their probabilities, cut points on the expected class.

Probabilities are (n, classes), float32 or float64; classes are (n,) indices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foldstack.ensemble.thresholds import CERTAIN, own_share
from foldstack.metrics import AVERAGED

# From a class's counts (tp, predicted, given) to its score, and whether it takes part.
ByClass = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# Larger than for thresholds, since every decision depends on all classes' weights. Calibrated
# probabilities hardly gain by weights: with smaller values, simulated sets of 8 classes and 100 to
# 2,000 rows lost more there than they won with uncalibrated probabilities.
SHRINKAGE = 20.0
# Predicted numbers are nearer to their mean than the truth is, so that the middles between levels are
# far from the best cut points. On simulated grades 1 to 6, 100 to 5,000 rows, a shrinkage of 20 lost up
# to .03 of the kappa on new rows against 0, and 5 won at most .001.
LEVEL_SHRINKAGE = 0.0
ROUNDS = 20
IMPROVEMENT = 1e-12
DRAWS = 2000
DRAWN = 100_000  # values (rows times classes) of all draws together
FEWEST = 20
ASIDE = 0.01  # standard deviation of the logarithm of a drawn weight from where classes tie
CLIMBS = 2, 10  # fewest and most draws, the best ones, at which coordinate ascent begins
CLIMBED = 400  # values (rows times classes) of all these climbs together, beyond the fewest


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return numerator / np.where(denominator == 0, 1, denominator)


def _averaged(name: str) -> ByClass:
    def by_class(tp, predicted, given):
        # A class neither given nor predicted takes no part.
        return AVERAGED[name](tp, predicted - tp, given - tp, 0), predicted + given > 0

    return by_class


def _recall_of_given(tp, predicted, given):
    return _ratio(tp, given), given > 0


# Metrics in which classes count equally: the mean of a score over the classes that take part.
OF_CLASSES: dict[str, ByClass] = {
    **{f"{name}_macro": _averaged(name) for name in AVERAGED},
    "balanced_accuracy": _recall_of_given,
}


# --- class weights ----------------------------------------------------------------------------


def weighted_argmax(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (n,) the class of the largest weight times probability, the first of equals."""
    return (probabilities * weights).argmax(axis=1)


def class_weights(
    name: str, given: np.ndarray, probabilities: np.ndarray, shrinkage: float = SHRINKAGE
) -> np.ndarray:
    """Return (classes,) weights w for deciding by the largest w p, a local optimum.

    Coordinate ascent (`ascend_weights`) begins at weights of 1, at inverse frequencies, which are
    optimal for the mean recall of calibrated probabilities, and on few rows at the best of
    `drawn_weights`; of equally good results the first is taken. Then the weights' logarithms are shrunk
    (see `thresholds.own_share`) towards 0, their mean, since a common factor changes no decision.

    Args:
        name: one of `OF_CLASSES`.
        given: (n,) class indices.
        probabilities: (n, classes).
        shrinkage: k of `thresholds.own_share`, 0 for none.

    Returns:
        Positive weights.
    """
    counts = np.bincount(given, minlength=probabilities.shape[1])
    starts = [np.ones(len(counts)), len(given) / np.maximum(counts, 0.5)]
    drawn = drawn_weights(probabilities)
    if len(drawn):
        order = np.argsort(-_scores(name, given, probabilities, drawn), kind="stable")
        climbs = int(np.clip(CLIMBED // probabilities.size, *CLIMBS))
        starts += list(drawn[order[:climbs]])
    weights, score = starts[0], -np.inf
    for start in starts:
        found, reached = ascend_weights(name, given, probabilities, start)
        if reached > score + IMPROVEMENT:
            weights, score = found, reached
    rarer = np.minimum(counts, len(given) - counts)
    logs = np.log(weights) - np.average(np.log(weights), weights=counts)
    return np.exp(logs * own_share(rarer, shrinkage))


def drawn_weights(probabilities: np.ndarray) -> np.ndarray:
    """Return (draws, classes) weights near which decisions change, the same every time.

    The areas of weights with equal decisions are bounded by the weights at which two classes tie in a
    row. So each weight is drawn as the one at which its class ties with a reference class in some row,
    and moved a little to either side. There are as many draws as `DRAWN` allows, none if
    those are too few to be of use.
    """
    n, classes = probabilities.shape
    count = min(DRAWS, DRAWN // probabilities.size)
    count = count if count >= FEWEST else 0
    rng = np.random.default_rng(0)
    rows, reference = rng.integers(n, size=(count, classes)), rng.integers(classes, size=count)
    logs = np.log(np.maximum(probabilities, CERTAIN))
    ties = logs[rows, reference[:, None]] - logs[rows, np.arange(classes)]
    return np.exp(ties + rng.normal(scale=ASIDE, size=ties.shape))


def ascend_weights(
    name: str, given: np.ndarray, probabilities: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return (classes,) weights by coordinate ascent, never worse than `start`, and their score.

    Each weight in turn is set to its best value while the others stay fixed, which `best_weight` finds
    exactly, until a round changes nothing.
    """
    weights = start
    score = _score(name, given, probabilities, weights)
    for _ in range(ROUNDS):
        before = score
        for k in range(len(weights)):
            tried = weights.copy()
            tried[k] = best_weight(name, given, probabilities, weights, k)
            # Scored again: the search's sums are rounded, and so are products at a boundary.
            reached = _score(name, given, probabilities, tried)
            if reached > score + IMPROVEMENT:
                weights, score = tried, reached
        if not score > before:
            break
    return weights, score


def best_weight(
    name: str, given: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, k: int
) -> float:
    """Return the exact best weight of class k if the other weights stay fixed.

    Each row moves to class k at one critical weight, max over j != k of w_j p_j, over p_k; sorting
    these gives the counts of every possible decision.

    Args:
        name: one of `OF_CLASSES`.
        given: (n,) class indices.
        probabilities: (n, classes).
        weights: (classes,), of which that of k is ignored.
        k: the class.

    Returns:
        The weight, of equally good ones the nearest to 1.
    """
    critical, rivals = _critical(probabilities, weights, k)
    order = np.argsort(critical)
    critical, rivals, hits = critical[order], rivals[order], given[order]
    scores = _scores_along(name, rivals, hits, k, probabilities.shape[1])
    # A cut before each distinct critical weight, and after the last.
    cuts = np.flatnonzero(np.concatenate(([True], critical[1:] != critical[:-1], [True])))
    lower, upper = np.append(0.0, critical)[cuts], np.append(critical, np.inf)[cuts]
    cuts, lower, upper = (x[(upper > 0) & (lower < np.inf)] for x in (cuts, lower, upper))
    scores = np.where(np.isnan(scores[cuts]), -np.inf, scores[cuts])
    ties = scores >= scores.max() - IMPROVEMENT
    between = _between(lower[ties], upper[ties])
    return float(between[np.abs(np.log(between)).argmin()])


def _critical(
    probabilities: np.ndarray, weights: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) critical weights above which a row is of class k, and its class below."""
    weighted = probabilities * weights
    weighted[:, k] = -1.0
    rivals = weighted.argmax(axis=1)
    strongest = weighted[np.arange(len(weighted)), rivals]
    own = probabilities[:, k].astype(float)
    never = np.full(len(own), np.inf)
    return np.divide(strongest, own, out=never, where=own > 0), rivals


def _between(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return weights between two bounds: the geometric mean; half or twice if there is only one."""
    lower = np.where(lower > 0, lower, np.where(upper < np.inf, upper / 4, 0.5))
    upper = np.where(upper < np.inf, upper, 4 * lower)
    # The root of each, so that tiny bounds do not underflow.
    return np.sqrt(lower) * np.sqrt(upper)


def _scores_along(
    name: str, rivals: np.ndarray, given: np.ndarray, k: int, classes: int
) -> np.ndarray:
    """Return (n + 1,) scores as row after row moves from its rival class to class k."""
    by_class = OF_CLASSES[name]
    rows = np.bincount(given, minlength=classes).astype(float)
    gone = np.arange(len(given) + 1.0)
    won = np.append(0.0, np.cumsum(given == k))
    start = _others(by_class, rivals, given, k, rows)[:, None]
    own = np.array(np.broadcast_arrays(*by_class(won, gone, rows[k])))
    lost = np.cumsum(_losses(by_class, rivals, given, rows), axis=1)
    return _ratio(*(start + own + np.pad(lost, ((0, 0), (1, 0)))))


def _others(
    by_class: ByClass, rivals: np.ndarray, given: np.ndarray, k: int, rows: np.ndarray
) -> np.ndarray:
    """Return (2,) sums over the classes other than k, before any row moves."""
    tp = np.bincount(given[rivals == given], minlength=len(rows)).astype(float)
    predicted = np.bincount(rivals, minlength=len(rows)).astype(float)
    return np.delete(np.array(by_class(tp, predicted, rows)), k, axis=1).sum(axis=1)


def _losses(
    by_class: ByClass, rivals: np.ndarray, given: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Return (2, n): the changes of the score and the part of the class that each row leaves."""
    # Small integers are sorted by radix; the sort is stable within a class.
    order = np.argsort(rivals.astype(np.uint16), kind="stable")
    rival, hit = rivals[order], (rivals == given)[order].astype(float)
    hits = np.append(0.0, np.cumsum(hit))
    # The rows that its class still has before each row moves: the row itself and those after it.
    last = np.cumsum(np.bincount(rivals, minlength=len(rows)))[rival]
    left, tp = (last - np.arange(len(rival))).astype(float), hits[last] - hits[:-1]
    before = np.array(by_class(tp, left, rows[rival]))
    after = np.array(by_class(tp - hit, left - 1, rows[rival]))
    changes = np.empty_like(before)
    changes[:, order] = after - before
    return changes


def _score(name: str, given: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    decided, classes = weighted_argmax(probabilities, weights), len(weights)
    counts = (np.bincount(x, minlength=classes).astype(float) for x in (decided, given))
    tp = np.bincount(given[decided == given], minlength=classes).astype(float)
    return float(_ratio(*(np.sum(part) for part in OF_CLASSES[name](tp, *counts))))


def _scores(
    name: str, given: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the (draws,) scores of weights (draws, classes)."""
    classes = np.arange(weights.shape[1])
    decided = (probabilities * weights[:, None]).argmax(axis=2)
    predicted = np.stack([(decided == k).sum(axis=1) for k in classes], axis=1)
    tp = np.stack([(decided[:, given == k] == k).sum(axis=1) for k in classes], axis=1)
    rows = np.bincount(given, minlength=len(classes))
    parts = OF_CLASSES[name](tp.astype(float), predicted.astype(float), rows.astype(float))
    return _ratio(*(np.broadcast_to(part, tp.shape).sum(axis=1, dtype=float) for part in parts))


# --- cut points -------------------------------------------------------------------------------


def expected_class(probabilities: np.ndarray) -> np.ndarray:
    """Return (n,) means of the class index, for ordered classes."""
    # BLAS rounds a row depending on the rows beside it.
    return (probabilities * np.arange(probabilities.shape[1], dtype=float)).sum(axis=1)


def kappa_cut_points(
    given: np.ndarray, probabilities: np.ndarray, shrinkage: float = SHRINKAGE
) -> np.ndarray:
    """Return (classes - 1,) ascending cut points on the expected class for quadratic kappa.

    With a shrinkage of 0 they are the exact optimum, by Dinkelbach's iteration (see
    `thresholds.dinkelbach`): kappa is 1 - O / E. The observed squared distance O and the one expected
    by chance, E, are both sums over the cut points of independent terms, and the best cut points for a
    given ratio are ascending. Then each is shrunk towards the middle of its two classes (see
    `thresholds.own_share`), where m is the number of rows on its rarer side.
    """
    levels = np.arange(probabilities.shape[1], dtype=float)
    return kappa_level_cuts(given.astype(float), expected_class(probabilities), levels, shrinkage)


def kappa_level_cuts(
    given: np.ndarray, predicted: np.ndarray, levels: np.ndarray, shrinkage: float = SHRINKAGE
) -> np.ndarray:
    """Return (levels - 1,) ascending cut points on predicted numbers for quadratic kappa.

    Args:
        given: (n,) true values, each one of the levels.
        predicted: (n,) numbers.
        levels: ascending.
        shrinkage: see `kappa_cut_points`.
    """
    middles, steps = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    order = np.argsort(predicted)
    values, truth = predicted[order], given[order]
    cuts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1], [True])))
    # The sum of the given classes and the number of rows from each cut on.
    above = np.append(np.cumsum(truth[::-1])[::-1], 0.0)[cuts]
    rows = (len(given) - cuts).astype(float)
    points = _points(values[cuts[:-1]])
    least = levels[0]  # kappa does not change if all values are moved
    above, squares = above - least * rows, ((truth - least) ** 2).sum()
    points = points[_best_cuts(above, rows, points, middles, least, steps, squares)]
    beyond = np.array([np.count_nonzero(given > middle) for middle in middles])
    share = own_share(np.minimum(beyond, len(given) - beyond), shrinkage)
    return np.maximum.accumulate(share * points + (1 - share) * middles)


def _points(values: np.ndarray) -> np.ndarray:
    """Return cut points below, midway between and above ascending distinct values."""
    middle = (values[:-1] + values[1:]) / 2
    middle = np.where(middle > values[:-1], middle, values[1:])  # of neighbouring floats
    return np.concatenate((values[:1] - 0.5, middle, values[-1:] + 0.5))


def _best_cuts(
    above: np.ndarray,
    rows: np.ndarray,
    points: np.ndarray,
    middles: np.ndarray,
    least: float,
    steps: np.ndarray,
    squares: float,
) -> np.ndarray:
    """Return (classes - 1,) indices of cuts, by Dinkelbach's iteration from 0, a constant's kappa.

    above, rows: (cuts,) the sum of the given values above the least level, and the number of rows,
    from each cut on. middles, steps: (levels - 1,) between neighbouring levels. squares: the sum of
    the squares of the given values above the least level.
    """
    mean, kappa, best = above[0] / rows[0], 0.0, np.zeros(len(middles), int)
    rises = middles - least
    while True:
        picks = np.array(
            [
                _pick(above, rows, points, middle, kappa * rise + (1 - kappa) * mean)
                for middle, rise in zip(middles, rises, strict=True)
            ]
        )
        observed = squares + 2 * (steps * (rises * rows[picks] - above[picks])).sum()
        chance = squares + 2 * (steps * (rises - mean) * rows[picks]).sum()
        reached = 1 - observed / chance
        # At the optimum itself there are many ties, and these picks are those nearest the middles.
        if reached >= kappa - 1e-15:
            best = picks
        if reached <= kappa:
            return best
        kappa = reached


def _pick(
    above: np.ndarray, rows: np.ndarray, points: np.ndarray, middle: float, level: float
) -> int:
    """Return the cut above which the given classes exceed the level most, of equals nearest `middle`."""
    gains = above - level * rows
    best = gains >= gains.max() - IMPROVEMENT * rows[0]
    return int(np.where(best, np.abs(points - middle), np.inf).argmin())
