"""The life of one run: lock, resume or start over, fit, predict, store."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import resource
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import foldstack
from foldstack import config, parallel
from foldstack.cores import machine
from foldstack.errors import InputError
from foldstack.interrupt import saying_stop
from foldstack.learners import Learner, LearnerContext, make_learner
from foldstack.progress import duration, say
from foldstack.records import PartialRecord, RunIdentity, RunRecord, UnlabelledRecord
from foldstack.rows import PSEUDO, Rows, text_digests
from foldstack.stages.dependencies import require_dependencies
from foldstack.stages.fitted import load_learner, threads_of, token_cache
from foldstack.stages.learned import rows_of, start_of, unlabelled_of
from foldstack.stages.pretrain import pretrained
from foldstack.stages.run import Run, identity_of
from foldstack.stages.taught import lines_of
from foldstack.store import Predictions, RunKey
from foldstack.techniques import LearnerSettings
from foldstack.tracking import Log, Tracking, tracked
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


def is_done(ws: Workspace, run: Run) -> bool:
    """Return whether the run is finished; raise InputError if it has other settings or data."""
    done = ws.store.read_run(run.key)
    if done is None:
        return False
    ws.store.tidy_run(run.key)
    ws.store.verify_heldout(run.key, done)
    today = identity_of(ws, run, then=done.identity)
    changed = config.differences(done.identity.to_json(), today.to_json())
    if changed:
        shown = "; ".join(c.removeprefix("settings.") for c in changed)
        raise InputError(
            f"{run.key} is finished with other settings or data ({shown}): add --force "
            "(FORCE=1) to train it again, or NAME= to keep a variant beside it"
        )
    return _test_is_current(ws, run, done)


def _test_is_current(ws: Workspace, run: Run, done: RunRecord) -> bool:
    """Return whether the run has predicted today's test file."""
    if done.test_features != _test_features(ws, run).get("test_features"):
        return False
    try:
        rows_are_today = ws.store.rows_hash(run.key, "test") == ws.competition.test.hash()
        return rows_are_today and ws.store.content(run.key, "test") == done.predictions["test"]
    except (InputError, KeyError):
        return False


def _test_features(ws: Workspace, run: Run) -> dict[str, str | None]:
    """Return the hash of the test features for the record of a run that joins features."""
    if not run.joins_features:
        return {}
    return {"test_features": ws.competition.features_hash(ws.competition.test)}


def train_one(ws: Workspace, run: Run, *, force: bool) -> bool:
    """Fit, predict and store one run; resume it if it was interrupted.

    With several processes, the main one holds the lock, writes and logs.

    Returns whether there was anything to do; another process may have trained it meanwhile.
    """
    store, key = ws.store, run.key
    parallel.join()
    with ExitStack() as stack:
        parallel.main_first(lambda: parallel.is_main() and stack.enter_context(store.lock(key)))
        found = None if force else store.read_run(key)
        if found is not None:
            if is_done(ws, run):  # by another process, or finished after a kill
                return False
            _predict_test_again(ws, run, found)
            return True
        require_dependencies(ws, run)
        tracking = stack.enter_context(tracked(_tracking(ws, run)))
        with saying_stop(str(key)):
            fitted = _fit(ws, run, tracking)
            parallel.leave()
            if not parallel.is_main():
                return True
            record = _store(ws, run, fitted)
        if tracking and record.score is not None:
            tracking({f"held-out {record.metric}": record.score}, record.facts.get("updates", 0))
    _log_result(key, record, fitted.predictions)
    return True


@dataclass(frozen=True)
class _Fitted:
    """A fitted learner, its predictions, and fields for its run's record.

    Attributes:
        predictions: each named set of rows with its logits.
        begin: the start of the run, by `time.monotonic`.
        of_record: fields of `RunRecord`.
    """

    learner: Learner
    predictions: dict[str, tuple[Rows, Predictions]]
    begin: float
    of_record: dict[str, Any]


def _tracking(ws: Workspace, run: Run) -> Tracking | None:
    """Return the trackers of a run; None without any, and in all processes but the main one."""
    names = ws.competition.settings.runtime.trackers
    if not names or not parallel.is_main():
        return None
    name = f"{run.key.model}/seed{run.key.seed}/{run.key.run}"
    settings, folder = config.identity(run.settings), ws.store.tracking_dir
    return Tracking(names, ws.competition.settings.name, name, folder, settings)


def _fit(ws: Workspace, run: Run, log: Log | None) -> _Fitted:
    """Fit the run's learner, or resume that, and predict its rows; log: of its training."""
    key, threads, start = run.key, threads_of(ws), start_of(ws, run)
    backbone = pretrained(ws, run.settings, threads) if run.pretrains else None
    begin = time.monotonic()
    identity = identity_of(
        ws, run
    )  # before anything is read: what changes meanwhile makes it stale
    parallel.main_first(lambda: parallel.is_main() and _open_partial(ws, run, threads, identity))
    of_texts = UnlabelledRecord()
    train, held, select, optimistic = rows_of(ws, run, of_texts, backbone)
    taught = int((train.origin == PSEUDO).sum())
    labels = f", {taught:,} of them with the labels of teachers" if taught else ""
    unlabelled = unlabelled_of(ws, run, of_texts)
    without = "" if unlabelled is None else f", {len(unlabelled):,} without a label"
    rows = f"{len(train):,} rows to learn from{labels}, {len(held):,} held out{without}"
    lines = lines_of(of_texts, run.settings)
    say("\n".join(f"{key}: {line}" for line in [rows, *lines]))
    task, cache = ws.competition.task, token_cache(ws)
    context = LearnerContext(
        task,
        key.seed,
        threads,
        start,
        cache,
        backbone,
        log,
        ws.competition.files_of(run.settings),
        lambda: ws.competition.all_texts,
        unlabelled,
        ws.store.filled_dir,
    )
    learner = make_learner(run.settings, context)
    facts = learner.fit(train, select, ws.store.checkpoints_dir(key))
    _check_facts(run, learner, facts)
    predictions = _predict(ws, learner, held)
    of_record = {
        "identity": identity,
        "optimistic": optimistic,
        "rows": len(train),
        "unlabelled": of_texts if lines else None,
        "facts": facts,
        "pretrained": backbone and backbone.name,
        "machine": _machine(run.settings, threads),
        "versions": _versions(run.settings),
    }
    return _Fitted(learner, predictions, begin, of_record)


def _check_facts(run: Run, learner: Learner, facts: Any) -> None:
    """Raise InputError if a learner's facts do not fit into run.json; its checkpoints stay."""
    try:
        RunRecord.check_facts(facts)
    except ValueError as e:
        raise InputError(
            f"{run.key}: {type(learner).__name__}.fit: {e}: return other facts, then train again"
        ) from None


def _store(ws: Workspace, run: Run, fitted: _Fitted) -> RunRecord:
    """Write the run's predictions, fitted model and record, and finish it."""
    key, facts = run.key, fitted.of_record["facts"]
    scored = _write_predictions(ws, key, fitted.predictions)
    if ws.competition.settings.store.keep_models:
        fitted.learner.save(ws.store.new_model_dir(key))
    seconds = max(time.monotonic() - fitted.begin, facts.get("training_seconds", 0.0))
    record = RunRecord(
        model=key.model,
        preset=run.preset,
        seed=key.seed,
        run=key.run,
        left_out=list(key.left_out),
        metric=ws.competition.metric.name,
        **scored,
        **_test_features(ws, run),
        seconds=round(seconds, 2),
        peak_memory_mb=_peak_memory_mb(),
        **fitted.of_record,
    )
    _remember_test(ws)
    ws.store.write_run(key, record)
    ws.store.finish(key)
    return record


def _machine(settings: LearnerSettings, threads: int) -> dict:
    if not settings.traits.torch:  # to import it takes longer than many a run
        return machine(threads)
    from foldstack.training import precision

    return precision.machine(threads)


def _open_partial(ws: Workspace, run: Run, threads: int, identity: RunIdentity) -> None:
    """Open the unfinished run's folder if it has this identity; otherwise make an empty one.

    A run of other settings or data is put aside and can be resumed with those.
    """
    store, key, partial = ws.store, run.key, ws.store.partial_dir(run.key)
    wanted = PartialRecord(
        run=[key.seed, *key.left_out],
        identity=identity,
        machine=_machine(run.settings, threads),
        versions=_versions(run.settings),
    )
    found = store.read_partial(key)
    changed = _differences(found, wanted) if found else []
    if partial.exists() and (found is None or found.run not in (None, wanted.run)):
        say(f"{key}: the unfinished run is damaged, or another one: starting over")
        shutil.rmtree(partial)
        found = None
    elif changed:
        store.put_aside(key, config.digest(found.identity.to_json()))
        shown = "; ".join(c.removeprefix("settings.") for c in changed)
        say(
            f"{key}: an unfinished run was made with other settings or data ({shown}): starting over; "
            "the same command as then resumes it"
        )
    if not partial.exists() and store.take_back(key, config.digest(wanted.identity.to_json())):
        found = store.read_partial(key)
    if found and not changed:
        _log_environment_change(key, found, wanted)
    store.open_partial(key, wanted)


def _differences(found: PartialRecord, wanted: PartialRecord) -> list[str]:
    return config.differences(found.identity.to_json(), wanted.identity.to_json())


def _log_environment_change(key: RunKey, found: PartialRecord, wanted: PartialRecord) -> None:
    """Log if the machine or the packages have changed since the run was interrupted."""
    before, now = ({"machine": each.machine, "versions": each.versions} for each in (found, wanted))
    changed = config.differences(before, now)
    if changed:
        say(
            f"{key}: {'; '.join(changed)} since it was interrupted: the last bits may differ from those "
            "of an uninterrupted run"
        )


def _predict(ws: Workspace, learner: Learner, held: Rows) -> dict[str, tuple[Rows, Predictions]]:
    """Return each named set of rows with its logits."""
    test = ws.competition.test
    named = {"heldout": held, "test": test} if len(held) else {"test": test}
    return {
        name: (rows, Predictions(learner.predict(rows), learner.link))
        for name, rows in named.items()
    }


def _write_predictions(
    ws: Workspace, key: RunKey, predictions: dict[str, tuple[Rows, Predictions]]
) -> dict[str, Any]:
    """Write the predictions; return their digests and the score on the held-out rows."""
    competition, digests, score = ws.competition, {}, None
    for name, (rows, made) in predictions.items():
        digests[name] = ws.store.write_predictions(key, name, rows, made, competition.outputs)
        if name == "heldout":
            score = competition.task.of(rows).score(rows.targets, made.raw)
            score = None if math.isnan(score) else score
    return {"score": score, "predictions": digests}


def _predict_test_again(ws: Workspace, run: Run, record: RunRecord) -> None:
    """Predict a new test file with the stored model, and replace the run's predictions."""
    store, key = ws.store, run.key
    if not store.has_model(key):
        raise InputError(
            f"{key}: the test file is new and the fitted model was not kept "
            "(store.keep_models=false): train it again with --force (FORCE=1)"
        )
    learner = load_learner(ws, key, threads_of(ws), token_cache(ws))
    rows, outputs = ws.competition.test, ws.competition.outputs
    made = Predictions(learner.predict(rows), learner.link)
    parallel.leave()
    if not parallel.is_main():
        return
    _remember_test(ws)
    record = record.model_copy(update=_test_features(ws, run))
    store.replace_predictions(key, record, "test", rows, made, outputs)
    say(f"{key}: the test file is new, the model is not: predicted its {len(rows):,} rows")


def _remember_test(ws: Workspace) -> None:
    """Record the test texts as labelled by a model of this workspace, also after a new test file."""
    ws.store.predictions.remember(text_digests(ws.competition.test.texts))


def _log_result(
    key: RunKey, record: RunRecord, predictions: dict[str, tuple[Rows, Predictions]]
) -> None:
    """Log a run's score, time and memory, and why it is optimistic."""
    held = len(predictions["heldout"][0]) if "heldout" in predictions else 0
    scored = "undefined" if record.score is None else f"{record.score:.4f}"
    score = f"{record.metric} {scored} on {held:,} held-out rows, " if held else ""
    say(f"{key}: {score}{duration(record.seconds)}, peak {record.peak_memory_mb:,} MB")
    for reason in record.optimistic:
        say(f"{key}: OPTIMISTIC, {reason}")


def _peak_memory_mb() -> int:
    """Return this process's peak memory; on Linux, that of getrusage includes the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    unit = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


def _versions(settings: LearnerSettings) -> dict[str, str]:
    own = {"python": platform.python_version(), "foldstack": foldstack.__version__}
    return own | {
        name: importlib.metadata.version(name) for name in (*PACKAGES, *settings.packages)
    }
