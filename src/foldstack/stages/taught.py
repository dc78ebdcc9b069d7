"""Pseudo-labels of unlabelled rows, and soft targets of training rows, from other models' runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from foldstack.links import to_probabilities
from foldstack.rows import PSEUDO, Rows
from foldstack.stages.fitted import load_learner, threads_of, token_cache
from foldstack.stages.run import Run
from foldstack.store import RunKey
from foldstack.techniques import PseudoLabels
from foldstack.workspace import Workspace


def with_pseudo_labels(ws: Workspace, run: Run, train: Rows, judged: np.ndarray) -> Rows:
    """Return the training rows followed by unlabelled ones with the labels that teachers predict.

    Args:
        ws: the workspace.
        run: the run to be trained; its teachers have left out the same folds.
        train: its training rows.
        judged: positions of the rows that are held out or select the epoch.
    """
    settings = run.settings.pseudo_labels
    if settings is None:
        return train
    parts = [train]
    for name in settings.texts:
        rows = free_of_ties(ws, run, name, judged)
        if len(rows):
            each = {d.run.model: _predicted(ws, d.run, name, rows) for d in run.teachers("pseudo")}
            parts.append(labelled(rows, each, settings, ws.competition.task.kind.is_one_hot))
    found, *others = parts
    for more in others:
        found = found.concatenated(more)
    return found


def free_of_ties(ws: Workspace, run: Run, name: str, judged: np.ndarray) -> Rows:
    """Return the unlabelled rows of this name that are no copies of judged rows, nor of their groups.

    judged: positions of the rows that are held out or select the epoch.
    """
    competition = ws.competition
    rows = competition.rows_to_label[name]
    ties = competition.ties_of(name)
    leaks = ties[np.isin(ties[:, 1], competition.tied[judged]), 0]
    return rows.take(np.setdiff1d(np.arange(len(rows)), leaks))


def _predicted(ws: Workspace, key: RunKey, name: str, rows: Rows) -> np.ndarray:
    """Return a teacher's (n, outputs) probabilities (values for regression)."""
    learner = load_learner(ws, key, threads_of(ws), token_cache(ws))
    return to_probabilities(learner.predict(rows), learner.link)


def labelled(
    rows: Rows, by_teacher: dict[str, np.ndarray], settings: PseudoLabels, one_hot: bool
) -> Rows:
    """Return the rows that the settings choose, with targets of the teachers.

    Args:
        rows: n unlabelled rows.
        by_teacher: (n, outputs) probabilities of each teacher.
        settings: which rows are learned, and how.
        one_hot: whether one output holds per row.
    """
    weights = [settings.teachers[name] for name in by_teacher]
    mean = np.average(list(by_teacher.values()), axis=0, weights=weights)
    decided = _decided(mean, one_hot)
    sure = mean.max(axis=1) if one_hot else np.maximum(mean, 1 - mean).min(axis=1)
    chosen = np.ones(len(rows), dtype=bool)
    if settings.confidence:
        chosen &= sure >= settings.confidence
    if settings.agreement:
        same = [(_decided(p, one_hot) == decided).all(axis=1) for p in by_teacher.values()]
        chosen &= np.all(same, axis=0)
    if settings.top is not None:
        chosen &= _highest(decided, np.where(chosen, sure, -np.inf), settings.top)
    kept = np.flatnonzero(chosen)
    targets = decided.astype(float) if settings.labels == "hard" else mean
    return replace(
        rows.take(kept),
        targets=targets[kept],
        weights=np.full(len(kept), settings.weight),
        origin=np.full(len(kept), PSEUDO, dtype=object),
    )


def _decided(p: np.ndarray, one_hot: bool) -> np.ndarray:
    """Return (n, outputs) 0 and 1: the most probable class, or what is more probable than not."""
    if one_hot:
        return np.arange(p.shape[1]) == p.argmax(axis=1)[:, None]
    return p > 0.5


def _highest(decided: np.ndarray, sure: np.ndarray, count: int) -> np.ndarray:
    """Return (n,) whether a row is one of the `count` surest of what is decided of it.

    Of equally sure rows the first ones are taken.
    """
    _, classes = np.unique(decided, axis=0, return_inverse=True)
    rank = pd.Series(-sure).groupby(classes).rank(method="first")
    return (rank <= count).to_numpy()


def with_distilled(ws: Workspace, run: Run, train: Rows) -> Rows:
    """Return the training rows with the teachers' probabilities mixed into their targets.

    train: rows of the training file alone; a row of fold j is taught by runs that have not learned it.
    """
    settings = run.settings.distil
    if settings is None:
        return train
    competition, total = ws.competition, sum(settings.teachers.values())
    split = run.folds.split_of(run.key.left_out)
    place = {id_: i for i, id_ in enumerate(competition.train.ids)}
    at = np.array([place[id_] for id_ in train.ids])
    taught = np.zeros_like(train.targets)
    for dependency in run.teachers("distil"):
        key = dependency.run
        held = run.folds.held_out(key.left_out)
        made = ws.store.read_predictions(key, "heldout", competition.train.take(held))
        whole = np.full((len(competition.train), train.targets.shape[1]), np.nan)
        whole[held] = to_probabilities(made.raw, made.link)
        own = split[at] == run.fold_taught_by(key)
        taught[own] += settings.teachers[key.model] / total * whole[at[own]]
    return replace(train, targets=(1 - settings.share) * train.targets + settings.share * taught)
