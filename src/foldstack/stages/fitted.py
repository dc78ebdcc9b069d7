"""Loading of a run's fitted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from foldstack import config
from foldstack.cores import cpu_threads
from foldstack.errors import InputError
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.records import RunRecord
from foldstack.store import RunKey
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.text.cache import TokenCache


def load_learner(
    ws: Workspace, key: RunKey, cache: Callable[[], TokenCache] | None = None
) -> Learner:
    """Return the fitted learner of a finished run; raise InputError if its model is missing.

    cache: makes the token cache of the competition's texts; None for new texts, since tokenising them
    is fast, they may never recur, and the workspace may be read-only.
    """
    record = ws.store.read_run(key)
    folder = model_folder(ws, key, record)
    settings = config.stored_settings(record.identity.settings)
    context = LearnerContext(ws.competition.task, key.seed, threads_of(ws), cache=cache)
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
        rows = (competition.train, competition.test, competition.external)
        return TokenCache(ws.store.tokens_dir, [r for r in rows if r is not None])

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
    """Return the number of threads per process of a run."""
    threads = ws.competition.settings.runtime.threads
    return threads or max(cpu_threads(0) // processes, 1)
