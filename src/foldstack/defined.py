"""Tell what the folds can score: a metric needs rows with and without a label, held out and learned.

If all rows with a label stand in one fold, its run learns none of them, and the others are scored on
none. No fold then defines a score, but pooled predictions have one: as each run predicts the rate of the
label among its own training rows, those of the one fold are predicted lowest, and the pooled AUC is far
below .5. It says nothing of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foldstack.competition import Competition
from foldstack.metrics import Metric, defined_columns
from foldstack.records import LoneLabel
from foldstack.store import Folds

SHOWN = 3  # columns with a sentence of their own


@dataclass(frozen=True)
class ScoredByFolds:
    """A metric as far as folds define it.

    Attributes:
        metric: of the rows that the folds score, over the columns that at least one fold defines;
            undefined for any predictions if there are none.
        columns: those columns; None for all.
        undefined: sentences that say what is not scored, and why.
    """

    metric: Metric
    columns: tuple[int, ...] | None
    undefined: list[str]


def defined_by_fold(metric: Metric, targets: np.ndarray, folds: Folds) -> np.ndarray:
    """Return (folds, columns) whether a fold defines the metric, by the rows it holds out and learns.

    There is one column for a metric that is no mean over columns. targets: (n, outputs) of all rows.
    """
    return np.array(
        [
            defined_columns(metric.take(held), targets[held])
            & defined_columns(metric.take(learned), targets[learned])
            for held, learned in _held_and_learned(folds)
        ]
    )


def _held_and_learned(folds: Folds) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of the rows that each fold holds out, and of those that its run learns."""
    for fold in folds.numbers:
        yield folds.held_out((fold,)), folds.learned((fold,))


def scored_by(competition: Competition, folds: Folds) -> ScoredByFolds:
    """Return the competition's metric of the scored rows, over what these folds define."""
    metric, targets = competition.metric, competition.train.targets
    defined = defined_by_fold(metric, targets, folds).any(axis=0)
    metric = metric.take(folds.scored)
    if defined.all():
        return ScoredByFolds(metric, None, [])
    columns = tuple(np.flatnonzero(defined).tolist())
    return ScoredByFolds(metric.over(columns), columns, _sentences(competition, folds, defined))


def _sentences(competition: Competition, folds: Folds, defined: np.ndarray) -> list[str]:
    name, outputs = competition.metric.name, competition.outputs
    missing = np.flatnonzero(~defined)
    if competition.metric.is_own:
        most = max(len(held) for held, _ in _held_and_learned(folds))
        reason = (
            "no fold holds out and learns rows on which it has a value for good predictions (the "
            f"largest holds out {most:,})"
        )
        return [f"{name} is undefined, since {reason}"]
    if len(defined) < len(outputs):  # of all classes together
        return [f"{name} is undefined, since no fold holds out and learns more than one class"]
    reasons = [_reason(competition, folds, k) for k in missing[:SHOWN]]
    if not defined.any():
        more = f", and likewise for {len(missing) - 1} more" if len(missing) > 1 else ""
        return [f"{name} is undefined, since {reasons[0]}{more}"]
    sentences = [
        f"{name} is the mean without '{outputs[k]}', since {reason}"
        for k, reason in zip(missing, reasons, strict=False)
    ]
    more = len(missing) - SHOWN
    return sentences + ([f"{name} is the mean without {more} more, likewise"] if more > 0 else [])


def _reason(competition: Competition, folds: Folds, column: int) -> str:
    """Return why no fold defines a column of a metric."""
    name = competition.outputs[column]
    if not competition.kind.has_labels:
        return f"no fold holds out and learns different values of '{name}'"
    for rows, of in _sides(competition, column):
        if not rows.any():
            return f"no row is {of}"
        place = _lone_place(competition, folds, rows)
        if place is not None:
            return f"{_all(rows, of)} in {place}"
    return f"no fold holds out and learns rows with and without '{name}'"


def _sides(competition: Competition, column: int) -> list[tuple[np.ndarray, str]]:
    """Return the rows (n,) bool with and without a label, and what to call them."""
    given = competition.train.targets[:, column] >= 0.5
    if competition.kind.has_positive_class:
        negative, positive = competition.labels
        return [(given, f"with '{positive}'"), (~given, f"with '{negative}'")]
    name = competition.outputs[column]
    return [(given, f"with '{name}'"), (~given, f"without '{name}'")]


def _all(rows: np.ndarray, of: str) -> str:
    count = np.count_nonzero(rows)
    return f"all {count:,} rows {of} stand" if count > 1 else f"the only row {of} stands"


def _lone_place(competition: Competition, folds: Folds, rows: np.ndarray) -> str | None:
    """Return `fold 3`, or `one group, in fold 3`, if all rows (n,) bool stand there; otherwise None.

    Rows in one group stand in one fold of every split.
    """
    found = np.unique(folds.fold[rows])
    if len(found) != 1 or found[0] < 0:
        return None
    groups = np.unique(competition.fold_groups[rows])
    alone = len(groups) == 1 and np.count_nonzero(rows) > 1
    return f"{'one group, in ' if alone else ''}fold {found[0]}"


def lone_labels(competition: Competition, folds: Folds) -> list[LoneLabel]:
    """Return the labels of which all rows with it, or all without it, stand in one fold."""
    found = []
    for column in range(len(competition.outputs)):
        sides = _sides(competition, column)
        for rows, of in sides[:1] if competition.kind.is_one_hot else sides:
            place = _lone_place(competition, folds, rows)
            if place is not None:
                found.append(LoneLabel(of=of, stand=f"{_all(rows, of)} in {place}"))
    return found
