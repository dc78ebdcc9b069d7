"""Candidates for the student of `distil`, measured on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foldstack import config
from foldstack.errors import InputError
from foldstack.learners import LearnerContext, make_learner
from foldstack.progress import Progress
from foldstack.records import MeasuredStudent
from foldstack.rows import Rows
from foldstack.stages.fitted import threads_to_predict, token_cache
from foldstack.stages.student_plan import Plan
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

# In the order of the scores in docs/teachers.md, the last two are for the tightest limits.
SHIPPED = {
    "tfidf": {"preset": "tfidf"},
    "textcnn": {"preset": "textcnn"},
    "fasttext": {"preset": "fasttext"},
    "tfidf of words": {"preset": "tfidf", "word_ngrams": [1, 1], "char_ngrams": [0, 0]},
    "fasttext of 10 numbers per word": {"preset": "fasttext", "size": 10, "ngrams": 1},
}


@dataclass(frozen=True)
class Limits:
    """The most megabytes (10^6 bytes) of a stored model, the least rows per second; None: no limit."""

    mb: float | None = None
    rate: float | None = None

    def allow(self, mb: float, rate: float) -> bool:
        """Return whether a model of this size and speed is within both limits."""
        return not (self.mb is not None and mb > self.mb) and not (
            self.rate is not None and rate < self.rate
        )

    @property
    def given(self) -> dict[str, float]:
        """The limits that there are, by the name of their make variable."""
        both = {"MB": self.mb, "RATE": self.rate}
        return {name: value for name, value in both.items() if value is not None}


@dataclass(frozen=True)
class Student:
    """A possible student: its settings over a preset, and those that follow from them."""

    name: str
    data: dict[str, Any]
    settings: LearnerSettings


def candidates(ws: Workspace, teachers: list[str]) -> Iterator[Student]:
    """Yield what this competition can have as a student, the best first.

    Those are half of each teacher whose layers can be thinned, then shipped models.
    """
    halves = {f"half of {name}": _half(ws, name) for name in teachers}
    for name, data in {**halves, **SHIPPED}.items():
        if data is not None:
            try:
                settings = config.settings_over(data, ws.root, ws.competition.settings, name)
            except InputError:  # no model for this kind of competition
                continue
            yield Student(name, data, settings)


def _half(ws: Workspace, name: str) -> dict[str, Any] | None:
    """Return a teacher with every second of its layers; None if it cannot be, or was taught itself."""
    settings = ws.model_settings(name)
    if getattr(settings, "keep_every", None) != 1:  # no layers to thin, or thinned already
        return None
    if settings.pseudo_labels or settings.distil:
        return None
    data = config.model_data(name, ws.root, ws.competition.settings)
    return data | {"start_from": name, "keep_every": 2, "repeats": 1}


def choose(ws: Workspace, plan: Plan, limits: Limits) -> tuple[Student, list[MeasuredStudent]]:
    """Return the best candidate within the limits, and those that were measured, it last.

    Without a limit it is the first that starts from no teacher: small and quick.

    Args:
        ws: the workspace.
        plan: who teaches, and which rows are learned.
        limits: of size and speed.

    Raises:
        InputError: none is within the limits, or can be trained.
    """
    possible = list(candidates(ws, plan.teachers))
    if not limits.given:
        possible = [each for each in possible if each.settings.start_model is None]
    rows, found, refused = _all_rows(ws, plan), [], ""
    with Progress("measuring candidates", len(possible), "candidates") as progress:
        for each in possible:
            progress.add(1)
            try:
                found.append(_measured(ws, each, rows, limits))
            except InputError as e:  # layers that cannot be thinned, or a backbone that is missing
                refused = f"{each.name}: {e}"
                continue
            if found[-1].fits:
                return each, found
    if not found:
        raise InputError(f"no candidate for the student can be trained here; the last, {refused}")
    raise InputError(_refusal(found, limits))


def _all_rows(ws: Workspace, plan: Plan) -> Rows:
    """Return every row that a run may learn; unlabelled ones borrow labels, which sizes do not read."""
    competition = ws.competition
    rows, train = competition.train, competition.train
    if plan.files is not None:
        learned = competition.external_places(plan.files)
        rows = rows.concatenated(competition.external.take(learned))
    for name in plan.texts:
        more = competition.rows_to_label[name]
        borrowed = train.targets[np.arange(len(more)) % len(train)]
        rows = rows.concatenated(replace(more, targets=borrowed))
    return rows


def _measured(ws: Workspace, candidate: Student, rows: Rows, limits: Limits) -> MeasuredStudent:
    competition = ws.competition
    context = LearnerContext(
        competition.task,
        0,
        threads_to_predict(ws),
        cache=token_cache(ws),
        files=competition.files_of(candidate.settings),
        texts=lambda: competition.all_texts,
    )
    held_out = len(competition.train) // competition.settings.folds.count
    learner = make_learner(candidate.settings, context)
    made = learner.measure(rows, len(rows) - held_out, sized=True)
    rate = 1 / made.row_seconds
    return MeasuredStudent(
        name=candidate.name,
        mb=made.mb,
        rate=rate,
        fits=limits.allow(made.mb, rate),
        fit_seconds=made.fit_seconds,
    )


def _refusal(found: list[MeasuredStudent], limits: Limits) -> str:
    smallest, quickest = min(found, key=lambda m: m.mb), max(found, key=lambda m: m.rate)
    parts = []
    if limits.mb is not None:
        parts.append(f"the smallest, {smallest.name}, has {smallest.mb:.3g} MB")
    if limits.rate is not None:
        parts.append(f"the quickest, {quickest.name}, predicts {quickest.rate:,.0f} rows a second")
    asked = " and ".join(f"{name}={value:g}" for name, value in limits.given.items())
    return f"no student is within {asked}: {' and '.join(parts)} on this machine"
