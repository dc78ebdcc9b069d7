"""Stage: a submission and its record in submissions/."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
import pandas as pd

from foldstack import config
from foldstack.ensemble import Rule, default_rule
from foldstack.errors import InputError
from foldstack.links import to_probabilities
from foldstack.records import BlendRecord, SubmissionRecord, Submitted, name_folds
from foldstack.stages.blend import blend_command, make_blend, read_stored
from foldstack.stages.dependencies import files_of_members, reasons_of_rows
from foldstack.stages.means import over_runs
from foldstack.stages.oof import full_runs, read_model
from foldstack.stages.patterned import (
    OutOfFold,
    describe,
    fitted_patterns,
    judge,
    rates,
    require_probabilities,
)
from foldstack.stages.shared import folds_of, shared_folds
from foldstack.store import parquet_meta, read_parquet
from foldstack.workspace import Workspace


def submit(
    ws: Workspace, *, model: str | None = None, fold: str | None = None, name: str | None = None
) -> Submitted:
    """Write submissions/<name>.csv and .json of a blend, or of a single model.

    Args:
        ws: the workspace.
        model: submit the mean over this model's fold runs instead of a blend.
        fold: 'full' for the model's runs on all rows, with the estimate of the fold runs.
        name: the submission and the blend; None for the model or `blend`.

    Returns:
        The path and the record.

    Raises:
        InputError: a run is missing or stale, or the CSV is not one of `submit`.
    """
    if fold not in (None, "", "all", "full"):
        raise InputError(
            f"submit takes FOLD=full or none, not '{fold}': a submission is the mean "
            "over all trained folds, or the full runs'"
        )
    names = ws.choose_models(model) if model else []
    if len(names) > 1:
        _refuse_other_members(ws, names, name or "blend")
        model = None
    if model:
        chosen = ws.choose_model(model, "submit")
        name = config.check_name(name or chosen, "name")
        made = make_blend(ws, [chosen], methods=(), quiet=True, command="make submit")
        values, oof = made.result.test, OutOfFold.of_made(made)
        record = _record(ws, made.record)
        if fold == "full":
            values, record = _full(ws, chosen, record)
        elif other := _blend_of_it(ws, chosen, record):
            record = record.model_copy(update={"note": other})
    elif fold == "full":
        raise InputError("FOLD=full submits one model's full runs: add MODEL=")
    elif _is_of_other_rows(ws, config.check_name(name or "blend", "name")):
        return _of_new_test(ws, name or "blend")
    else:
        name = name or "blend"
        values, stored = stored_blend(ws, name)
        oof = None if ws.patterns is None else OutOfFold.of_blend(ws, name, stored)
        record = _record(ws, stored)
    rule = Rule.from_json(record.rule.to_json()) if record.rule else None
    decisions = None if rule is None else rule.apply(values)
    if ws.patterns is not None:
        values, decisions, record = _patterned(ws, name, oof, record, values, decisions)
    return _write(ws, name, values if decisions is None else decisions, record)


def _blend_of_it(ws: Workspace, model: str, record: SubmissionRecord) -> str | None:
    """Return a sentence if the stored blend is of this model alone and chose more than its mean."""
    blend = ws.store.blends().get("blend")
    if blend is None or list(blend.members) != [model] or blend.winner == record.winner:
        return None
    return (
        f"blend 'blend' of this model alone chose {blend.winner}, nested {blend.metric} "
        f"{blend.nested.score:.4f}: `make submit` without MODEL= submits that"
    )


def _refuse_other_members(ws: Workspace, models: list[str], name: str) -> None:
    """Raise InputError unless the blend of this name was made of these models."""
    members = list(read_stored(ws, name).members)
    if set(members) != set(models):
        raise InputError(
            f"MODEL={','.join(models)} are not the models of blend '{name}', {', '.join(members)}: run "
            f"`make blend submit MODEL={','.join(models)}`, or name one model"
        )


def _record(ws: Workspace, blend: BlendRecord) -> SubmissionRecord:
    competition = ws.competition
    return SubmissionRecord.of(blend, competition.submission.holds, len(competition.test))


def _is_of_other_rows(ws: Workspace, name: str) -> bool:
    """Return whether the test file has other rows than the blend was made for."""
    path = ws.store.blend_file(name, read_stored(ws, name), "test.parquet")
    return ws.patterns is None and parquet_meta(path)["rows"] != ws.competition.test.hash()


def _of_new_test(ws: Workspace, name: str) -> Submitted:
    """Submit a blend for a new test file, as a code competition has one, by the stored models."""
    from foldstack.stages.predictor import Predictor

    record, predictor = read_stored(ws, name), Predictor.of_blend(ws, name)
    if predictor.stale:
        raise InputError(f"blend '{name}' {predictor.stale[0]}: run {blend_command(name)} again")
    values = predictor.outcome(ws.competition.test).submitted(ws.competition.submission)
    return _write(ws, name, values, of_other_rows(ws, record, len(ws.competition.test)))


def of_other_rows(ws: Workspace, blend: BlendRecord, rows: int) -> SubmissionRecord:
    """Return the record of a submission for another test file than the blend was made for."""
    note = "the test file is another than the blend was made for: its stored models predicted it"
    of_rows = reasons_of_rows(ws, files_of_members(ws, blend.members))
    optimistic = list(dict.fromkeys([*of_rows, *blend.optimistic]))
    if ws.patterns is not None:
        note += f"; the estimate is that of the blend without {ws.patterns.file}"
    changes = {"note": note, "positives": {}, "drift": None, "optimistic": optimistic}
    made = SubmissionRecord.of(blend, ws.competition.submission.holds, rows)
    return made.model_copy(update=changes)


def stored_blend(ws: Workspace, name: str) -> tuple[np.ndarray, BlendRecord]:
    """Return a blend's test predictions and record; raise InputError if its runs or data changed."""
    record = read_stored(ws, name)
    folds = folds_of(ws, record)
    for member, runs in record.members.items():
        if read_model(ws, member, folds).runs != runs:
            raise InputError(
                f"blend '{name}' was made from other runs of '{member}' than exist now: "
                f"run {blend_command(name)} again"
            )
    shared = shared_folds(ws, list(record.members), ws.store.read_folds(ws.competition.train))
    if shared.numbers != folds.numbers:
        raise InputError(
            f"blend '{name}' was made of {name_folds(folds.numbers)}, but its models have runs of "
            f"{name_folds(shared.numbers)} now: run {blend_command(name)} again"
        )
    _, predictions, meta = read_parquet(ws.store.blend_file(name, record, "test.parquet"))
    if meta["rows"] != ws.competition.test.hash():
        raise InputError(
            f"blend '{name}' was made for another test file: run {blend_command(name)} again"
        )
    train, test = ws.competition.train, ws.competition.test
    if record.hashes.features != [train.features_hash(), test.features_hash()]:
        raise InputError(
            f"blend '{name}' was made with other feature columns: run {blend_command(name)} again"
        )
    of_rows = reasons_of_rows(ws, files_of_members(ws, record.members))
    optimistic = list(dict.fromkeys([*of_rows, *record.optimistic]))
    return predictions.raw, record.model_copy(update={"optimistic": optimistic})


def _full(
    ws: Workspace, name: str, record: SubmissionRecord
) -> tuple[np.ndarray, SubmissionRecord]:
    """Return the mean over the seeds' full runs, with the estimate of the fold runs.

    That of the mean over fold runs is dropped: a run on all rows is no such mean.
    """
    found, test = full_runs(ws, name), ws.competition.test
    read = {key: ws.store.read_predictions(key, "test", test, run) for key, run in found.items()}
    values = over_runs({key: to_probabilities(p.raw, p.link) for key, p in read.items()})
    runs = {f"seed{k.seed}/{k.run}": ws.store.content(k, "test") for k in found}
    over_seeds = f"of {ws.competition.kind.predicted} over seeds" if len(found) > 1 else ""
    came = "come from runs" if len(found) > 1 else "come from one run"
    note = f"the estimate is of the fold runs; these predictions {came} on all rows"
    changes = {
        "members": {name: runs},
        "test_mean": over_seeds,
        "submitted": None,
        "temperatures": {},
        "note": note,
    }
    return values, record.model_copy(update=changes)


def _patterned(
    ws: Workspace,
    name: str,
    oof: OutOfFold,
    record: SubmissionRecord,
    values: np.ndarray,
    decisions: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None, SubmissionRecord]:
    """Return test predictions and decisions with the patterns applied, and their record.

    Args:
        name: the submission.
        oof: the out-of-fold predictions, which the patterns are evaluated on.
        record: the record without patterns.
        values: (t, outputs) predictions.
        decisions: (t, outputs) of 0/1; None if probabilities are submitted.

    Raises:
        InputError: ranks were averaged, which have no confidence.
    """
    competition = ws.competition
    require_probabilities(oof.record, name)
    judged = judge(ws, oof)
    applied = fitted_patterns(ws).apply(competition.test.texts, values.astype(float))
    plain = default_rule(competition.kind, len(competition.outputs))
    decided = applied.decide(plain.apply(values) if decisions is None else decisions)
    changes = describe(ws, oof, judged, applied).changes()
    changes["positives"] = rates(ws, oof, judged, decided)
    decisions = None if decisions is None else decided
    return applied.probabilities, decisions, record.model_copy(update=changes)


def _other_format(sample: str) -> str | None:
    """Return the format of the sample's file if it is not CSV; a packed file's is not known."""
    formats = {".tsv": "TSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON"}
    formats[".parquet"] = "Parquet"
    suffixes = PurePath(sample.lower()).suffixes
    return next((formats[suffix] for suffix in suffixes[::-1] if suffix in formats), None)


def _write(ws: Workspace, name: str, values: np.ndarray, record: SubmissionRecord) -> Submitted:
    table = ws.competition.submission.fill(ws.competition.test.ids, values)
    return written(ws, name, table, record)


def written(ws: Workspace, name: str, table: pd.DataFrame, record: SubmissionRecord) -> Submitted:
    """Write a submission and its record; return what was written."""
    competition = ws.competition
    ws.refuse_named(ws.store.submission_path(name))
    path = ws.store.write_submission(name, table, record, competition.submission_form)
    return Submitted(
        name=name,
        file=ws.store.name(path),
        submission=record,
        metric_confirmed=ws.competition.settings.metric_confirmed,
        sample_format=_other_format(competition.settings.files.sample),
    )
