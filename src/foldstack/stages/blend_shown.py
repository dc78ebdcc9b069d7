"""How a blend combines its models, where it cuts and what it confuses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from scipy.stats import rankdata

from foldstack.ensemble import STACKS
from foldstack.ensemble.thresholds import Sweep
from foldstack.kinds import Kind
from foldstack.metrics import FROM_COUNTS
from foldstack.records import (
    Agreement,
    BlendRecord,
    ConfusedPair,
    Confusion,
    ThresholdCurve,
)
from foldstack.records.decisions import weights_of
from foldstack.rows import evenly
from foldstack.stages.calibration_shown import most_frequent
from foldstack.stages.page_source import BlendRows

MOST_CLASSES = 12  # of a confusion matrix
MOST_PAIRS = 15
STEPS = 99  # of a threshold curve
MOST_DOTS = 1_000  # of a scatter plot


# Agreement


def agreement(source: BlendRows) -> Agreement:
    """Return the rank correlations of the models' out-of-fold predictions, and the weights."""
    record = source.record
    weights = weights_of(record.parameters) or {}
    return Agreement(
        models=[model.name for model in source.models],
        correlations=_correlations([model.oof for model in source.models]),
        weights={
            name: [float(w) for w in (each if isinstance(each, list) else [each])]
            for name, each in weights.items()
        },
        how=_how(record),
    )


def _correlations(predictions: list[np.ndarray]) -> list[list[float]]:
    """Return (models, models) Spearman correlations, averaged over the outputs that vary."""
    ranks = np.stack([rankdata(each, axis=0) for each in predictions])  # (models, n, outputs)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1))
    products = np.einsum("ank,bnk->abk", centred, centred)
    with np.errstate(invalid="ignore"):
        found = products / (lengths[:, None] * lengths[None])
    varies = (lengths > 0).all(axis=0)
    if not varies.any():
        return np.full(found.shape[:2], math.nan).tolist()
    return found[:, :, varies].mean(axis=2).clip(-1, 1).tolist()


def _how(record: BlendRecord) -> str:
    if record.winner.partition("+")[0] in STACKS:
        return (
            f"{record.winner}: a stack, which learns how to combine the models and has no weights"
        )
    if record.winner.startswith("single:"):
        return f"{record.winner}: one model alone did as well as every blend"
    return record.winner


# Decisions


def describe_rule(record: BlendRecord, labels: Sequence[str]) -> str:
    """Return how labels are decided, in a sentence; "" for regression without levels."""
    rule = record.rule
    if rule is None:
        return "" if Kind(record.kind).is_values else "probabilities are submitted"
    family = f" (family '{record.rules.family}')" if record.rules else ""
    if rule.top_k is not None:
        return f"the {rule.top_k} most probable labels of each row{family}"
    if rule.cut_points is not None:
        points = ", ".join(f"{point:.4g}" for point in rule.cut_points)
        return f"cut points between neighbouring levels at {points}{family}"
    if rule.costs is not None:
        return f"the least expected cost{family}"
    if rule.class_weights is not None:
        weights = zip(labels, rule.class_weights, strict=True)
        shown = ", ".join(f"{label} {weight:.3g}" for label, weight in list(weights)[:MOST_CLASSES])
        more = " …" if len(labels) > MOST_CLASSES else ""
        return f"the largest of probability times class weight: {shown}{more}{family}"
    if rule.thresholds is not None:
        at_least = ", at least one label in each row" if rule.at_least_one else ""
        return f"a threshold per label{at_least}{family}"
    return f"the most probable class{family}"


def threshold_curves(source: BlendRows) -> list[ThresholdCurve]:
    """Return each label's score by its threshold; [] if thresholds do not decide."""
    competition, rule = source.competition, source.record.rule
    if not competition.kind.decides_by_thresholds:
        return []
    if rule is not None and rule.thresholds is None:  # the k most probable labels
        return []
    name = competition.metric.name
    binary = competition.kind.has_positive_class and name in FROM_COUNTS
    chosen = rule.thresholds if rule is not None else [0.5] * len(competition.outputs)
    family = source.record.rules.family if source.record.rules else "default"
    shown = set(most_frequent(source))
    return [
        _curve(
            (label, name if binary else "f1"),
            source.rows.targets[:, k],
            source.probabilities[:, k],
            float(chosen[k]),
            fitted=rule is not None and family != "default",
        )
        for k, label in enumerate(competition.outputs)
        if label in shown
    ]


def _curve(
    named: tuple[str, str],
    targets: np.ndarray,
    probabilities: np.ndarray,
    chosen: float,
    *,
    fitted: bool,
) -> ThresholdCurve:
    """Return the curve of one label.

    Args:
        named: the label and the metric.
        targets, probabilities: (n,).
        chosen: the threshold in use.
        fitted: it was fitted on these rows.

    Returns:
        Its points where the metric is defined.
    """
    label, metric = named
    sweep = Sweep.of(targets, probabilities)
    grid = np.unique(np.append(np.linspace(0.01, 0.99, STEPS), chosen))
    scores = FROM_COUNTS[metric](*sweep.counts(grid))
    defined = np.isfinite(scores)
    points = zip(grid[defined].tolist(), scores[defined].tolist(), strict=True)
    at = float(scores[np.searchsorted(grid, chosen)])
    return ThresholdCurve(
        label=label,
        metric=metric,
        points=list(points),
        chosen=chosen,
        at_chosen=at,
        fitted=fitted,
    )


def confusion(source: BlendRows) -> Confusion | None:
    """Return what nested decisions confuse; None for regression."""
    kind, labels = source.competition.kind, list(source.competition.labels)
    if kind.is_values:
        return None
    if kind.several_labels_per_row:
        return Confusion(labels=[], others=0, counts=[], pairs=_missed_for(source, labels))
    given, decided = _classes(source.rows.targets), _classes(source.decisions)
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(counts, (given, decided), 1)
    pairs = _pairs(counts, labels)
    kept, others = _largest(counts)
    names = [labels[k] for k in kept] + ([f"{others} others"] if others else [])
    return Confusion(labels=names, others=others, counts=_reduced(counts, kept), pairs=pairs)


def _classes(values: np.ndarray) -> np.ndarray:
    """Return (n,) the class of each row of 0/1; a single column is that of the second class."""
    return values[:, 0].astype(int) if values.shape[1] == 1 else values.argmax(axis=1)


def _pairs(counts: np.ndarray, labels: list[str]) -> list[ConfusedPair]:
    """Return the most frequent confusions; the share is of the rows of the true class."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS].tolist()
    cells = [divmod(cell, len(labels)) for cell in order]
    return [
        ConfusedPair(
            true=labels[a],
            predicted=labels[b],
            rows=int(wrong[a, b]),
            share=float(wrong[a, b] / counts[a].sum()),
        )
        for a, b in cells
        if wrong[a, b]
    ]


def _largest(counts: np.ndarray) -> tuple[list[int], int]:
    """Return the classes of a confusion matrix that are shown, and the number of the others."""
    if len(counts) <= MOST_CLASSES:
        return list(range(len(counts))), 0
    order = np.argsort(-counts.sum(axis=1), kind="stable")[: MOST_CLASSES - 1]
    return sorted(order.tolist()), len(counts) - MOST_CLASSES + 1


def _reduced(counts: np.ndarray, kept: list[int]) -> list[list[int]]:
    """Return the matrix of the kept classes, with the others combined into one."""
    if len(kept) == len(counts):
        return counts.tolist()
    place = np.full(len(counts), len(kept))
    place[kept] = np.arange(len(kept))
    reduced = np.zeros((len(kept) + 1, len(kept) + 1), dtype=int)
    np.add.at(reduced, (place[:, None], place[None, :]), counts)
    return reduced.tolist()


def _missed_for(source: BlendRows, labels: list[str]) -> list[ConfusedPair]:
    """Return the pairs of a missed label and a wrong one on the same row, the most frequent first."""
    targets, decided = source.rows.targets > 0.5, source.decisions > 0.5
    missed, wrong = targets & ~decided, decided & ~targets
    counts = missed.astype(int).T @ wrong.astype(int)
    found = [(int(counts[a, b]), a, b) for a, b in permutations(range(len(labels)), 2)]
    found.sort(key=lambda each: (-each[0], each[1], each[2]))
    return [
        ConfusedPair(
            true=labels[a], predicted=labels[b], rows=rows, share=rows / int(targets[:, a].sum())
        )
        for rows, a, b in found[:MOST_PAIRS]
        if rows
    ]


def predicted_values(source: BlendRows) -> list[tuple[float, float]]:
    """Return (true, predicted) of the first target, out of fold; at most `MOST_DOTS` rows."""
    if not source.competition.kind.is_values:
        return []
    rows = evenly(len(source.rows), MOST_DOTS)
    pairs = zip(source.rows.targets[rows, 0], source.oof[rows, 0], strict=True)
    return [(float(a), float(b)) for a, b in pairs]
