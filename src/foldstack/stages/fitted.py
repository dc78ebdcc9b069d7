"""Loading of a run's fitted model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foldstack import config, parallel
from foldstack.cores import cpu_threads
from foldstack.errors import InputError
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.records import RunRecord
from foldstack.rows import Rows
from foldstack.store import RunKey
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.text.cache import TokenCache

TRIED, WARM = 512, 64  # rows that stored models are tried on; of them, those before the clock runs


def load_learner(
    ws: Workspace, key: RunKey, threads: int, cache: Callable[[], TokenCache] | None = None
) -> Learner:
    """Return the fitted learner of a finished run; raise InputError if its model is missing.

    Args:
        ws: the workspace.
        key: the run.
        threads: `threads_of` inside a run, `threads_to_predict` elsewhere.
        cache: makes the token cache of the competition's texts; None for new texts, since tokenising
            them is fast, they may never recur, and the workspace may be read-only.
    """
    record = ws.store.read_run(key)
    folder = model_folder(ws, key, record)
    settings = config.stored_settings(record.identity.settings)
    context = LearnerContext(ws.competition.task, key.seed, threads, cache=cache)
    learner = make_learner(settings, context)
    learner.load(folder)
    return learner


def token_cache(ws: Workspace) -> Callable[[], TokenCache]:
    """Return a function that makes the workspace's token cache.

    The first text that is not cached adds all texts of the competition.
    """

    def make() -> TokenCache:  # a slow import of transformers, which a linear model does without
        from foldstack.text.cache import TokenCache

        competition = ws.competition
        rows = (competition.train, competition.test, competition.external, competition.pooled)
        rows = [r for r in rows if r is not None]
        return TokenCache(ws.store.tokens_dir, rows, ws.store.vectors_dir)

    return make


def model_folder(ws: Workspace, key: RunKey, record: RunRecord | None) -> Path:
    """Return the folder of a run's fitted model; raise InputError if it is missing or damaged."""
    folder = ws.store.model_dir(key, record) if record else None
    if folder is None:
        raise InputError(
            f"{key} has no fitted model in oof/ (removed, or trained with "
            "store.keep_models=false): train it again with --force (FORCE=1)"
        )
    return folder


def threads_of(ws: Workspace, processes: int = 1) -> int:
    """Return the number of threads per process of a run, which its bytes depend on.

    That of the setting, or the one chosen when the folds were made; without either, and for a run of
    several processes, all cores.
    """
    given = ws.competition.settings.runtime.threads
    if given:
        return given
    alone = processes == parallel.world_size() == 1
    record = ws.store.read_folds_record() if alone else None
    chosen = record.threads if record else None
    return chosen or max(cpu_threads(0) // processes, 1)


def threads_to_predict(ws: Workspace) -> int:
    """Return the number of threads to predict with, on which predictions do not depend: all cores."""
    return cpu_threads(ws.competition.settings.runtime.threads)


def tried(rows: int) -> np.ndarray:
    """Return the positions of test rows that stored models are tried on, evenly spaced."""
    return np.unique(np.linspace(0, rows - 1, min(rows, TRIED)).astype(int))


def times_of(ws: Workspace, key: RunKey, rows: Rows) -> tuple[float, float]:
    """Return the seconds to load a run, and per predicted row."""
    load_learner(ws, key, threads_to_predict(ws))  # the first one imports libraries, too
    begin = time.monotonic()
    learner = load_learner(ws, key, threads_to_predict(ws))
    loaded = time.monotonic()
    warm = min(WARM, len(rows) // 2)
    learner.predict(rows.take(np.arange(max(warm, 1))))
    rest = rows.take(np.arange(warm, len(rows)))
    begun = time.monotonic()
    learner.predict(rest)
    return loaded - begin, (time.monotonic() - begun) / len(rest)
