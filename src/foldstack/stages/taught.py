"""Pseudo-labels of unlabelled rows, and soft targets of training rows, from other models' runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from foldstack.ensemble.calibration import Calibration, calibrate
from foldstack.kinds import Kind
from foldstack.links import to_probabilities
from foldstack.rows import PSEUDO, Rows, text_digests
from foldstack.stages.fitted import load_learner, threads_of, token_cache
from foldstack.stages.run import Run
from foldstack.stages.silver import kept_silver, silver_rows
from foldstack.store import RunKey
from foldstack.techniques import PseudoLabels
from foldstack.techniques.teaching import RECOMBINED
from foldstack.workspace import Workspace

EM_STEPS = 200


def with_pseudo_labels(
    ws: Workspace, run: Run, train: Rows, gold: Rows, judged: np.ndarray
) -> Rows:
    """Return the training rows followed by unlabelled ones with the labels that teachers predict.

    Args:
        ws: the workspace.
        run: the run to be trained; its teachers have left out the same folds.
        train: its training rows.
        gold: those of the training file with their labels, on which teachers are fitted, and of whose
            sentences pairs are recombined.
        judged: positions of the rows that are held out or select the epoch.
    """
    settings, kind = run.settings.pseudo_labels, ws.competition.task.kind
    if settings is None:
        return train
    fitted = FittedTeachers.of(settings, kind, _unseen(ws, run, "fitted", gold), gold.targets)
    parts = [train]
    for name in settings.texts:
        made = name == RECOMBINED
        rows = silver_rows(ws, run, gold, judged) if made else free_of_ties(ws, run, name, judged)
        if len(rows):
            each = {d.run.model: _predicted(ws, d.run, rows) for d in run.teachers("pseudo")}
            more = labelled(rows, each, settings, kind.is_one_hot, fitted)
            more = kept_silver(run, more, gold) if made else more
            parts.append(_at_temperature(run, more))
    found, *others = parts
    for more in others:
        found = found.concatenated(more)
    return found


def _at_temperature(run: Run, rows: Rows) -> Rows:
    """Return the rows with their targets in `taught` too, if `distil` softens what teachers predict."""
    distil, soft = run.settings.distil, run.settings.pseudo_labels.labels == "soft"
    tempered = distil is not None and distil.is_tempered and soft
    return replace(rows, taught=rows.targets) if tempered else rows


def free_of_ties(ws: Workspace, run: Run, name: str, judged: np.ndarray) -> Rows:
    """Return the unlabelled rows of this name that are no copies of judged rows, nor of their groups.

    Rows without text are none of them. judged: positions of the rows that are held out or select the
    epoch.
    """
    competition = ws.competition
    rows = competition.rows_to_label[name]
    ties = competition.ties_of(name)
    leaks = ties[np.isin(ties[:, 1], competition.tied[judged]), 0]
    texts = np.flatnonzero(text_digests(rows.texts))
    return rows.take(np.setdiff1d(texts, leaks))


def _predicted(ws: Workspace, key: RunKey, rows: Rows) -> np.ndarray:
    """Return a teacher's (n, outputs) probabilities (values for regression)."""
    learner = load_learner(ws, key, threads_of(ws), token_cache(ws))
    return to_probabilities(learner.predict(rows), learner.link)


def labelled(
    rows: Rows,
    by_teacher: dict[str, np.ndarray],
    settings: PseudoLabels,
    one_hot: bool,
    fitted: FittedTeachers | None = None,
) -> Rows:
    """Return the rows that the settings choose, with targets of the teachers.

    Args:
        rows: n unlabelled rows.
        by_teacher: (n, outputs) probabilities of each teacher.
        settings: which rows are learned, and how.
        one_hot: whether one output holds per row.
        fitted: the teachers' calibration and weights; None: as they are, with the settings' weights.
    """
    fitted = fitted or FittedTeachers(settings.teachers)
    by_teacher = {name: fitted.calibrated(name, p) for name, p in by_teacher.items()}
    weights = [fitted.weights[name] for name in by_teacher]
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


@dataclass(frozen=True)
class FittedTeachers:
    """How teachers' probabilities are made one.

    Attributes:
        weights: of each in the mean.
        calibrations: of each; those without one stay as they are.
    """

    weights: Mapping[str, float]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @classmethod
    def of(
        cls, settings: PseudoLabels, kind: Kind, unseen: dict[str, np.ndarray], targets: np.ndarray
    ) -> FittedTeachers:
        """Fit what the settings name.

        Args:
            settings: with the given weights.
            kind: of the competition.
            unseen: (n, outputs) probabilities by each teacher of rows that it has not learned.
            targets: (n, outputs) of these rows.
        """
        weights, found = settings.teachers, {}
        if "calibration" in settings.fitted:
            found = {name: calibrate("temperature", kind, p, targets) for name, p in unseen.items()}
        fitted = cls(weights, found)
        if "weights" in settings.fitted:
            each = [fitted.calibrated(name, p) for name, p in unseen.items()]
            weights = dict(zip(unseen, mixture_weights(each, targets, kind), strict=True))
        return cls(weights, found)

    def calibrated(self, name: str, p: np.ndarray) -> np.ndarray:
        calibration = self.calibrations.get(name)
        return p if calibration is None else calibration.apply(p)


def mixture_weights(each: Sequence[np.ndarray], targets: np.ndarray, kind: Kind) -> np.ndarray:
    """Return (m,) weights of the mean of m models' probabilities, those of the greatest likelihood.

    By expectation-maximisation from equal weights, which never lowers it (Smyth and Wolpert 1999).

    Args:
        each: (n, outputs) probabilities of each model, of rows that it has not learned.
        targets: (n, outputs), soft ones allowed.
        kind: of the competition; of several labels each counts as a row of its own.
    """
    p, y = np.stack(each)[..., None], targets[..., None]
    if not kind.is_one_hot:
        p, y = np.concatenate([p, 1 - p], axis=-1), np.concatenate([y, 1 - y], axis=-1)
    p, y = p.reshape(len(each), -1), y.ravel()
    weights = np.full(len(each), 1 / len(each))
    for _ in range(EM_STEPS):
        mixed = np.maximum(weights @ p, np.finfo(float).tiny)
        weights = weights * (p @ (y / mixed)) / y.sum()
    return weights / weights.sum()


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

    With a temperature they stand beside them, in `taught`.

    train: rows of the training file alone; a row of fold j is taught by runs that have not learned it.
    """
    settings = run.settings.distil
    if settings is None:
        return train
    by_teacher = _unseen(ws, run, "distil", train)
    weights = [settings.teachers[name] for name in by_teacher]
    taught = np.average(list(by_teacher.values()), axis=0, weights=weights)
    if settings.is_tempered:
        return replace(train, taught=taught)
    if settings.labels == "hard":
        taught = _decided(taught, ws.competition.task.kind.is_one_hot).astype(float)
    return replace(train, targets=(1 - settings.share) * train.targets + settings.share * taught)


def _unseen(ws: Workspace, run: Run, purpose: str, train: Rows) -> dict[str, np.ndarray]:
    """Return each teacher's (n, outputs) probabilities of training rows; those of a fold by one run.

    purpose: of the teachers, whose runs have not learned the fold that each predicts.
    train: rows of the training file.
    """
    competition, found = ws.competition, {}
    split = run.folds.split_of(run.key.left_out)
    place = {id_: i for i, id_ in enumerate(competition.train.ids)}
    at = np.array([place[id_] for id_ in train.ids])
    for dependency in run.teachers(purpose):
        key = dependency.run
        held = run.folds.held_out(key.left_out)
        made = ws.store.read_predictions(key, "heldout", competition.train.take(held))
        whole = np.full((len(competition.train), train.targets.shape[1]), np.nan)
        whole[held] = to_probabilities(made.raw, made.link)
        own = split[at] == run.fold_taught_by(key)
        found.setdefault(key.model, np.full(train.targets.shape, np.nan))[own] = whole[at[own]]
    return found
