"""Decisions among classes: weights on their probabilities, cut points on the expected class.

Probabilities are (n, classes), of float32 or float64, and classes are given as (n,) indices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foldstack.ensemble.thresholds import own_share
from foldstack.metrics import AVERAGED

# Of a class's counts (tp, predicted, given): its score, and whether it takes part.
ByClass = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# Larger than that of thresholds, since all classes' weights meet in every decision. Calibrated
# probabilities hardly gain by weights; in simulated sets of 8 classes and 100 to 2,000 rows smaller
# values lost more there than they won where probabilities were off.
SHRINKAGE = 20.0
ROUNDS = 20
IMPROVEMENT = 1e-12


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return numerator / np.where(denominator == 0, 1, denominator)


def _averaged(name: str) -> ByClass:
    def by_class(tp, predicted, given):
        # A class neither given nor predicted takes no part.
        return AVERAGED[name](tp, predicted - tp, given - tp, 0), predicted + given > 0

    return by_class


def _recall_of_given(tp, predicted, given):
    return _ratio(tp, given), given > 0


# Metrics in which every class counts alike: the mean of a score over the classes that take part.
OF_CLASSES: dict[str, ByClass] = {
    **{f"{name}_macro": _averaged(name) for name in AVERAGED},
    "balanced_accuracy": _recall_of_given,
}


# --- class weights ----------------------------------------------------------------------------


def weighted_argmax(probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n,) the class with the most of weight times probability, of equals the first."""
    return (probabilities * weights).argmax(axis=1)


def class_weights(
    name: str, given: np.ndarray, probabilities: np.ndarray, shrinkage: float = SHRINKAGE
) -> np.ndarray:
    """(classes,) weights w for the class with the largest w p, a local optimum.

    Coordinate ascent from weights of 1 on: each class's weight in turn is set to the best there is
    while the others stand, which `best_weight` finds exactly, until a round changes nothing. Then
    the weights' logarithms are shrunk (see `thresholds.own_share`) towards 0, that is towards their
    mean, since a common factor changes no decision.

    Args:
        name: one of `OF_CLASSES`.
        given: (n,) class indices.
        shrinkage: k of `thresholds.own_share`, 0 for none.
    """
    weights = np.ones(probabilities.shape[1])
    score = _score(name, given, probabilities, weights)
    for _ in range(ROUNDS):
        before = score
        for k in range(len(weights)):
            tried = weights.copy()
            tried[k] = best_weight(name, given, probabilities, weights, k)
            # Scored again: the sums of a search are rounded, and so are products at a boundary.
            reached = _score(name, given, probabilities, tried)
            if reached > score + IMPROVEMENT:
                weights, score = tried, reached
        if not score > before:
            break
    counts = np.bincount(given, minlength=len(weights))
    rarer = np.minimum(counts, len(given) - counts)
    logs = np.log(weights) - np.average(np.log(weights), weights=counts)
    return np.exp(logs * own_share(rarer, shrinkage))


def best_weight(
    name: str, given: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, k: int
) -> float:
    """The best weight of class k where the other classes keep theirs, exact.

    Each row goes over to class k at one critical weight, max over j != k of w_j p_j, over p_k; so
    after sorting these every decision there is has its counts. Of equals the nearest to 1 is taken.
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
    """(n,) weights above which each row is of class k, and the class it is of below."""
    weighted = probabilities * weights
    weighted[:, k] = -1.0
    rivals = weighted.argmax(axis=1)
    strongest = weighted[np.arange(len(weighted)), rivals]
    own = probabilities[:, k].astype(float)
    never = np.full(len(own), np.inf)
    return np.divide(strongest, own, out=never, where=own > 0), rivals


def _between(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Weights between two bounds, by their geometric mean; half or twice where there is but one."""
    lower = np.where(lower > 0, lower, np.where(upper < np.inf, upper / 4, 0.5))
    upper = np.where(upper < np.inf, upper, 4 * lower)
    # Of square roots each, so that tiny bounds do not underflow.
    return np.sqrt(lower) * np.sqrt(upper)


def _scores_along(
    name: str, rivals: np.ndarray, given: np.ndarray, k: int, classes: int
) -> np.ndarray:
    """(n + 1,) scores as one row after another goes over from its rival class to class k."""
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
    """(2,) sums over the classes but k, before any row goes over."""
    tp = np.bincount(given[rivals == given], minlength=len(rows)).astype(float)
    predicted = np.bincount(rivals, minlength=len(rows)).astype(float)
    return np.delete(np.array(by_class(tp, predicted, rows)), k, axis=1).sum(axis=1)


def _losses(
    by_class: ByClass, rivals: np.ndarray, given: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """(2, n): by how much each row's going changes the score, and the part, of the class it leaves."""
    # Small integers are sorted by radix; within a class the rows stay in their order.
    order = np.argsort(rivals.astype(np.uint16), kind="stable")
    rival, hit = rivals[order], (rivals == given)[order].astype(float)
    hits = np.append(0.0, np.cumsum(hit))
    # What its class has left before each row goes: the row itself and those after it.
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


# --- cut points -------------------------------------------------------------------------------


def expected_class(probabilities: np.ndarray) -> np.ndarray:
    """(n,) means of the class index, of classes in their order."""
    # Not by BLAS, whose rounding of a row depends on the rows beside it.
    return (probabilities * np.arange(probabilities.shape[1], dtype=float)).sum(axis=1)


def kappa_cut_points(
    given: np.ndarray, probabilities: np.ndarray, shrinkage: float = SHRINKAGE
) -> np.ndarray:
    """(classes - 1,) ascending cut points on the expected class for quadratic kappa.

    With a shrinkage of 0 they are the exact optimum, by Dinkelbach's iteration (see
    `thresholds.dinkelbach`): kappa is 1 - O / E, where O, the observed squared distance, and E,
    the one expected by chance, are both sums over the cut points of what each adds by itself; and
    the best cut points for a given ratio come out in order. Then each is shrunk towards the middle
    of its two classes (see `thresholds.own_share`), where m are the rows on its rarer side.
    """
    middles = np.arange(probabilities.shape[1] - 1) + 0.5
    expected = expected_class(probabilities)
    order = np.argsort(expected)
    values, truth = expected[order], given[order].astype(float)
    cuts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1], [True])))
    # The sum of the given classes, and how many rows there are, from each cut on.
    above = np.append(np.cumsum(truth[::-1])[::-1], 0.0)[cuts]
    rows = (len(given) - cuts).astype(float)
    points = _points(values[cuts[:-1]])
    points = points[_best_cuts(above, rows, points, middles, (truth**2).sum())]
    beyond = np.array([np.count_nonzero(given > middle) for middle in middles])
    share = own_share(np.minimum(beyond, len(given) - beyond), shrinkage)
    return np.maximum.accumulate(share * points + (1 - share) * middles)


def _points(values: np.ndarray) -> np.ndarray:
    """Cut points below, midway between and above ascending distinct values."""
    middle = (values[:-1] + values[1:]) / 2
    middle = np.where(middle > values[:-1], middle, values[1:])  # of neighbouring floats
    return np.concatenate((values[:1] - 0.5, middle, values[-1:] + 0.5))


def _best_cuts(
    above: np.ndarray, rows: np.ndarray, points: np.ndarray, middles: np.ndarray, squares: float
) -> np.ndarray:
    """(classes - 1,) indices of cuts: Dinkelbach's iteration from a kappa of 0, which a constant has.

    above, rows: (cuts,) the sum of the given classes and the number of rows from each cut on.
    """
    mean, kappa, best = above[0] / rows[0], 0.0, np.zeros(len(middles), int)
    while True:
        picks = np.array(
            [_pick(above, rows, points, c, kappa * c + (1 - kappa) * mean) for c in middles]
        )
        observed = squares + 2 * (middles * rows[picks] - above[picks]).sum()
        chance = squares + 2 * ((middles - mean) * rows[picks]).sum()
        reached = 1 - observed / chance
        # At the optimum itself ties are many, and these picks are those nearest the middles.
        if reached >= kappa - 1e-15:
            best = picks
        if reached <= kappa:
            return best
        kappa = reached


def _pick(
    above: np.ndarray, rows: np.ndarray, points: np.ndarray, middle: float, level: float
) -> int:
    """The cut above which the given classes exceed the level by most; of equals nearest `middle`."""
    gains = above - level * rows
    best = gains >= gains.max() - IMPROVEMENT * rows[0]
    return int(np.where(best, np.abs(points - middle), np.inf).argmin())
