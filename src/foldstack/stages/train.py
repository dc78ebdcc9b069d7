"""Stage: oof/, one run at a time, each a process of its own where there are several."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import foldstack
from foldstack import config, parallel
from foldstack.cores import cpu_threads, machine
from foldstack.errors import ChildFailed, InputError, Interrupted
from foldstack.interrupt import child_environment, is_child
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.progress import duration, say
from foldstack.records import PartialRecord, read_mapping, write_record
from foldstack.rows import Rows, text_digests
from foldstack.settings import Settings
from foldstack.stages.fitted import load_learner, threads_of, token_cache
from foldstack.stages.learned import (
    Run,
    identity_of,
    require_dependencies,
    rows_of,
    start_of,
)
from foldstack.stages.pretrain import pretrained
from foldstack.store import RunKey, write_parquet
from foldstack.system import LESS_MEMORY, is_fault, say_error
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "numpy",
    "scipy",
    "scikit-learn",
    "lightgbm",
    "pandas",
)

GRACE_SECONDS = 10.0  # for processes whose companion has failed to say so themselves


def train(
    ws: Workspace,
    *,
    model: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
    name: str | None = None,
    force: bool = False,
    jobs: int = 1,
    processes: int = 1,
) -> None:
    """Train every run asked for that is not there yet.

    jobs: runs at once; processes: that train each run together. A launcher's processes come here all of
    them, for one run.
    """
    if jobs > 1 and processes > 1:
        raise InputError(
            "--jobs does several runs at once and --processes shares out one: give one of them"
        )
    models = ws.choose_models(model)
    if name is not None:
        config.check_name(name, "name")
        if len(models) > 1:
            raise InputError(
                f"NAME={name} names one model's variant, but {len(models)} models are "
                f"asked for ({', '.join(models)}): add MODEL="
            )
    settings = {m: ws.model_settings(m) for m in models}
    _check_overrides_used(ws, settings)
    ws.check()
    folds = ws.store.read_folds(ws.competition.train)
    left_out = ws.choose_runs(fold, folds)
    runs = [
        (m, Run(RunKey(name or m, s, f), settings[m], folds))
        for m in models
        for s in ws.choose_seeds(seed)
        for f in left_out
    ]
    for _, run in runs:
        _check_run(run)
    todo = [(m, run) for m, run in runs if force or not _is_done(ws, run)]
    if not todo:
        say(
            f"train: nothing to do, {len(runs)} finished: {', '.join(str(r.key) for _, r in runs[:3])}"
            + (" …" if len(runs) > 3 else "")
        )
        return
    _check_processes(todo, processes)
    if len(todo) == 1 and processes == 1:
        train_one(ws, todo[0][1], force=force)
        return
    for together in _by_dependency(todo):
        _train_each(ws, together, force=force, jobs=jobs, processes=processes)


def _by_dependency(todo: list[tuple[str, Run]]) -> list[list[tuple[str, Run]]]:
    """The runs in groups, each after those that it rests on; within a group as they were asked for."""
    groups, left = [], list(todo)
    while left:
        waiting = {run.key for _, run in left}
        ready = [item for item in left if not any(d.run in waiting for d in item[1].dependencies())]
        groups.append(ready or left)  # a circle: each run says what it lacks
        left = [item for item in left if item not in groups[-1]]
    return groups


def _check_overrides_used(ws: Workspace, settings: dict[str, Settings]) -> None:
    if is_child():  # which knows one model only; its parent has looked at all of them
        return
    for key in config.split_overrides(ws.given)[1]:
        if not any(key in type(s).model_fields for s in settings.values()):
            raise InputError(
                f"--set: setting '{key}' changes nothing in {', '.join(settings)}: leave "
                "it away or name another MODEL"
            )


def _check_processes(todo: list, processes: int) -> None:
    """Raises InputError where several processes are not for these runs."""
    launched = parallel.count()
    if launched > 1 and (processes > 1 or len(todo) > 1):
        what = f"{len(todo)} runs are to be trained" if len(todo) > 1 else "--processes is given"
        raise InputError(
            f"{what}, but a launcher has started {launched} processes for one run: name one run, or use "
            "--processes instead of the launcher"
        )
    if launched == processes == 1:
        return
    for _, run in todo:
        if not run.settings.traits.processes:
            raise InputError(
                f"{run.key}: learner {run.settings.learner} computes in one process: leave "
                "--processes (PROCESSES=) out, or name a transformer with --model (MODEL=)"
            )


def _check_run(run: Run) -> None:
    if run.start and run.start.model == run.key.model:
        raise InputError(f"{run.key}: start_from names the model itself: name another one")
    if run.select == "fold" and not run.key.left_out:
        raise InputError(
            f"{run.key}: training.select=fold chooses the epoch on the held-out fold, "
            "but a full run holds none out: use select=last or inner"
        )


# Several runs


def _train_each(ws: Workspace, todo: list, *, force: bool, jobs: int, processes: int = 1) -> None:
    """Runs in processes of their own, `jobs` at a time; after a failure no more are begun."""
    threads, cores = threads_of(ws), cpu_threads(0)
    if jobs > 1 and jobs * threads > cores:
        say(
            f"train: {jobs} runs of {threads} threads each share {cores} cores and may take longer "
            "than one after the other; runtime.threads=1 makes them smaller"
        )
    running: set[subprocess.Popen] = set()
    ended = threading.Event()

    def start(item: tuple[str, Run]) -> int:
        if ended.is_set():
            return 0
        try:
            return _child(ws, *item, force, jobs == 1, processes, running, ended)
        except Exception:  # the output cannot be written, or no process started
            ended.set()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        try:
            codes = [code for code in pool.map(start, todo) if code]
        except Interrupted as e:
            ended.set()
            for process in list(running):
                process.send_signal(e.signum)
            raise
    if codes:
        raise ChildFailed(codes[0])


def _child(
    ws: Workspace,
    model: str,
    run: Run,
    force: bool,
    shown: bool,
    processes: int,
    running: set[subprocess.Popen],
    ended: threading.Event,
) -> int:
    """Train one run in a process, or in several; returns its exit code."""
    key = run.key
    command = [
        sys.executable,
        "-m",
        "foldstack",
        *ws.command,
        "train",
        "--model",
        model,
        "--name",
        key.model,
        "--fold",
        key.run.removeprefix("fold"),
        "--seed",
        str(key.seed),
    ]
    if force:
        command.append("--force")
    pipe = {} if shown else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    shares = [{}] if processes == 1 else parallel.environments(processes, threads_of(ws, processes))
    with ExitStack() as stack:
        group = [
            stack.enter_context(subprocess.Popen(command, env=child_environment() | own, **pipe))
            for own in shares
        ]
        running.update(group)
        if ended.is_set():  # a signal came while they were being started
            for process in group:
                process.terminate()
        if not shown:
            for line in group[0].stdout:
                say(f"{key} | {line.rstrip()}")
        code = _exit_code(group)
    running.difference_update(group)
    if code == -signal.SIGKILL and not ended.is_set():
        say_error(
            f"{key}: its process was killed (SIGKILL), as the system does where the memory is not "
            f"enough: {LESS_MEMORY}"
        )
    if code:
        ended.set()
    return 128 - code if code < 0 else code  # killed by a signal, as a shell reports it


def _exit_code(group: list[subprocess.Popen]) -> int:
    """0, or that of the first process that failed; the others, which may wait for it, are ended."""
    if len(group) == 1:
        return group[0].wait()
    while any(process.poll() is None for process in group):
        if any(process.poll() for process in group):
            try:
                for process in group:
                    process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                for process in group:
                    process.kill()
        time.sleep(0.05)
    return next((code for p in group if (code := p.returncode)), 0)


# One run


def _is_done(ws: Workspace, run: Run) -> bool:
    """Whether the run is finished for the files of today; InputError where another one is there."""
    done = ws.store.read_run(run.key)
    if done is None:
        return False
    ws.store.tidy_run(run.key)
    ws.store.verify_heldout(run.key)
    changed = config.differences(done["identity"], identity_of(ws, run))
    if changed:
        shown = "; ".join(c.removeprefix("settings.") for c in changed)
        raise InputError(
            f"{run.key} is finished with other settings or data ({shown}): add --force "
            "(FORCE=1) to train it anew, or NAME= to keep a variant beside it"
        )
    return _test_is_current(ws, run, done)


def _test_is_current(ws: Workspace, run: Run, done: dict) -> bool:
    if done.get("test_features") != _test_features(ws, run).get("test_features"):
        return False
    try:
        rows_are_today = ws.store.rows_hash(run.key, "test") == ws.competition.test.hash()
        return rows_are_today and ws.store.content(run.key, "test") == done["predictions"]["test"]
    except (InputError, KeyError):
        return False


def _test_features(ws: Workspace, run: Run) -> dict:
    """What a run that joins features remembers of the test file beside ids and texts."""
    if not run.joins_features:
        return {}
    return {"test_features": ws.competition.features_hash(ws.competition.test)}


def train_one(ws: Workspace, run: Run, *, force: bool) -> None:
    """Fit, predict and store one run, going on from where it was left.

    Of several processes the main one holds the lock, writes and speaks; the others compute.
    """
    store, key = ws.store, run.key
    parallel.join()
    with ExitStack() as stack:
        parallel.main_first(lambda: parallel.is_main() and stack.enter_context(store.lock(key)))
        if not force and store.read_run(key) is not None:
            if _is_done(ws, run):  # meanwhile, or it was killed while it was put in place
                say(f"train: nothing to do, 1 finished: {key}")
            else:
                _predict_test_again(ws, run)
            return
        require_dependencies(ws, run)
        threads, start = threads_of(ws), start_of(ws, run)
        backbone = pretrained(ws, run.settings, threads) if run.pretrains else None
        begin = time.monotonic()
        partial = store.partial_dir(key)
        parallel.main_first(lambda: parallel.is_main() and _open_partial(ws, run, threads))
        train, held, select, optimistic = rows_of(ws, run)
        say(f"{key}: {len(train):,} rows to learn from, {len(held):,} held out")
        task, cache = ws.competition.task, token_cache(ws)
        context = LearnerContext(task, key.seed, threads, start, cache, backbone)
        learner = make_learner(run.settings, context)
        facts = learner.fit(train, select, partial / "checkpoints")
        predictions = _predict(ws, learner, held)
        parallel.leave()
        if not parallel.is_main():
            return
        info = _write_predictions(ws, learner, partial, predictions) | _test_features(ws, run)
        if ws.competition.settings.store.keep_models:
            learner.save(partial / "model")
        seconds = max(time.monotonic() - begin, facts.get("training_seconds", 0.0))
        info = {
            "model": key.model,
            "seed": key.seed,
            "run": key.run,
            "left_out": key.left_out,
            "identity": identity_of(ws, run),
            "metric": ws.competition.metric.name,
            **info,
            "optimistic": optimistic,
            "rows": len(train),
            "seconds": round(seconds, 2),
            "peak_memory_mb": _peak_memory_mb(),
            **facts,
            "pretrained": backbone and backbone.name,
            "machine": _machine(run.settings, threads),
            "versions": _versions(),
        }
        _remember_test(ws)
        store.write_run(partial, info)
        store.finish(key)  # with its checkpoints, lest a kill here cost the whole training
        shutil.rmtree(store.run_dir(key) / "checkpoints")
        (store.run_dir(key) / "identity.json").unlink()
    _say_result(key, info, len(held))


def _machine(settings: LearnerSettings, threads: int) -> dict:
    if not settings.traits.torch:  # to import it takes longer than many a run
        return machine(threads)
    from foldstack.training import precision

    return precision.machine(threads)


def _open_partial(ws: Workspace, run: Run, threads: int) -> None:
    """The unfinished run's folder: as it was left if it is this very run, else empty.

    One of other settings or data is put aside, and resumed when those are given again.
    """
    store, key, partial = ws.store, run.key, ws.store.partial_dir(run.key)
    wanted = {
        "run": [key.seed, *key.left_out],
        "identity": identity_of(ws, run),
        "machine": _machine(run.settings, threads),
        "versions": _versions(),
    }
    found = _identity_of_partial(partial)
    changed = config.differences(found["identity"], wanted["identity"]) if found else []
    if partial.exists() and (found is None or found.get("run", wanted["run"]) != wanted["run"]):
        say(f"{key}: what is unfinished there is damaged, or another run's: starting over")
        shutil.rmtree(partial)
        found = None
    elif changed:
        store.put_aside(key, config.digest(found["identity"]))
        shown = "; ".join(c.removeprefix("settings.") for c in changed)
        say(
            f"{key}: an unfinished run was made with other settings or data ({shown}): starting over; "
            "the same command as then resumes it"
        )
    if not partial.exists() and store.take_back(key, config.digest(wanted["identity"])):
        found = _identity_of_partial(partial)
    if found and not changed:
        _say_moved(key, found, wanted)
    (partial / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_record(partial / "identity.json", wanted)


def _identity_of_partial(partial: Path) -> dict | None:
    """What an unfinished run is; None if there is none, or it does not say."""
    if not partial.exists():
        return None
    try:
        found = read_mapping(partial / "identity.json", PartialRecord, "its identity", "")
    except (InputError, OSError) as e:
        if is_fault(e):  # of the machine, which the run may outlast
            raise
        return None
    return found


def _say_moved(key: RunKey, found: dict, wanted: dict) -> None:
    """Say if the machine or the packages are others than when the run was left."""
    before, now = ({k: each[k] for k in ("machine", "versions")} for each in (found, wanted))
    moved = config.differences(before, now)
    if moved:
        say(
            f"{key}: {'; '.join(moved)} since it was left: the last bits may differ from those of a run "
            "made in one go"
        )


def _predict(ws: Workspace, learner: Learner, held: Rows) -> dict[str, tuple[Rows, np.ndarray]]:
    """Rows and their raw outputs, by name."""
    test = ws.competition.test
    named = {"heldout": held, "test": test} if len(held) else {"test": test}
    return {name: (rows, learner.predict(rows)) for name, rows in named.items()}


def _write_predictions(
    ws: Workspace, learner: Learner, place: Path, predictions: dict[str, tuple[Rows, np.ndarray]]
) -> dict:
    competition = ws.competition
    info: dict = {"score": None, "predictions": {}}
    for name, (rows, raw) in predictions.items():
        info["predictions"][name] = write_parquet(
            place / f"{name}.parquet", rows, raw, learner.link, competition.outputs
        )
        if name == "heldout":
            info["score"] = competition.task.score(rows.targets, raw)
    return info


def _predict_test_again(ws: Workspace, run: Run) -> None:
    """A new test file needs new predictions only, by the model that was kept."""
    store, key = ws.store, run.key
    if not (store.run_dir(key) / "model").is_dir():
        raise InputError(
            f"{key}: the test file is new and the fitted model was not kept "
            "(store.keep_models=false): train it again with --force (FORCE=1)"
        )
    learner = load_learner(ws, key, token_cache(ws))
    rows, outputs = ws.competition.test, ws.competition.outputs
    raw = learner.predict(rows)
    parallel.leave()
    if not parallel.is_main():
        return
    info = store.read_run(key) | _test_features(ws, run)
    _remember_test(ws)
    with store.updating_run(key, info, "test.parquet") as place:
        info["predictions"]["test"] = write_parquet(place, rows, raw, learner.link, outputs)
    say(f"{key}: the test file is new, the model is not: predicted its {len(rows):,} rows")


def _remember_test(ws: Workspace) -> None:
    """Record that the test texts get labels here, which outlives this test file."""
    ws.store.predictions.remember(text_digests(ws.competition.test.texts))


def _say_result(key: RunKey, info: dict, held: int) -> None:
    score = f"{info['metric']} {info['score']:.4f} on {held:,} held-out rows, " if held else ""
    say(f"{key}: {score}{duration(info['seconds'])}, peak {info['peak_memory_mb']:,} MB")
    for reason in info["optimistic"]:
        say(f"{key}: OPTIMISTIC, {reason}")


def _peak_memory_mb() -> int:
    """Of this process. getrusage is second choice: on Linux it begins with the parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def _versions() -> dict[str, str]:
    own = {"python": platform.python_version(), "foldstack": foldstack.__version__}
    return own | {name: importlib.metadata.version(name) for name in PACKAGES}
