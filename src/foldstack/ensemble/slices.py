"""The score of fixed predictions on parts of the rows, or of the labels, and where parts differ.

A part is compared with the rest on the same bootstrap resamples of whole groups (see `estimate`).
Many parts are looked at, so that some differ by chance: what is called a difference holds at a
level of 5 % for all comparisons together (Bonferroni's correction, see Dunn 1961, "Multiple
comparisons among means").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from foldstack import metrics
from foldstack.ensemble.decide import OF_LABELS
from foldstack.ensemble.estimate import spread
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.metrics import Metric

LARGEST = 10  # values of a column that have a slice each
FEWEST = 10  # of fewer independent rows a bootstrap cannot say how far they are from the rest
LEVEL = 0.05
# Metrics of classes that score some of these over all rows: what else is decided for one of them
# counts as its false positive, as with `labels=` in scikit-learn.
OF_COLUMNS = frozenset({*OF_LABELS, "balanced_accuracy", "roc_auc_ovr"})


@dataclass(frozen=True)
class Scored:
    """The n rows that slices are taken of, all arrays aligned.

    targets, predictions: (n, outputs), as the metric takes them. labels: names of the outputs, for
    binary of both classes. groups: (n,) rows that a resample draws together.
    """

    metric: Metric
    kind: Kind
    labels: Sequence[str]
    targets: np.ndarray
    predictions: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Selection:
    """Rows (indices), columns of outputs (indices, None for all), and weights, one a row."""

    rows: np.ndarray
    columns: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Slice:
    """A part that is scored, and compared with another one where there is one.

    rows: how many there are. groups: instead of those of `Scored`. why: it cannot be scored.
    """

    name: str
    rows: int
    part: Selection
    other: Selection | None = None
    groups: np.ndarray | None = None
    why: str = ""


@dataclass(frozen=True)
class SliceScore:
    """A slice's score with its 95 % interval, and how much better it is than the other part.

    nan stands for what is undefined, and `why` says why the score is. differs: by more than chance.
    """

    view: str
    rows: int
    score: float
    low: float = np.nan
    high: float = np.nan
    better_by: float = np.nan
    standard_error: float = np.nan
    differs: bool = False
    why: str = ""


# --- which slices there are -------------------------------------------------------------------


def all_rows(n: int) -> Slice:
    return Slice("all rows", n, Selection(np.arange(n)))


def duplicates_once(duplicates: np.ndarray) -> Slice:
    """Every group of duplicates (n,) counts as one row, which each of its rows is a share of.

    For means over rows this is the exact expectation over samples of one row a group.
    """
    names, group, size = np.unique(duplicates, return_inverse=True, return_counts=True)
    rows = np.arange(len(duplicates))
    return Slice(
        "duplicates once", len(names), Selection(rows, None, 1 / size[group]), Selection(rows)
    )


def head_and_tail(counts: np.ndarray, fewest: int) -> dict[str, np.ndarray]:
    """Indices of the labels of the head, of the tail, and of neither, from (labels,) counts of rows.

    The head are the most frequent labels that together hold half of what is counted, the tail
    others with less than `fewest`.
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    head = np.isin(np.arange(len(counts)), order[before < counts.sum() / 2])
    tail = ~head & (counts < fewest)
    kept = {"head": head, "tail": tail, "without head and tail": ~head & ~tail}
    return {name: np.flatnonzero(which) for name, which in kept.items()}


def label_slices(scored: Scored, fewest: int) -> list[Slice]:
    """By how frequent the labels are, for three and more of them (see `head_and_tail`).

    Metrics of columns (all of multilabel; averages over classes) score these labels' columns over
    all rows, others the rows of these classes.
    """
    outputs = scored.targets.shape[1]
    if not scored.kind.has_output_per_label or outputs < 3:
        return []
    counts = scored.targets.sum(axis=0)
    named = head_and_tail(counts, fewest)
    return [_label_slice(scored, name, labels) for name, labels in named.items()]


def _label_slice(scored: Scored, name: str, labels: np.ndarray) -> Slice:
    outputs = scored.targets.shape[1]
    holds = scored.targets[:, labels].any(axis=1)
    _, what = scored.kind.label_nouns
    name = f"{name}: {len(labels)} of {outputs} {what}"
    rest = np.setdiff1d(np.arange(outputs), labels)
    everything = np.arange(len(holds))
    if scored.kind.several_labels_per_row and scored.metric.name.startswith("metrics.py:"):
        why = "a metric of your own scores all labels together"
        return Slice(name, int(holds.sum()), Selection(everything), why=why)
    if scored.kind.several_labels_per_row or scored.metric.name in OF_COLUMNS:
        part, other = (
            Selection(everything, labels),
            Selection(everything, rest) if len(rest) else None,
        )
    else:
        part, other = Selection(np.flatnonzero(holds)), _rest(holds)
    return Slice(name, int(holds.sum()), part, other, why="" if holds.any() else "it has no rows")


def _rest(inside: np.ndarray) -> Selection | None:
    return None if inside.all() else Selection(np.flatnonzero(~inside))


def length_slices(lengths: np.ndarray) -> list[Slice]:
    """By quartiles of the lengths (n,), fewer where they tie; none where all are alike."""
    last = np.unique(np.quantile(lengths, [0.25, 0.5, 0.75, 1], method="inverted_cdf"))
    bins = np.searchsorted(last, lengths)
    first = [lengths.min(), *(last[:-1] + 1)]
    names = [f"length {a:,.0f} to {b:,.0f}" for a, b in zip(first, last, strict=True)]
    return [_of_rows(name, bins == k) for k, name in enumerate(names) if len(names) > 1]


def column_slices(column: str, values: np.ndarray, groups: np.ndarray | None = None) -> list[Slice]:
    """By the values (n,) of a column: a slice for each of the 10 most frequent, one for the others.

    groups: (n,) what a resample draws together, where it is not what `Scored` says.
    """
    names, value, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    if len(names) < 2:
        return []
    order = np.argsort(-counts, kind="stable")
    slices = [_of_rows(f"{column} = {names[k] or '(empty)'}", value == k) for k in order[:LARGEST]]
    if len(names) > LARGEST:
        others = np.isin(value, order[LARGEST:])
        slices.append(_of_rows(f"{column}: {len(names) - LARGEST:,} others", others))
    return [replace(one, groups=groups) for one in slices]


def _of_rows(name: str, inside: np.ndarray) -> Slice:
    return Slice(name, int(inside.sum()), Selection(np.flatnonzero(inside)), _rest(inside))


# --- their scores -----------------------------------------------------------------------------


def score_slices(
    scored: Scored, slices: Sequence[Slice], *, seed: int, resamples: int = 200
) -> list[SliceScore]:
    """Each slice's score, interval, and difference from what it is compared with.

    The interval is of 1.96 standard errors each way, by bootstrap, without the spread over seeds.
    A slice of fewer than 10 groups is never said to differ.
    """
    found = [_score_slice(scored, one, seed, resamples) for one in slices]
    compared = sum(np.isfinite(each.better_by) for each in found)
    bound = norm.ppf(1 - LEVEL / 2 / max(compared, 1))
    return [
        replace(each, differs=each.differs and _beyond(each, bound * each.standard_error))
        for each in found
    ]


def _beyond(found: SliceScore, bound: float) -> bool:
    return bool(abs(found.better_by) > bound + 1e-12)  # Less is rounding.


def _score_slice(scored: Scored, one: Slice, seed: int, resamples: int) -> SliceScore:
    """With `differs` saying whether there are groups enough to tell."""
    undefined = SliceScore(one.name, one.rows, np.nan)
    if one.why:
        return replace(undefined, why=one.why)
    of_part = _scorer(scored, one.part)
    of_other = _scorer(scored, one.other) if one.other else None
    n = len(scored.targets)
    try:
        score = of_part(np.ones(n))
        other = of_other(np.ones(n)) if of_other else np.nan
    except InputError as e:  # a user's metric that takes no weights
        return replace(undefined, why=str(e))
    if np.isnan(score):
        return replace(undefined, why=_why(scored, one.part))
    groups = scored.groups if one.groups is None else one.groups
    scorers = [of_part, of_other] if np.isfinite(other) else [of_part]
    resampled = _resample(scorers, groups, seed, resamples)
    error = spread(resampled[:, :1])[0]
    if _groups_in(scored, one.part, groups) < 2:  # It is the same whenever it is drawn.
        error = np.nan
    bounds = _metric_of(scored, one.part).bounds
    varies = bool(error != 0)  # a part without one error does not show its precision
    half = 1.96 * error if varies else np.nan
    low, high = np.clip([score - half, score + half], *bounds)
    plain = SliceScore(one.name, one.rows, score, float(low), float(high))
    if len(scorers) == 1 or np.isnan(error):
        return plain
    enough = min(_groups_in(scored, part, groups) for part in (one.part, one.other)) >= FEWEST
    return replace(
        plain,
        better_by=scored.metric.sign * (score - other) + 0.0,  # no -0.0
        standard_error=float(spread(resampled[:, :1] - resampled[:, 1:])[0]),
        differs=enough and varies,
    )


def _scorer(scored: Scored, part: Selection) -> Callable[[np.ndarray], float]:
    """Return the part's score as a function of the copies of each row (n,)."""
    metric = _metric_of(scored, part)
    targets, predictions = scored.targets[part.rows], scored.predictions[part.rows]
    if part.columns is not None:
        targets, predictions = targets[:, part.columns], predictions[:, part.columns]
    metric = metric.take(part.rows)
    weights = 1.0 if part.weights is None else part.weights
    return lambda times: metric.score(targets, predictions, times[part.rows] * weights)


def _metric_of(scored: Scored, part: Selection) -> Metric:
    """Return the metric of the part's labels alone, with their costs."""
    if part.columns is None:
        return scored.metric
    if scored.metric.costs is None:
        own = scored.metric.columns
        of_part = own and tuple(np.flatnonzero(np.isin(part.columns, own)).tolist())
        return scored.metric.over(of_part)
    costs = tuple(scored.metric.costs[k] for k in part.columns)
    return metrics.get(scored.metric.name, scored.kind, costs=costs)


def _resample(
    scorers: Sequence[Callable[[np.ndarray], float]], groups: np.ndarray, seed: int, resamples: int
) -> np.ndarray:
    """(resamples, scorers) scores, by the same draws as `estimate.bootstrap`."""
    rng = np.random.default_rng(seed)
    names, group = np.unique(groups, return_inverse=True)
    scores = np.empty((resamples, len(scorers)))
    for row in scores:
        drawn = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        row[:] = [scorer(drawn[group]) for scorer in scorers]
    return scores


def _groups_in(scored: Scored, part: Selection, groups: np.ndarray) -> int:
    """How many groups there are in the part, for columns of rows that hold one of these labels."""
    rows = part.rows
    if part.columns is not None:
        rows = rows[scored.targets[np.ix_(rows, part.columns)].any(axis=1)]
    return len(np.unique(groups[rows]))


def _why(scored: Scored, part: Selection) -> str:
    """Return why the metric is not defined on these rows."""
    targets = scored.targets[part.rows]
    first = targets[0]
    if (targets != first).any():
        return f"{scored.metric.name} is not defined there"
    if scored.kind.is_values:
        return "the target is the same in all of its rows"
    if scored.kind.several_labels_per_row:
        return "all of its rows have the same labels"
    label = int(first[0] if scored.kind.has_positive_class else first.argmax())
    return f"all of its rows are '{scored.labels[label]}'"
