"""Measurement of int8 on a run's held-out rows: loss of score and speed-up."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import numpy as np

from foldstack.errors import InputError
from foldstack.learners import Learner
from foldstack.links import to_probabilities
from foldstack.progress import say
from foldstack.records import Int8Record
from foldstack.rows import Rows, evenly
from foldstack.stages.fitted import threads_to_predict
from foldstack.store import RunKey
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

JUDGED_ROWS = 1000
TIMED_ROWS = 64
ROUNDS = 3


def check_int8(ws: Workspace, keys: list[RunKey]) -> None:
    """Raise InputError if int8 has no effect on any of these runs."""
    learners = {ws.store.read_run(key).identity.settings["learner"] for key in keys}
    if not any(LearnerSettings.registered[name].traits.int8 for name in learners):
        raise InputError("INT8=1 changes nothing: only a transformer is predicted in int8")


def in_int8(ws: Workspace, key: RunKey, learner: Learner) -> Learner:
    """Return the run's learner in int8 and log the measurement; other learners stay as they are.

    The scores are those of at most 1,000 held-out rows, as stored and in int8. They are measured once
    per machine and stored with the run.
    """
    if not learner.settings.traits.int8:
        return learner
    from foldstack.training.precision import machine

    exact, learner = learner, learner.in_int8()
    here = machine(threads_to_predict(ws)) | {"openvino": version("openvino")}
    found = ws.store.read_int8(key)
    if found is None or found.machine != here:
        found = _measure(ws, key, exact, learner, here)
        ws.store.write_int8(key, found)
    say(f"{key}: {describe(found)}")
    return learner


def describe(found: Int8Record) -> str:
    """Return the measurement as one line."""
    gain = "" if found.times_as_fast > 1 else ": no gain, leave int8 out here"
    return (
        f"int8 has {found.metric} {found.int8:.4f} on {found.rows:,} held-out rows, "
        f"{found.precision} {found.stored:.4f}; the largest difference of a prediction is "
        f"{found.largest_difference:.4f}; {found.times_as_fast:.2f} times as fast{gain}"
    )


def _measure(
    ws: Workspace, key: RunKey, exact: Learner, rough: Learner, machine: dict[str, Any]
) -> Int8Record:
    """Score the run's held-out rows in int8 and time both learners."""
    folds, task = ws.store.read_folds(ws.competition.train), ws.competition.task
    held = ws.competition.train.take(folds.held_out(key.left_out))
    record = ws.store.read_run(key)
    stored = ws.store.read_predictions(key, "heldout", held, record)
    some = evenly(len(held), JUDGED_ROWS)
    rows = held.take(some)
    task = task.of(rows)
    before = to_probabilities(stored.raw[some], stored.link)
    after = to_probabilities(rough.predict(rows), rough.link)
    return Int8Record(
        metric=task.metric.name,
        rows=len(rows),
        precision=record.facts["precision"],
        stored=task.score_probabilities(rows.targets, before),
        int8=task.score_probabilities(rows.targets, after),
        largest_difference=float(np.abs(after - before).max()),
        times_as_fast=_times_as_fast(rows.take(evenly(len(rows), TIMED_ROWS)), exact, rough),
        machine=machine,
    )


def _times_as_fast(rows: Rows, exact: Learner, rough: Learner) -> float:
    """Return the ratio of the medians of CPU time, which other processes hardly change.

    The two take turns; the first round is a warm-up.
    """
    seconds = np.zeros((ROUNDS + 1, 2))
    for each in seconds:
        for i, learner in enumerate((exact, rough)):
            begin = time.process_time()
            learner.predict(rows)
            each[i] = time.process_time() - begin
    slow, fast = np.median(seconds[1:], axis=0)
    return round(float(slow / fast), 2)
