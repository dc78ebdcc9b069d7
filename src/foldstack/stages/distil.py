"""Stage: one small student of a stored blend, taught by the blend's members."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np

from foldstack import config, ensemble
from foldstack.ensemble import Members
from foldstack.ensemble.candidates import Fitted
from foldstack.ensemble.optimism import difference_variance_ratio
from foldstack.errors import InputError
from foldstack.files import size_of
from foldstack.links import within_run_ranks
from foldstack.progress import duration, say
from foldstack.records import (
    BlendRecord,
    DifferenceRecord,
    Distilled,
    DistilledSide,
    EstimateRecord,
    MeasuredStudent,
)
from foldstack.stages.blend import blend_command, members_of, read_stored
from foldstack.stages.dependencies import Doubts, stale_runs
from foldstack.stages.fitted import model_folder, times_of, tried
from foldstack.stages.oof import full_runs, read_model
from foldstack.stages.predictor import Predictor
from foldstack.stages.required import Required, refuse_unlike, shown, train_again
from foldstack.stages.run import Run
from foldstack.stages.shared import folds_of
from foldstack.stages.student_plan import Plan, plan, student_runs
from foldstack.stages.student_preset import StudentPreset, write_preset
from foldstack.stages.students import Limits, choose
from foldstack.stages.train import runs_left, train_missing
from foldstack.store import Folds, RunKey, read_parquet
from foldstack.workspace import Workspace


def distil(
    ws: Workspace,
    *,
    name: str | None = None,
    blend: str | None = None,
    mb: float | None = None,
    rate: float | None = None,
    seed: str | None = None,
    jobs: int = 0,
    force: bool = False,
) -> Distilled:
    """Write the preset of a student of a blend, train it with the teachers' runs that are missing.

    A preset that was edited since distil wrote it is trained as it is. The runs of all folds estimate
    the student; one on all rows, of the first seed, is the student that predicts.

    Args:
        ws: the workspace.
        name: the student; None for `student`.
        blend: whose members teach; None for `blend`.
        mb: most megabytes (10^6 bytes) of the student's stored model; None for no limit.
        rate: least rows per second that it predicts on this machine; None for no limit.
        seed: seeds of the student, of those that its teachers have; None for all of them.
        jobs: see `train`.
        force: write the preset and train the student's runs again.

    Returns:
        Score, size and speed of the student and of the blend.

    Raises:
        InputError: there is no such blend, it is stale or cannot teach this student, no candidate is
            within the limits, or the name is taken.
        ChildFailed: the process of a run has failed.
    """
    student, of, limits = name or "student", blend or "blend", Limits(mb, rate)
    _check_name(ws, student)
    record = _teaching(ws, of, student)
    seeds = _seeds(ws, of, record, seed)
    wanted = plan(ws, of, record, seeds)
    found = _found(ws, student, _request(student, of, limits), wanted, force)
    edited = found is not None and found.edited and not force
    settings = ws.model_settings(student) if edited else wanted.settings
    runs = student_runs(student, settings, seeds, _folds(ws))
    needs = Required.by(ws, [d for run in runs for d in run.dependencies()], _folds(ws))
    _check_fresh(ws, of, record, needs, runs, edited, _request(student, of, limits))
    if len(folds_of(ws, record).numbers) < 2:
        raise InputError(
            f"blend '{of}' is of one fold, which compares nothing: train more folds, and run "
            f"{blend_command(of)} again"
        )
    state = ("edited" if edited else "kept") if found is not None and not force else "written"
    measured = _written(ws, student, of, wanted, limits) if state == "written" else []
    trained = _trained(ws, student, seeds, jobs, measured, needs, force)
    made = _compared(ws, student, of, record, timed=bool(trained) or state == "written")
    return Distilled(
        preset=ws.store.name(_path(ws, student)),
        state=state,
        chosen=measured[-1].name if measured else None,
        without_limit=not limits.given,
        teachers=wanted.teachers,
        why_not_distilled=None if edited else wanted.why_not_distilled,
        notes=[] if edited else wanted.notes,
        mb=mb,
        rate=rate,
        measured=measured,
        trained=trained,
        metric=record.metric,
        **made,
    )


# What is refused


def _check_name(ws: Workspace, student: str) -> None:
    """Raise InputError if this cannot be the name of a new preset, or settings for it are given."""
    config.check_name(student, "name")
    if student == "all":
        raise InputError("NAME=all means every model: give the student another name")
    if (config.SHIPPED / f"{student}.yaml").exists():
        raise InputError(f"NAME={student} is a shipped preset: give the student another name")
    if dict(config.listed_models(ws.competition.settings)).get(student):
        raise InputError(
            f"NAME={student}: competition.yaml lists this model with settings of its own: give the "
            "student another name"
        )
    _, of_models = config.split_overrides(ws.given)
    if of_models:
        raise InputError(
            f"distil: '{next(iter(of_models))}' is a model's setting: write it into "
            f"presets/{student}.yaml once that is there, and run `make distil` again"
        )
    if not ws.competition.settings.store.keep_models:
        raise InputError(
            "distil requires fitted models, but store.keep_models is false: set it to true"
        )


def _teaching(ws: Workspace, name: str, student: str) -> BlendRecord:
    """Return the blend's record; raise InputError if it cannot teach this student."""
    if ws.store.read_blend(name) is None:
        raise InputError(f"blend '{name}' does not exist: run {blend_command(name)} first")
    record = read_stored(ws, name)
    for member in record.members:
        _check_teacher(ws, name, member, student, list(record.members))
    return record


def _check_teacher(
    ws: Workspace, blend: str, member: str, student: str, members: list[str]
) -> None:
    """Raise InputError if a blend's member cannot teach this student."""
    others = ",".join(m for m in members if m != member) or "…"
    again = f"{blend_command(blend)[:-1]} MODEL={others}`"
    if member == student:
        raise InputError(
            f"blend '{blend}' contains the student '{student}' itself: run {again} first, or give "
            "another NAME="
        )
    if not ws.has_preset(member):
        raise InputError(
            f"blend '{blend}' contains '{member}', a variant that has no preset, so that the runs which "
            f"teach cannot be trained: write presets/{member}.yaml, or run {again} first"
        )
    if student in _taught_by(ws, member):
        raise InputError(
            f"blend '{blend}' contains '{member}', which '{student}' teaches: run {again} first, or "
            "give another NAME="
        )


def _seeds(ws: Workspace, name: str, record: BlendRecord, given: str | None) -> list[int]:
    """Return the seeds of the student: those given, or all of the blend's, whose runs teach.

    Raises InputError if a member has no run of a seed: with runs of more seeds the blend is another.
    """
    each = [{RunKey.of_name(m, run).seed for run in runs} for m, runs in record.members.items()]
    of_blend = sorted(set.intersection(*each))
    seeds = ws.choose_seeds(given) if given not in (None, "", "all") else of_blend
    other = [seed for seed in seeds if seed not in of_blend]
    if other or not seeds:
        shown = f"seed {', '.join(map(str, of_blend))}" if of_blend else "no seed"
        raise InputError(
            f"a student has seeds of its teachers, and the members of blend '{name}' share {shown}: "
            f"leave SEED= out, or train all with seed {(other or [0])[0]} and run {blend_command(name)} "
            "again"
        )
    return seeds


def _taught_by(ws: Workspace, model: str) -> set[str]:
    """Return every model whose runs enter this one's training, directly or not."""
    found: set[str] = set()
    waiting = [model]
    while waiting:
        name = waiting.pop()
        if name in found or not ws.has_preset(name):
            continue
        found.add(name)
        run = Run(RunKey(name, 0, (0,)), ws.model_settings(name), _folds(ws))
        waiting += [dependency.run.model for dependency in run.dependencies()]
    return found - {model}


def _check_fresh(
    ws: Workspace,
    name: str,
    record: BlendRecord,
    needs: Required,
    runs: list[Run],
    edited: bool,
    request: str,
) -> None:
    """Raise InputError if a run that teaches is stale or unlike the blend's, or the blend is stale.

    Args:
        ws: the workspace.
        name, record: of the blend.
        needs: the runs that teach.
        runs: of the student.
        edited: whether its preset was edited, so that `make distil FORCE=1` would write over that.
        request: the command that asks for this student.
    """
    doubts = Doubts.of(ws)
    if doubts.today is None:
        raise InputError(f"blend '{name}' {doubts.why_not}")
    of_blend = [RunKey.of_name(m, run) for m, each in record.members.items() for run in each]
    blended = {
        key: ws.store.read_run(key) for key in of_blend if key.left_out[0] < _folds(ws).count
    }
    own = {run.key: ws.store.read_run(run.key) for run in runs}
    own = {key: each for key, each in own.items() if each is not None}
    used = {key: each for key, each in blended.items() if each is not None} | needs.finished
    stale = stale_runs(ws, used, needs.without_model)
    blend = f"{blend_command(name)[1:-1]} MODEL={','.join(record.members)}"
    again = request + (" FORCE=1" if own and not edited else "")
    if stale:
        # A pupil is trained after its teachers: in the last command, or by `again`.
        folds = [
            key for key in needs.missing if key.model in record.members and len(key.left_out) == 1
        ]
        first = next(iter(stale.values()))
        commands = train_again([*stale, *folds, *(own if edited else [])])
        raise InputError(
            f"{len(stale)} runs cannot teach today ({shown(stale)}), the first of them {first}: "
            f"run `{' && '.join([*commands, blend, again])}`"
        )
    refuse_unlike(
        ws, needs, {key.model: key for key in reversed(of_blend)}, f" && {blend} && {again}"
    )
    reasons, _ = doubts.of_blend(record)
    if reasons:
        raise InputError(f"blend '{name}' {reasons[0]}: run `{blend} && {again}`")


def _folds(ws: Workspace) -> Folds:
    return ws.store.read_folds(ws.competition.train)


# The preset


def _path(ws: Workspace, student: str) -> Path:
    return ws.root / "presets" / f"{student}.yaml"


def _request(student: str, blend: str, limits: Limits) -> str:
    """Return the command that asks for this student."""
    given = {"NAME": student, "BLEND": blend}
    named = [f"{k}={v}" for k, v in given.items() if v not in ("student", "blend")]
    return " ".join(["make distil", *named, *(f"{k}={v:g}" for k, v in limits.given.items())])


def _found(
    ws: Workspace, student: str, request: str, wanted: Plan, force: bool
) -> StudentPreset | None:
    """Return the student's preset if it stands and is for this request; None if it is to be written.

    Raises:
        InputError: it is another one, or runs of another one are there, and not `force`.
    """
    path = _path(ws, student)
    file, found = ws.store.name(path), StudentPreset.read(path)
    if force:
        return None
    if found is not None:
        if found.request is None:
            raise InputError(
                f"{file} is not by `make distil`: give another NAME=, or FORCE=1 to write over it"
            )
        if found.request == request and (found.edited or found.has(wanted.data)):
            return found
        if found.edited:
            raise InputError(
                f"{file}, by `{found.request}`, was edited since: give another NAME=, or FORCE=1 to "
                "write over it"
            )
    if student in ws.store.models():
        then = "" if found is None else f", by `{found.request}` of {', '.join(found.teachers)}"
        raise InputError(
            f"'{student}' has runs already{then}: give another NAME=, or FORCE=1 to train it again"
        )
    return None


def _written(
    ws: Workspace, student: str, of: str, wanted: Plan, limits: Limits
) -> list[MeasuredStudent]:
    """Choose a candidate and write the student's preset; return what was measured."""
    candidate, measured = choose(ws, wanted, limits)
    data = candidate.data | wanted.data
    size = (
        f"{measured[-1].mb:.3g} MB and {measured[-1].rate:,.0f} rows a second when it was measured"
    )
    notes = [f"The student of blend '{of}', {candidate.name}: {size}."]
    if len(wanted.teachers) > 1:
        weights = "weights that a blend has fitted have seen every label"
        notes.append(f"Its teachers count equally: {weights}.")
    notes += [f"{note}." for note in wanted.notes]
    if wanted.why_not_distilled:
        notes.append(f"It has no `distil`: {wanted.why_not_distilled}.")
    write_preset(_path(ws, student), data, _request(student, of, limits), notes)
    return measured


# Training


def _trained(
    ws: Workspace,
    student: str,
    seeds: list[int],
    jobs: int,
    measured: list[MeasuredStudent],
    needs: Required,
    force: bool,
) -> int:
    """Train the runs that are missing; return their number.

    needs: the runs that teach, for the forecast.
    """
    parts = [
        {"fold": "all", "seed": ",".join(map(str, seeds))},
        {"fold": "full", "seed": str(_of_full_run(ws, student, seeds))},
    ]
    left = [runs_left(ws, student, **part, force=force)[1:] for part in parts]
    own = {run.key: run for first, todo in left for run in [*first, *todo]}
    runs = dict(sorted(needs.missing.items())) | own
    if not runs:
        return 0
    for line in [
        *_choice(student, measured),
        _forecast(ws, list(runs.values()), student, measured),
    ]:
        say(line)
    made = [train_missing(ws, student, **part, force=force, jobs=jobs) for part in parts]
    return sum(len(each.trained) for each in made)


def _of_full_run(ws: Workspace, student: str, seeds: list[int]) -> int:
    """Return the seed of the student's one run on all rows, which an earlier call may have trained."""
    found = [key.seed for key in ws.store.runs(student) if not key.left_out]
    return min(found, default=seeds[0])


def _choice(student: str, measured: list[MeasuredStudent]) -> list[str]:
    """Return the line that names the candidate, if one was chosen now."""
    return [
        f"distil: {student} is {each.name}, {each.mb:.3g} MB and {each.rate:,.0f} rows a second"
        for each in measured[-1:]
    ]


def _forecast(ws: Workspace, runs: list[Run], student: str, measured: list[MeasuredStudent]) -> str:
    """Return the line that names the runs to train, with the time that they will take."""
    seconds, unknown, parts = 0.0, [], []
    for model in dict.fromkeys(run.key.model for run in runs):
        count = sum(run.key.model == model for run in runs)
        each = [record.seconds for record in ws.store.runs(model).values()]
        if not each and model == student and measured:
            each = [measured[-1].fit_seconds]
        if each:
            seconds += count * fmean(each)
        else:
            unknown.append(model)
        parts.append(f"{count} of {model}")
    time = f"about {duration(seconds)} one after the other" if seconds else "time not known yet"
    without = f", not counting {', '.join(unknown)}" if unknown and seconds else ""
    return f"distil: {len(runs)} runs to train, {', '.join(parts)}: {time}{without}"


# Beside the blend


def _compared(
    ws: Workspace, student: str, name: str, record: BlendRecord, *, timed: bool = True
) -> dict[str, DistilledSide | DifferenceRecord]:
    """Return both sides and their difference, on the rows of the blend.

    timed: whether their speed is measured.
    """
    folds, competition = folds_of(ws, record), ws.competition
    model = read_model(ws, student, folds)
    members = members_of(ws, [model], folds)
    settings, wants = competition.settings.blend, competition.submission.wants_labels
    given = (members, 0, competition.metric, wants, settings.seed, settings.rules)
    nested, _ = ensemble.single_estimate(*given)
    metric, predictions = ensemble.single_predictions(*given)
    difference = ensemble.paired_difference(
        metric,
        members.targets,
        [predictions],
        [_of_blend(ws, name, record)],
        members.groups,
        settings.seed,
        _variance_ratio(ws, members, name, record, folds),
    )
    # What the blend's nested score is corrected by; predictions do not show it.
    taken_off = record.correction.optimism if record.correction else 0.0
    of_blend = [RunKey.of_name(m, run) for m, runs in record.members.items() for run in runs]
    marks = {"student": model.optimistic, "blend": Doubts.of(ws).of_blend(record)[1]}
    return {
        "student": DistilledSide(
            name=student,
            nested=EstimateRecord.from_dataclass(nested),
            optimistic=marks["student"],
            **_size(ws, list(full_runs(ws, student)), timed),
        ),
        "blend": DistilledSide(
            name=name, nested=record.nested, optimistic=marks["blend"], **_size(ws, of_blend, timed)
        ),
        "better_by": DifferenceRecord(
            difference=difference.difference + taken_off,
            low=difference.low + taken_off,
            high=difference.high + taken_off,
        ),
    }


def _of_blend(ws: Workspace, name: str, record: BlendRecord) -> np.ndarray:
    """Return the blend's (n, outputs) nested predictions."""
    path = ws.store.blend_file(name, record, "nested.parquet")
    if path is None:
        raise InputError(
            f"blend '{name}' has no nested predictions, as those of older versions: run "
            f"{blend_command(name)} again"
        )
    return read_parquet(path)[1].raw.astype(float)


def _variance_ratio(
    ws: Workspace, student: Members, name: str, record: BlendRecord, folds: Folds
) -> float:
    """Return by how much shared training rows raise the rows' variance of the difference."""
    if student.runs is None or not student.runs.share_labels:
        return 1.0
    models = [read_model(ws, member, folds) for member in record.members]
    text = record.features is not None and bool(record.features.text)
    taught_by = members_of(ws, models, folds, text)
    fitted = Predictor.of_blend(ws, name).fitted
    return difference_variance_ratio(
        _ranks([student.run_inputs(k).probabilities[:, 0] for k in range(len(folds.by_split[0]))]),
        _ranks(_of_runs(taught_by, fitted, len(folds.by_split[0]))),
    )


def _of_runs(members: Members, fitted: Fitted, folds: int) -> list[np.ndarray]:
    """Return what the runs of each fold predict for some test rows, blended."""
    return [fitted.predict(members.run_inputs(k)) for k in range(folds)]


def _ranks(by_fold: list[np.ndarray]) -> np.ndarray:
    return np.stack([within_run_ranks(each) for each in by_fold])


def _size(ws: Workspace, keys: list[RunKey], timed: bool) -> dict[str, float | None]:
    """Return number, megabytes and, if `timed`, rows per second of runs that predict together."""
    sizes = [size_of(model_folder(ws, key, ws.store.read_run(key))) for key in keys]
    found = {"runs": len(keys), "mb": sum(sizes) / 1e6, "rate": None}
    if timed:
        train = ws.competition.train  # any texts show the speed, and a test file may be a few rows
        rows, one_of_each = train.take(tried(len(train))), {k.model: k for k in keys}
        per_row = {model: times_of(ws, key, rows)[1] for model, key in one_of_each.items()}
        found["rate"] = 1 / sum(per_row[key.model] for key in keys)
    return found
