"""What the folds can score: a metric needs rows with and without a label, held out and learned.

If all rows with a label stand in one fold, its run learns none of them, and the others are scored on
none. No fold then defines a score, but pooled predictions have one: as each run predicts the rate of the
label among its own training rows, those of the one fold are predicted lowest, and the pooled AUC is far
below .5. It says nothing of the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foldstack.competition import Competition
from foldstack.metrics import Metric, defined_columns
from foldstack.store import Folds

SHOWN = 3  # columns with a sentence of their own


@dataclass(frozen=True)
class Scored:
    """A metric as far as folds define it.

    Attributes:
        metric: over the columns that at least one fold defines; undefined for any predictions if there
            are none.
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
            defined_columns(metric, targets[folds.held_out((fold,))])
            & defined_columns(metric, targets[folds.learned((fold,))])
            for fold in folds.numbers
        ]
    )


def scored_by(competition: Competition, folds: Folds) -> Scored:
    """Return the competition's metric over what these folds define."""
    metric, targets = competition.metric, competition.train.targets
    defined = defined_by_fold(metric, targets, folds).any(axis=0)
    if defined.all():
        return Scored(metric, None, [])
    columns = tuple(np.flatnonzero(defined).tolist())
    return Scored(metric.over(columns), columns, _sentences(competition, folds, defined))


def _sentences(competition: Competition, folds: Folds, defined: np.ndarray) -> list[str]:
    name, outputs = competition.metric.name, competition.outputs
    missing = np.flatnonzero(~defined)
    if competition.metric.is_own:
        reason = "no fold holds out and learns rows on which it has a value for good predictions"
        return [f"{name} is undefined, since {reason}"]
    if len(defined) < len(outputs):  # of all classes together
        return [f"{name} is undefined, since no fold holds out and learns more than one class"]
    whole = f"{name} is undefined" if not defined.any() else ""
    sentences = [
        f"{whole or f'{name} is the mean without {outputs[k]!r}'}, since "
        f"{_reason(competition, folds, k)}"
        for k in missing[: 1 if whole else SHOWN]
    ]
    if whole and len(missing) > 1:
        return [f"{sentences[0]}, and so on for {len(missing)} columns"]
    more = len(missing) - len(sentences)
    return sentences + (
        [f"{name} is the mean without {more} more for such reasons"] if more else []
    )


def _reason(competition: Competition, folds: Folds, column: int) -> str:
    """Return why no fold defines a column of a metric."""
    name, values = competition.outputs[column], competition.train.targets[:, column]
    if not competition.kind.has_labels:
        return f"no fold holds out and learns different values of '{name}'"
    for rows, of in ((values >= 0.5, "with"), (values < 0.5, "without")):
        if not rows.any():
            return f"there are no rows {of} '{name}'"
        place = lone_place(competition, folds, rows)
        if place is not None:
            return f"all {rows.sum():,} rows {of} '{name}' stand in {place}"
    return f"no fold holds out and learns rows with and without '{name}'"


def lone_place(competition: Competition, folds: Folds, rows: np.ndarray) -> str | None:
    """Return `fold 3`, or `one group, in fold 3`, if all rows (n,) bool stand there; otherwise None.

    Rows in one group stand in one fold of every split.
    """
    found = np.unique(folds.fold[rows])
    if len(found) != 1 or found[0] < 0:
        return None
    groups = np.unique(competition.fold_groups[rows])
    alone = len(groups) == 1 and rows.sum() > 1
    return f"{'one group, in ' if alone else ''}fold {found[0]}"


def lone_labels(competition: Competition, folds: Folds) -> list[str]:
    """Return a sentence for each label, the rows with or without which stand in one fold."""
    sentences = []
    for name, values in zip(competition.outputs, competition.train.targets.T, strict=True):
        sides = [(values >= 0.5, "with")]
        if not competition.kind.is_one_hot:
            sides.append((values < 0.5, "without"))
        for rows, of in sides:
            place = lone_place(competition, folds, rows)
            if place is not None:
                sentences.append(
                    f"all {rows.sum():,} rows {of} '{name}' stand in {place}: its run learns none of "
                    "them, and no other is scored on one"
                )
    return sentences
