"""A run's fitted model, read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from foldstack import config
from foldstack.cores import cpu_threads
from foldstack.errors import InputError
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.store import RunKey
from foldstack.workspace import Workspace

if TYPE_CHECKING:
    from foldstack.text.cache import TokenCache


def load_learner(
    ws: Workspace, key: RunKey, cache: Callable[[], TokenCache] | None = None
) -> Learner:
    """The learner of a finished run; InputError where its model is not there.

    cache: makes what texts of the competition are found tokenised in. New texts go without: tokenising
    is a small part of predicting them, they may never come again, and the workspace may be read-only.
    """
    folder = model_folder(ws, key)
    settings = config.stored_settings(ws.store.read_run(key)["identity"]["settings"])
    context = LearnerContext(ws.competition.task, key.seed, threads_of(ws), cache=cache)
    learner = make_learner(settings, context)
    learner.load(folder)
    return learner


def token_cache(ws: Workspace) -> Callable[[], TokenCache]:
    """Makes the workspace's; the first text that it lacks brings all of the competition's into it."""

    def make() -> TokenCache:  # imported here, with transformers, which a linear model does without
        from foldstack.text.cache import TokenCache

        competition = ws.competition
        rows = (competition.train, competition.test, competition.external)
        return TokenCache(ws.store.tokens_dir, [r for r in rows if r is not None])

    return make


def model_folder(ws: Workspace, key: RunKey) -> Path:
    """Where a finished run keeps its fitted model; InputError if it is not there, or damaged."""
    folder = ws.store.model_dir(key)
    if folder is None:
        raise InputError(
            f"{key} has no fitted model in oof/ (removed, or trained with "
            "store.keep_models=false): train it again with --force (FORCE=1)"
        )
    return folder


def threads_of(ws: Workspace, processes: int = 1) -> int:
    """Threads of a run, whatever runs beside it; of each, where so many processes are to train it."""
    wanted = ws.competition.settings.runtime.threads
    return wanted or max(cpu_threads(0) // processes, 1)
