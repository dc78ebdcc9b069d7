"""Pseudo-labels of unlabelled rows, and soft targets of training rows, from other models' runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from foldstack.ensemble.calibration import Calibration, calibrate
from foldstack.errors import cut
from foldstack.kinds import Kind
from foldstack.links import to_probabilities
from foldstack.records import TextsOf, UnlabelledRecord
from foldstack.rows import PSEUDO, Rows, text_digests
from foldstack.stages.fitted import load_learner, threads_of, token_cache
from foldstack.stages.run import Run
from foldstack.stages.silver import kept_silver, silver_rows
from foldstack.store import RunKey
from foldstack.techniques import LearnerSettings, PseudoLabels
from foldstack.techniques.teaching import RECOMBINED
from foldstack.workspace import Workspace

EM_STEPS = 200
CLASSES = 5  # most that a line lists


def with_pseudo_labels(
    ws: Workspace,
    run: Run,
    train: Rows,
    gold: Rows,
    judged: np.ndarray,
    found: UnlabelledRecord,
) -> Rows:
    """Return the training rows followed by unlabelled ones with the labels that teachers predict.

    Args:
        ws: the workspace.
        run: the run to be trained; its teachers have left out the same folds.
        train: its training rows.
        gold: those of the training file with their labels, on which teachers are fitted, and of whose
            sentences pairs are recombined.
        judged: positions of the rows that are held out or select the epoch.
        found: what is learned of each source is added to it.
    """
    settings, kind = run.settings.pseudo_labels, ws.competition.task.kind
    if settings is None:
        return train
    fitted = FittedTeachers.of(settings, kind, _unseen(ws, run, "fitted", gold), gold.targets)
    if settings.fitted:
        found.weights.update(fitted.weights)
        found.temperatures.update(fitted.temperatures)
    for name in settings.texts:
        made = name == RECOMBINED
        rows = silver_rows(ws, run, gold, judged) if made else free_of_ties(ws, run, name, judged)
        offered = len(rows) if made else len(ws.competition.rows_to_label[name])
        told = TextsOf(source=name, rows=offered, free=len(rows), learned=0)
        if len(rows):
            each = {d.run.model: _predicted(ws, d.run, rows) for d in run.teachers("pseudo")}
            more = labelled(rows, each, settings, kind.is_one_hot, fitted)
            more = kept_silver(run, more, gold) if made else more
            told = told.model_copy(
                update={
                    "learned": len(more),
                    "classes": _by_class(more.targets, kind, ws.competition.labels),
                    "surest": _surest(fitted.mean(each), kind),
                }
            )
            train = train.concatenated(_at_temperature(run, more))
        found.pseudo_labels.append(told)
    return train


def _by_class(targets: np.ndarray, kind: Kind, labels: Sequence[str]) -> dict[str, int] | None:
    """Return the number of rows by what is decided of their (n, outputs) targets; None for values."""
    if kind.is_values:
        return None
    counts = _decided(targets, kind.is_one_hot).sum(axis=0).tolist()
    if kind.has_positive_class:
        counts = [len(targets) - counts[0], *counts]
    return dict(zip(labels, map(int, counts), strict=True))


def _surest(p: np.ndarray, kind: Kind) -> float | None:
    return None if kind.is_values else float(f"{_confidence(p, kind.is_one_hot).max():.6g}")


def lines_of(found: UnlabelledRecord, settings: LearnerSettings) -> list[str]:
    """Return what is printed of the unlabelled texts that a run learns: nothing if it reads none."""
    lines = []
    for setting, sources in (
        ("pseudo_labels", found.pseudo_labels),
        ("consistency", found.consistency),
    ):
        if sources:
            lines.append(f"{setting}: {'; '.join(map(_counted, sources))}")
        if setting == "pseudo_labels" and (found.weights or found.temperatures):
            lines.append(f"{setting}.fitted: {_fitted(found, settings.pseudo_labels)}")
        lines += [
            f"{setting}: {_why_none(source, settings.pseudo_labels)}"
            for source in sources
            if not source.learned
        ]
    return lines


def _counted(of: TextsOf) -> str:
    """Return `812 of 4,000 texts of pool (positive: 412, negative: 400)`, the most frequent first."""
    counts = sorted((of.classes or {}).items(), key=lambda pair: -pair[1])
    shown = [f"{cut(name)}: {count:,}" for name, count in counts[:CLASSES]]
    more = [f"and {len(counts) - CLASSES} more"] if len(counts) > CLASSES else []
    classes = f" ({', '.join([*shown, *more])})" if shown and of.learned else ""
    return f"{of.learned:,} of {of.rows:,} texts of {of.source}{classes}"


def _fitted(found: UnlabelledRecord, settings: PseudoLabels) -> str:
    """Return `minilm weight 0.71, temperature 1.32; tfidf …`."""
    teachers = []
    for name in settings.teachers:
        parts = []
        if "weights" in settings.fitted:
            parts.append(f"weight {found.weights[name]:.2f}")
        if "calibration" in settings.fitted:
            each = [
                f"{t:.2f}" if t else "unchanged, too few rows" for t in found.temperatures[name]
            ]
            parts.append(f"temperature {' '.join(dict.fromkeys(each))}")
        teachers.append(f"{name} {', '.join(parts)}")
    return "; ".join(teachers)


def _why_none(of: TextsOf, settings: PseudoLabels | None) -> str:
    """Return why no text of a source is learned, and what to do."""
    if not of.free:
        return (
            f"no text of {of.source} is left to this run: each repeats a row to be predicted, shares "
            "its group, or is empty"
        )
    if of.surest < settings.confidence:
        return (
            f"nothing is learned of {of.source}: its surest label has confidence {of.surest:.3f}, and "
            f"pseudo_labels.confidence is {settings.confidence:g}: lower it"
        )
    return (
        f"nothing is learned of {of.source}: no label meets confidence and agreement together: lower "
        "pseudo_labels.confidence, or set agreement to false"
    )


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
    mean = fitted.mean(by_teacher)
    decided, sure = _decided(mean, one_hot), _confidence(mean, one_hot)
    chosen = np.ones(len(rows), dtype=bool)
    if settings.confidence:
        chosen &= sure >= settings.confidence
    if settings.agreement:
        each = [fitted.calibrated(name, p) for name, p in by_teacher.items()]
        same = [(_decided(p, one_hot) == decided).all(axis=1) for p in each]
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

    def mean(self, by_teacher: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the mean of each teacher's (n, outputs) probabilities."""
        weights = [self.weights[name] for name in by_teacher]
        each = [self.calibrated(name, p) for name, p in by_teacher.items()]
        return np.average(each, axis=0, weights=weights)

    @property
    def temperatures(self) -> dict[str, list[float | None]]:
        """Those of each calibrated teacher; None: too few rows to fit one."""
        return {
            name: [of and float(f"{of[0]:.6g}") for of in fitted.maps]
            for name, fitted in self.calibrations.items()
        }


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


def _confidence(p: np.ndarray, one_hot: bool) -> np.ndarray:
    """Return (n,) the probability of what is decided; of several labels, the lowest one."""
    return p.max(axis=1) if one_hot else np.maximum(p, 1 - p).min(axis=1)


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
