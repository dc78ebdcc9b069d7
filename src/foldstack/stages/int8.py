"""What int8 costs and gains, measured on rows that the run held out, before it predicts others."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from foldstack.errors import InputError
from foldstack.learners import Learner
from foldstack.links import to_probabilities
from foldstack.progress import say
from foldstack.records import Record, read_mapping, write_record
from foldstack.rows import Rows
from foldstack.stages.fitted import threads_of
from foldstack.store import RunKey
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

JUDGED_ROWS = 1000
TIMED_ROWS = 64
ROUNDS = 3


def check_int8(ws: Workspace, keys: list[RunKey]) -> None:
    """Raises InputError where none of these runs has anything that int8 would change."""
    learners = {ws.store.read_run(key)["identity"]["settings"]["learner"] for key in keys}
    if not any(LearnerSettings.registered[name].traits.int8 for name in learners):
        raise InputError("INT8=1 changes nothing: only a transformer is predicted in int8")


def in_int8(ws: Workspace, key: RunKey, learner: Learner) -> Learner:
    """The run's learner in int8, once it is said what that costs; another than a transformer as it is.

    The scores are those of the stored held-out predictions and of the same rows in int8, 1,000 at most.
    They are measured once on a machine and kept beside the run.
    """
    if not learner.settings.traits.int8:
        return learner
    from foldstack.training.precision import machine

    exact, learner = learner, learner.in_int8()
    file = ws.store.run_dir(key) / "int8.json"
    here = machine(threads_of(ws)) | {"openvino": version("openvino")}
    found = _stored(file)
    if found.get("machine") != here:
        found = _measure(ws, key, exact, learner) | {"machine": here}
        write_record(file, found)
    say(f"{key}: {describe(found)}")
    return learner


def _stored(file: Path) -> dict:
    """What was measured before; nothing if the file is not there, or is damaged."""
    try:
        return read_mapping(file, Record, file.name, "") if file.exists() else {}
    except InputError:
        return {}


def describe(found: dict) -> str:
    """What was measured, in a line."""
    times, metric = found["times_as_fast"], found["metric"]
    gain = "" if times > 1 else ": no gain, leave int8 out here"
    return (
        f"int8 has {metric} {found['int8']:.4f} on {found['rows']:,} held-out rows, "
        f"{found['precision']} {found['stored']:.4f}; the largest difference of a prediction is "
        f"{found['largest_difference']:.4f}; {times:.2f} times as fast{gain}"
    )


def _measure(ws: Workspace, key: RunKey, exact: Learner, rough: Learner) -> dict:
    folds, task = ws.store.read_folds(ws.competition.train), ws.competition.task
    held = ws.competition.train.take(folds.held_out(key.left_out))
    stored = ws.store.read_predictions(key, "heldout", held)
    some = _evenly(len(held), JUDGED_ROWS)
    rows = held.take(some)
    before = to_probabilities(stored.raw[some], stored.link)
    after = to_probabilities(rough.predict(rows), rough.link)
    return {
        "metric": task.metric.name,
        "rows": len(rows),
        "precision": ws.store.read_run(key)["precision"],
        "stored": task.score_probabilities(rows.targets, before),
        "int8": task.score_probabilities(rows.targets, after),
        "largest_difference": float(np.abs(after - before).max()),
        "times_as_fast": _times_as_fast(rows.take(_evenly(len(rows), TIMED_ROWS)), exact, rough),
    }


def _evenly(n: int, most: int) -> np.ndarray:
    """At most so many of n rows, from all over."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))


def _times_as_fast(rows: Rows, exact: Learner, rough: Learner) -> float:
    """The ratio of the medians of processor time, which other work on the machine leaves alone.

    The two take turns; the first round is for warming up.
    """
    seconds = np.zeros((ROUNDS + 1, 2))
    for each in seconds:
        for i, learner in enumerate((exact, rough)):
            begin = time.process_time()
            learner.predict(rows)
            each[i] = time.process_time() - begin
    slow, fast = np.median(seconds[1:], axis=0)
    return round(float(slow / fast), 2)
