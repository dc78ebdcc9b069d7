"""Stage: submissions/."""

from __future__ import annotations

import dataclasses

import numpy as np

from foldstack import config
from foldstack.ensemble import Rule, default_rule
from foldstack.errors import InputError
from foldstack.links import to_probabilities
from foldstack.progress import say
from foldstack.stages.blend import (
    VALUES,
    Blend,
    blend_command,
    interval,
    make_blend,
    read_stored,
    say_positives,
)
from foldstack.stages.dependencies import external_reasons, say_marks
from foldstack.stages.oof import check_alike, read_model
from foldstack.stages.patterned import (
    OutOfFold,
    apply_to_new,
    decided_by,
    describe,
    judge,
    rates,
    require_probabilities,
    say_patterns,
)
from foldstack.store import read_parquet
from foldstack.workspace import Workspace


def submit(
    ws: Workspace, *, model: str | None = None, fold: str | None = None, name: str | None = None
) -> None:
    """Write submissions/<name>.csv and .json: of a blend, or of one model alone.

    model: submit this model, by the mean over its fold runs, or with fold='full' by its runs
    that learned from everything (the estimate is then the fold runs').
    """
    if fold not in (None, "", "all", "full"):
        raise InputError(
            f"submit takes FOLD=full or none, not '{fold}': a submission is the mean "
            "over all folds, or the full runs'"
        )
    if model:
        chosen = ws.choose_model(model, "submit")
        name = config.check_name(name or chosen, "name")
        made = make_blend(ws, [chosen], methods=(), quiet=True)
        values, info = made.result.test, made.info
        if fold == "full":
            values, info = _full(ws, chosen, made)
        oof = dataclasses.replace(OutOfFold.of_made(made), info=info)
    elif fold == "full":
        raise InputError("FOLD=full submits one model's full runs: add MODEL=")
    else:
        name = config.check_name(name or "blend", "name")
        values, info = stored_blend(ws, name)
        oof = None if ws.patterns is None else OutOfFold.of_blend(ws, name, info)
    rule = Rule.from_json(info["rule"]) if info["rule"] else None
    decisions = None if rule is None else rule.apply(values)
    if ws.patterns is not None:
        values, decisions, info = _patterned(ws, name, oof, values, decisions)
    _write(ws, name, values if decisions is None else decisions, info)


def stored_blend(ws: Workspace, name: str) -> tuple[np.ndarray, dict]:
    """A blend's test predictions, if the runs it was made from are still today's."""
    info = read_stored(ws, name)
    folds = ws.store.read_folds(ws.competition.train)
    for member, runs in info["members"].items():
        if read_model(ws, member, folds).runs != runs:
            raise InputError(
                f"blend '{name}' was made from other runs of '{member}' than are there "
                f"now: run {blend_command(name)} again"
            )
    _, predictions, meta = read_parquet(ws.store.blend_file(name, info, "test.parquet"))
    if meta["rows"] != ws.competition.test.hash():
        raise InputError(
            f"blend '{name}' was made for another test file: run {blend_command(name)} again"
        )
    train, test = ws.competition.train, ws.competition.test
    if info["hashes"]["features"] != [train.features_hash(), test.features_hash()]:
        raise InputError(
            f"blend '{name}' was made with other feature columns: run {blend_command(name)} again"
        )
    return predictions.raw, info | {
        "optimistic": list(dict.fromkeys([*external_reasons(ws), *info["optimistic"]]))
    }


def _full(ws: Workspace, name: str, made: Blend) -> tuple[np.ndarray, dict]:
    """The mean over the seeds' full runs, beside the fold runs' estimate."""
    runs = {key: run for key, run in ws.store.runs(name).items() if len(key.left_out) < 2}
    keys = [key for key in runs if not key.left_out]
    if not keys:
        command = f"`{ws.store.train_command(name)} FOLD=full`"
        raise InputError(f"model '{name}' has no full run: run {command}")
    check_alike(ws, runs)
    test = ws.competition.test
    read = [ws.store.read_predictions(key, "test", test) for key in keys]
    values = np.mean([to_probabilities(p.raw, p.link) for p in read], axis=0)
    runs = {f"seed{k.seed}/{k.run}": ws.store.content(k, "test") for k in keys}
    note = "the estimate is of the fold runs; these predictions come from runs on all rows"
    return values, made.info | {
        "members": {name: runs},
        "test_mean": f"of {VALUES.get(ws.competition.kind, 'probabilities')} over seeds",
        "sharpness": {},
        "note": note,
    }


def _patterned(
    ws: Workspace, name: str, oof: OutOfFold, values: np.ndarray, decisions: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, dict]:
    """Test predictions and decisions (t, outputs) with the patterns over them, and all to be said."""
    competition = ws.competition
    require_probabilities(oof.info, name)
    judged = judge(ws, oof)
    applied = apply_to_new(ws, competition.test, values.astype(float))
    plain = default_rule(competition.kind, len(competition.outputs))
    decided = applied.decide(plain.apply(values) if decisions is None else decisions)
    info = describe(ws, oof, judged)
    info["positives"] = rates(ws, oof, judged, decided)
    info["patterns"]["test"] = decided_by(judged.patterns, applied)
    say_patterns("submit", info["patterns"], len(competition.test))
    return applied.probabilities, None if decisions is None else decided, info


def _write(ws: Workspace, name: str, values: np.ndarray, info: dict) -> None:
    competition = ws.competition
    ws.refuse_named(ws.store.submission_path(name))
    table = competition.submission.fill(competition.test.ids, values)
    what = "labels" if competition.submission.wants_labels else "probabilities"
    if competition.kind == "regression":
        what = "values"
    path = ws.store.write_submission(
        name, table, info | {"holds": what, "rows": len(table)}, competition.settings.encoding
    )
    marked = " (OPTIMISTIC)" if info["optimistic"] else ""
    say(
        f"submit: {ws.store.name(path)}, {len(table):,} rows of {what} from {info['winner']}, nested "
        f"{info['metric']} {interval(info['nested'])}{marked}; test predictions are means "
        f"{info['test_mean']}"
    )
    say_marks(name, [], info["optimistic"])
    if "note" in info:
        say(f"submit: {info['note']}")
    say_positives(name, info)
