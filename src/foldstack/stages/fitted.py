"""A run's fitted model, read again."""

from __future__ import annotations

from foldstack import config
from foldstack.cores import cpu_threads
from foldstack.errors import InputError
from foldstack.learners import Learner, make_learner
from foldstack.store import RunKey
from foldstack.workspace import Workspace


def load_learner(ws: Workspace, key: RunKey) -> Learner:
    """The learner of a finished run; InputError where its model is not there."""
    run, folder = ws.store.read_run(key), ws.store.run_dir(key) / "model"
    if run is None or not folder.is_dir():
        raise InputError(
            f"{key} has no fitted model in oof/ (removed, or trained with "
            "store.keep_models=false): train it again with --force (FORCE=1)"
        )
    settings = config.stored_settings(run["identity"]["settings"])
    learner = make_learner(settings, ws.competition.task, key.seed, threads_of(ws))
    learner.load(folder)
    return learner


def threads_of(ws: Workspace) -> int:
    """Threads of a run, whatever runs beside it."""
    return cpu_threads(ws.competition.settings.runtime.threads)
