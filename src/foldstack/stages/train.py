"""Stage: choose the runs that are requested and not finished, and train them in order."""

from __future__ import annotations

from foldstack import config, parallel
from foldstack.errors import InputError
from foldstack.interrupt import is_child
from foldstack.progress import say
from foldstack.records import TrainedRecord
from foldstack.settings import Settings
from foldstack.stages.dependencies import unlike
from foldstack.stages.jobs import Jobs
from foldstack.stages.launch import train_each
from foldstack.stages.one_run import is_done, train_one
from foldstack.stages.pooled import model_scores
from foldstack.stages.pretrain import is_pretrained, pretrained_name
from foldstack.stages.required import Required, check_run, in_a_circle, settings_of
from foldstack.stages.run import Run, missing_files
from foldstack.store import RunKey
from foldstack.tracking import check_trackers
from foldstack.workspace import Workspace


def train(
    ws: Workspace,
    *,
    model: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
    name: str | None = None,
    force: bool = False,
    jobs: int = 0,
    processes: int = 1,
) -> TrainedRecord:
    """Train every requested run that is not finished.

    A launcher starts several processes for one run, and each of them calls this.

    Args:
        ws: the workspace.
        model, fold, seed: comma lists, see `Workspace.choose_models`, `choose_runs` and `choose_seeds`.
        name: store the runs under this name, as a variant of the model.
        force: train finished runs again.
        jobs: the number of runs at once; 0 for as many as cores and memory allow.
        processes: the number of processes per run.

    Returns:
        The names of the runs that were trained, and of those that were finished; if any was trained,
        the scores of its models.

    Raises:
        InputError: options are incompatible, or a run cannot be trained.
        ChildFailed: the process of a run has failed.
    """
    made = train_missing(ws, model, fold, seed, name, force=force, jobs=jobs, processes=processes)
    if not made.trained or is_child() or not parallel.is_main():
        return made
    names = [name] if name is not None else ws.choose_models(model)
    return made.model_copy(update={"scores": model_scores(ws, names)})


def train_missing(
    ws: Workspace,
    model: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
    name: str | None = None,
    *,
    force: bool = False,
    jobs: int = 0,
    processes: int = 1,
) -> TrainedRecord:
    """Train as `train` does, with the same arguments, but score no models."""
    if jobs > 1 and processes > 1:
        raise InputError(
            "--jobs does several runs at once and --processes shares out one: give one of them"
        )
    runs, first, todo = runs_left(ws, model, fold, seed, name, force=force)
    todo = [*first, *todo]
    left = {run.key for run in todo}
    check_trackers(ws.competition.settings.runtime.trackers)
    done = [run for run in runs if run.key not in left]
    finished, missing = [str(run.key) for run in done], missing_files(ws, done)
    if todo:
        _check_processes(todo, processes)
    if not force:
        _check_alike(ws, todo)
        _check_pretrained(ws, todo)
    if not is_child():  # the parent has checked it
        _check_inputs(ws, todo, force=force)
    if len(todo) == 1 and processes == 1 and not train_one(ws, todo[0], force=force):
        return TrainedRecord(trained=[], finished=[*finished, str(todo[0].key)], missing=missing)
    if len(todo) > 1 or processes > 1:
        shared = Jobs(ws, todo, jobs, processes)
        for line in [*_first(first), *shared.plan()]:
            say(line)
        for together in _by_dependency(todo):
            train_each(ws, together, shared, force=force, processes=processes)
    trained = [str(run.key) for run in todo]
    return TrainedRecord(trained=trained, finished=finished, missing=missing)


def runs_left(
    ws: Workspace,
    model: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
    name: str | None = None,
    *,
    force: bool = False,
) -> tuple[list[Run], list[Run], list[Run]]:
    """Return the requested runs, those to train before them, and those of them to train.

    Arguments and errors are those of `train`.
    """
    runs = _requested(ws, model, fold, seed, name, force=force)
    todo = [run for run in runs if force or not is_done(ws, run)]
    return runs, [] if is_child() else _missing_before(ws, todo), todo


def _requested(
    ws: Workspace,
    model: str | None,
    fold: str | None,
    seed: str | None,
    name: str | None,
    *,
    force: bool,
) -> list[Run]:
    """Return the requested runs, finished or not; raise InputError for an invalid option."""
    models = ws.choose_models(model)
    if name is not None:
        config.check_name(name, "name")
        if len(models) > 1:
            raise InputError(
                f"NAME={name} names one model's variant, but {len(models)} models are "
                f"asked for ({', '.join(models)}): add MODEL="
            )
    settings = {m: settings_of(ws, m, name or m, force=force) for m in models}
    for each in settings.values():
        each.check_implementation()
    _check_overrides_used(ws, settings)
    ws.check()
    folds = ws.store.read_folds(ws.competition.train)
    left_out = ws.choose_runs(fold, folds)
    runs = [
        Run(RunKey(name or m, s, f), settings[m], folds, m)
        for m in models
        for s in ws.choose_seeds(seed)
        for f in left_out
    ]
    for run in runs:
        check_run(ws, run)
    return runs


def _missing_before(ws: Workspace, todo: list[Run]) -> list[Run]:
    """Return the runs that these depend on, directly or not, and are neither finished nor among them.

    None of them if settings are given by --set, which are not for them: training asks for them.

    Raises InputError if models depend on each other, directly or not.
    """
    if config.split_overrides(ws.given)[1]:
        return []
    asked, found = {run.key for run in todo}, {}
    for run in todo:
        needed = [each for each in run.dependencies() if each.run not in asked]
        found |= Required.by(ws, needed, run.folds, [run.key.model]).missing
    return [found[key] for key in sorted(found) if key not in asked]


def _first(runs: list[Run]) -> list[str]:
    """Return the line that names the runs that are trained first, if there are any."""
    models = ", ".join(dict.fromkeys(run.key.model for run in runs))
    count = f"the run of {models}" if len(runs) == 1 else f"{len(runs)} runs of {models}"
    return [f"train: first {count}, which others depend on"] if runs else []


def _by_dependency(todo: list[Run]) -> list[list[Run]]:
    """Return the runs in groups, each run in a later group than its dependencies."""
    groups, left = [], list(todo)
    while left:
        waiting = {run.key for run in left}
        ready = [run for run in left if not any(d.run in waiting for d in run.dependencies())]
        if not ready:
            raise InputError(in_a_circle(run.key.model for run in left))
        groups.append(ready)
        left = [run for run in left if run not in groups[-1]]
    return groups


def _check_overrides_used(ws: Workspace, settings: dict[str, Settings]) -> None:
    if is_child():  # a child knows one model only; its parent has checked all
        return
    for key in config.split_overrides(ws.given)[1]:
        if not any(key in type(s).model_fields for s in settings.values()):
            raise InputError(
                f"--set: setting '{key}' changes nothing in {', '.join(settings)}: leave "
                "it out or name another MODEL"
            )


def _check_alike(ws: Workspace, todo: list[Run]) -> None:
    """Raise InputError if a run would have other settings than a finished one of its model."""
    for run in {run.key.model: run for run in reversed(todo)}.values():
        ours = {run.key: config.identity(run.settings)}
        for key, done in ws.store.runs(run.key.model, run.folds).items():
            for own, changed in unlike(ours, done.identity.settings).items():
                raise InputError(
                    f"{own} would have other settings than {key} ({'; '.join(changed)}), so that they "
                    "could not serve together: give the same SET=, another NAME=, or --force (FORCE=1)"
                )


def _check_pretrained(ws: Workspace, todo: list[Run]) -> None:
    """Raise InputError if a run would begin with another pretrained backbone than a finished one."""
    new = [run for run in todo if run.pretrains and ws.store.read_run(run.key) is None]
    for run in {run.key.model: run for run in reversed(new)}.values():
        backbone = pretrained_name(ws, run.settings)
        for key, done in ws.store.runs(run.key.model, run.folds).items():
            if done.pretrained != backbone:
                raise InputError(
                    f"{run.key} would begin with a backbone that was pretrained on other texts than "
                    f"that of {key}, so that they could not serve together: give another NAME=, or "
                    "--force (FORCE=1)"
                )


def _check_inputs(ws: Workspace, todo: list[Run], *, force: bool) -> None:
    """Raise InputError, before any run begins, if a backbone or a file that a preset names is missing.

    A hub name is not asked for.
    """
    fitted = [run for run in todo if force or ws.store.read_run(run.key) is None]
    for run in {run.key.model: run for run in fitted}.values():
        if not (run.pretrains and is_pretrained(ws, run.settings)):
            run.settings.check_backbone()
        run.settings.check_inputs(ws.competition.files_of(run.settings))
        if run.settings.pseudo_labels is not None:
            run.settings.pseudo_labels.check_package()


def _check_processes(todo: list[Run], processes: int) -> None:
    """Raise InputError if these runs cannot use several processes, or one."""
    launched = parallel.world_size()
    if launched > 1 and (processes > 1 or len(todo) > 1):
        what = f"{len(todo)} runs are to be trained" if len(todo) > 1 else "--processes is given"
        raise InputError(
            f"{what}, but a launcher has started {launched} processes for one run: name one run, or use "
            "--processes instead of the launcher"
        )
    if launched == processes == 1:
        for run in todo:
            if run.settings.is_sharded:
                raise InputError(
                    f"{run.key}: sharding shares a run out over processes: start several with "
                    "--processes (PROCESSES=), or leave it out"
                )
        return
    for run in todo:
        if not run.settings.traits.processes:
            raise InputError(
                f"{run.key}: learner {run.settings.learner} computes in one process: leave "
                "--processes (PROCESSES=) out, or name a transformer with --model (MODEL=)"
            )
