"""Label edits: training rows that are dropped, relabelled or weighted, from a file beside them.

Edits change what runs learn from. Each row is still predicted, and scored on the label that the training
file gives it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack import config
from foldstack.errors import InputError, cut, nearest
from foldstack.input_tables import in_spelling_of, spelled
from foldstack.rows import Rows
from foldstack.settings import CompetitionSettings
from foldstack.targets import TargetColumns, numbers_of, refuse_first

# What is done to a row by each action.
DONE = {
    "drop": "dropped",
    "relabel": "relabelled",
    "weight": "weighted",
    "keep": "kept as they are",
}
ACTIONS = tuple(DONE)
BY = ("person", "model")
LABEL = "label"  # the column of a relabelled row's label, if there is one target column


@dataclass(frozen=True)
class Edits:
    """The edits of m training rows, in the order of the file.

    Attributes:
        path: of the file.
        ids: (m,) of the rows.
        actions: (m,) each one of `ACTIONS`.
        targets: (m, outputs) of relabelled rows; nan for others.
        weights: (m,) factors of the rows' weights; 1 for other actions.
        by_model: (m,) whether a model chose the edit.
    """

    path: Path
    ids: np.ndarray
    actions: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    by_model: np.ndarray

    @cached_property
    def hash(self) -> str | None:
        """The digest of what changes training, in whatever order; None if nothing does."""
        order = np.argsort(self.ids.astype(str), kind="stable")
        order = order[self.actions[order] != "keep"]
        found = [
            [self.ids[i], self.actions[i], self.targets[i].tolist(), self.weights[i]] for i in order
        ]
        return config.digest(found) if found else None

    @cached_property
    def _places(self) -> pd.Index:
        return pd.Index(self.ids)

    def counts(self, rows: Rows) -> dict[str, int]:
        """Return how many of these rows have each action."""
        actions = self.actions[self._places.isin(rows.ids)]
        return {action: int((actions == action).sum()) for action in ACTIONS}

    def applied(self, rows: Rows) -> Rows:
        """Return the rows as they are learned, without those that are dropped."""
        places = self._places.get_indexer(rows.ids)
        known = np.flatnonzero(places >= 0)
        of_known = places[known]
        targets, weights = rows.targets.copy(), rows.weights.copy()
        relabelled = self.actions[of_known] == "relabel"
        targets[known[relabelled]] = self.targets[of_known[relabelled]]
        weights[known] *= self.weights[of_known]
        dropped = known[self.actions[of_known] == "drop"]
        kept = np.setdiff1d(np.arange(len(rows)), dropped)
        return replace(rows, targets=targets, weights=weights).take(kept)

    @property
    def optimistic(self) -> list[str]:
        """Why every estimate is optimistic, if a model chose edits."""
        count = int((self.by_model & (self.actions != "keep")).sum())
        if not count:
            return []
        rows = "1 row is" if count == 1 else f"{count:,} rows are"
        return [
            f"{rows} edited by a model in {self.path.name}, which may have learned the labels of the "
            "held-out folds: what it changes of other folds' rows carries them into training; without "
            "those edits this mark goes"
        ]


def read_edits(
    path: Path,
    table: pd.DataFrame,
    settings: CompetitionSettings,
    labels: tuple[str, ...],
    ids: np.ndarray,
    unlabelled: Collection[str],
) -> Edits:
    """Return the edits of a file.

    Args:
        path: of the file, for messages.
        table: its cells as text: id, action, label(s), weight, by, reason.
        settings: of the competition.
        labels: its labels, see `Competition.labels`.
        ids: (n,) of the training rows that are learned.
        unlabelled: ids of the training file's rows that have no label.

    Raises:
        InputError: with the row, for what is no edit of a training row.
    """
    of_targets = _target_columns(path, settings)
    table = spelled(table, (settings.id, "action", *of_targets, "weight", "by"))
    for column in (settings.id, "action"):
        _require(path, table, column)
    table = table.assign(**{settings.id: in_spelling_of(ids, table[settings.id])})
    _check_ids(path, table[settings.id], ids, unlabelled)
    _check_words(path, table["action"], ACTIONS)
    actions = table["action"].to_numpy(dtype=object)
    _refuse_given(path, table, actions != "relabel", of_targets)
    _refuse_given(path, table, ~np.isin(actions, ("relabel", "weight")), ("weight",))
    return Edits(
        path,
        table[settings.id].to_numpy(dtype=object),
        actions,
        _targets(path, table, settings, of_targets, labels),
        _weights(path, table),
        _by_model(path, table),
    )


def _target_columns(path: Path, settings: CompetitionSettings) -> tuple[str, ...]:
    """Return the columns of relabelled rows' labels."""
    if len(settings.target) == 1:
        return (LABEL,)
    taken = next((c for c in settings.target if c in ("action", "weight", "by")), None)
    if taken is not None:
        raise InputError(
            f"{path}: target column '{taken}' is named as the edits' own column: name it otherwise by "
            "`columns` in competition.yaml"
        )
    return settings.target


def _require(path: Path, table: pd.DataFrame, column: str) -> None:
    if column not in table.columns:
        raise InputError(
            f"{path}: column '{column}' is missing ({nearest(column, table.columns)}): each row of "
            "edits names a training row and an action"
        )


def _check_ids(path: Path, given: pd.Series, ids: np.ndarray, unlabelled: Collection[str]) -> None:
    unknown = np.flatnonzero(~given.isin(ids))
    if len(unknown):
        row, value = unknown[0] + 1, given.iloc[unknown[0]]
        why = "has no label and is not learned" if value in unlabelled else "is no training row"
        raise InputError(f"{path}: row {row}: '{given.name}' '{cut(value)}' {why}: leave it out")
    twice = np.flatnonzero(given.duplicated())
    if len(twice):
        raise InputError(
            f"{path}: row {twice[0] + 1} repeats '{given.name}' '{cut(given.iloc[twice[0]])}': a row is "
            "edited once"
        )


def _check_words(path: Path, column: pd.Series, allowed: tuple[str, ...]) -> None:
    bad = ~column.isin(allowed).to_numpy()
    refuse_first(bad, path, column, f"one of {', '.join(allowed)} is expected", "column")


def _refuse_given(
    path: Path, table: pd.DataFrame, others: np.ndarray, columns: tuple[str, ...]
) -> None:
    """Raise InputError if a row whose action makes no use of a column has a cell there.

    others: (m,) whether a row is one of them.
    """
    for column in columns:
        if column not in table.columns:
            continue
        rows = np.flatnonzero(others & (table[column] != "").to_numpy())
        if len(rows):
            row = table.iloc[rows[0]]
            raise InputError(
                f"{path}: row {rows[0] + 1}: action {row['action']} makes no use of '{column}', which "
                f"holds '{cut(row[column])}': empty the cell, or change the action"
            )


def _targets(
    path: Path,
    table: pd.DataFrame,
    settings: CompetitionSettings,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
) -> np.ndarray:
    """Return (m, outputs) targets of relabelled rows, nan for others."""
    found = np.full((len(table), len(settings.kind.outputs_of(labels))), np.nan)
    of_rows = np.flatnonzero(table["action"] == "relabel")
    if not len(of_rows):
        return found
    for column in columns:
        _require(path, table, column)
    target_columns = TargetColumns(settings.model_copy(update={"target": columns}))
    part = table.iloc[of_rows]
    lacking = target_columns.unlabelled(part)
    if len(lacking):
        row = lacking.index[0]
        raise InputError(
            f"{path}: row {row + 1}: action relabel needs a label in "
            f"{' and '.join(repr(c) for c in columns)}: write one, or change the action"
        )
    found[of_rows] = target_columns.read(path, part, labels)
    return found


def _weights(path: Path, table: pd.DataFrame) -> np.ndarray:
    weighted = (table["action"] == "weight").to_numpy()
    if "weight" not in table.columns:
        if weighted.any():
            _require(path, table, "weight")
        return np.ones(len(table))
    column = table["weight"]
    values = numbers_of(column)
    bad = ~(np.isfinite(values) & (values >= 0)) & (weighted | (column != "").to_numpy())
    refuse_first(bad, path, column, "a number of 0 or more is expected", "column")
    return np.where(column == "", 1.0, values)


def _by_model(path: Path, table: pd.DataFrame) -> np.ndarray:
    if "by" not in table.columns:
        return np.zeros(len(table), dtype=bool)
    column = table["by"]
    bad = ~column.isin((*BY, "")).to_numpy()
    wanted = "who chose the edit is person or model, or nothing for person"
    refuse_first(bad, path, column, wanted, "column")
    return (column == "model").to_numpy()


def counted(counts: Mapping[str, int]) -> str:
    """Return the counts of `Edits.counts` as part of a sentence."""
    return (
        ", ".join(f"{count:,} {DONE[action]}" for action, count in counts.items() if count)
        or "none"
    )


def refuse_lost(
    path: Path, given: Rows, learned: Rows, labels: tuple[str, ...], positive: bool
) -> None:
    """Raise InputError if edits leave no row, or no row of a label.

    Args:
        path: of the edits.
        given: the training rows.
        learned: the same after the edits.
        labels: of a competition with labels; empty for regression.
        positive: whether only the last of two labels has an output.
    """
    if not learned.weights.any():
        raise InputError(f"{path}: the edits leave no row to learn from: take some out")
    if not labels:
        return
    before, after = (_of_label(rows, positive) for rows in (given, learned))
    for k, label in enumerate(labels):
        if given.weights[before[:, k]].any() and not learned.weights[after[:, k]].any():
            raise InputError(
                f"{path}: the edits leave no row of label '{cut(label)}' to learn from: take some out"
            )


def _of_label(rows: Rows, positive: bool) -> np.ndarray:
    """Return (n, labels) whether a row has a label."""
    found = rows.targets >= 0.5
    return np.hstack([~found, found]) if positive else found
