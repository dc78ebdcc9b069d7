"""Stage: a trained network in the form of other tools, with a model card."""

from __future__ import annotations

import json
from pathlib import Path

from foldstack.ensemble import default_rule
from foldstack.errors import InputError
from foldstack.files import write_text
from foldstack.records import BlendRecord, Exported, ExportedFolder, ExportRecord, RunRecord
from foldstack.rows import evenly
from foldstack.stages.blend import make_blend
from foldstack.stages.dependencies import Doubts
from foldstack.stages.fitted import load_learner, threads_to_predict
from foldstack.stages.model_card import model_card
from foldstack.store import RunKey
from foldstack.techniques import LearnerSettings
from foldstack.workspace import Workspace

FORMS = ("transformers", "openvino")
CHECKED = 32  # training rows on which an export is compared with its learner


def export(
    ws: Workspace,
    *,
    model: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
    out: str | None = None,
    form: str | None = None,
) -> Exported:
    """Write a model's runs as folders for `transformers.pipeline` or for OpenVINO.

    Args:
        ws: the workspace.
        model: the model.
        fold: 'full' (default), folds, or 'all' for the runs of every fold.
        seed: of the runs; None for the first of competition.yaml.
        out: the folder to write; None for one in exports/. With several runs, their parent.
        form: 'transformers' (default) or 'openvino'.

    Returns:
        The folders and their records.

    Raises:
        InputError: a run is missing, its network has no such form, or the folder is a user's.
    """
    if not model:
        raise InputError("export takes the model: add MODEL=, as `make export MODEL=minilm`")
    form = form or FORMS[0]
    if form not in FORMS:
        raise InputError(f"FORM={form} is not known: give FORM=transformers or FORM=openvino")
    name = ws.choose_model(model, "export")
    runs = {key: _run(ws, key) for key in _keys(ws, name, fold, seed)}
    places = _places(ws, list(runs), out, form)
    for place in places.values():
        ws.store.refuse_foreign_export(place)
    estimate = _estimate(ws, name)
    return Exported(
        folders=[
            _export(ws, key, runs[key], estimate, place, form) for key, place in places.items()
        ]
    )


def _keys(ws: Workspace, name: str, fold: str | None, seed: str | None) -> list[RunKey]:
    seeds = ws.choose_seeds(seed) if seed else ws.choose_seeds(None)[:1]
    folds = ws.store.read_folds(ws.competition.train)
    return [
        RunKey(name, number, left_out)
        for number in seeds
        for left_out in ws.choose_runs(fold or "full", folds)
    ]


def _run(ws: Workspace, key: RunKey) -> RunRecord:
    """Return the record of a run of a transformer; raise InputError if there is none."""
    run = ws.store.read_run(key)
    if run is None:
        there = sorted({each.run.removeprefix("fold") for each in ws.store.run_keys(key.model)})
        command = f"{ws.store.train_command(key.model)} FOLD={key.run.removeprefix('fold')}"
        known = f", or add FOLD= with one of its runs, {', '.join(there)}" if there else ""
        raise InputError(f"there is no run {key}: run `{command}`{known}")
    learner = run.identity.settings["learner"]
    if not LearnerSettings.registered[learner].traits.int8:
        raise InputError(
            f"export takes a transformer, and '{key.model}' is a {learner}: `make predict MODEL="
            f"{key.model}` predicts new texts with it"
        )
    return run


def _places(ws: Workspace, keys: list[RunKey], out: str | None, form: str) -> dict[RunKey, Path]:
    if out is None:
        return {key: ws.store.export_dir(key, form) for key in keys}
    if len(keys) == 1:
        return {keys[0]: Path(out)}
    return {key: Path(out) / f"seed{key.seed}-{key.run}" for key in keys}


def _estimate(ws: Workspace, name: str) -> BlendRecord | None:
    """Return the model's estimate on out-of-fold rows; None if it has no fold run."""
    if not any(len(key.left_out) == 1 for key in ws.store.run_keys(name)):
        return None
    return make_blend(ws, [name], methods=(), quiet=True, command="make export").record


def _export(
    ws: Workspace,
    key: RunKey,
    run: RunRecord,
    estimate: BlendRecord | None,
    place: Path,
    form: str,
) -> ExportedFolder:
    """Write one run's folder.

    Args:
        ws: the workspace.
        key: the run.
        run: its record.
        estimate: the model's, if it has one.
        place: the folder.
        form: 'transformers' or 'openvino'.
    """
    from foldstack.learners.hub_form import LARGEST, HubForm, largest_difference

    competition = ws.competition
    learner = load_learner(ws, key, threads_to_predict(ws))
    network = HubForm.of(learner, competition.kind, competition.labels)
    with ws.store.exporting(place) as folder:
        network.write(folder, form)
        rows = network.read_whole(competition.train)
        rows = rows.take(evenly(len(rows), CHECKED))
        expected = network.expected(rows)
        differs = largest_difference(expected, network.found(rows, folder, form), competition.kind)
        if not differs <= LARGEST:
            raise InputError(
                f"{key}: the exported network differs from the trained one by up to {differs:.2g} on "
                f"{len(rows)} training rows, more than {LARGEST:g}: nothing is written; FORM="
                f"{FORMS[form == FORMS[0]]} may hold it"
            )
        stale, optimistic = _marks(ws, run, estimate)
        record = ExportRecord(
            model=key.model,
            run=f"seed{key.seed}/{key.run}",
            form=form,
            head=network.first.settings.head.name,
            backbone=network.first.model.backbone.config.model_type,
            problem_type=network.problem,
            labels=list(competition.labels),
            max_length=network.first.encoder.max_length,
            metric=competition.metric.name,
            estimate=estimate and estimate.nested,
            held_out=run.score,
            optimistic=optimistic,
            stale=stale,
            notes=_notes(ws, key, network.first.settings, estimate),
            checked_rows=len(rows),
            largest_difference=differs,
        )
        write_text(folder / "thresholds.json", _thresholds(ws, estimate))
        write_text(folder / "README.md", model_card(ws, record, run))
        record = ws.store.write_export(folder, record)
    return ExportedFolder(folder=ws.store.name(place), export=record)


def _marks(
    ws: Workspace, run: RunRecord, estimate: BlendRecord | None
) -> tuple[list[str], list[str]]:
    """Return why the run or its estimate is stale, and every reason why it is optimistic."""
    doubts = Doubts.of(ws)
    stale, optimistic = doubts.of_run(run)
    if estimate is not None:
        more = doubts.of_blend(estimate)
        stale, optimistic = [*stale, *more[0]], [*optimistic, *more[1]]
    return list(dict.fromkeys(stale)), list(dict.fromkeys(optimistic))


def _notes(
    ws: Workspace, key: RunKey, settings: LearnerSettings, estimate: BlendRecord | None
) -> list[str]:
    """Return sentences on what the folder does otherwise than the workspace."""
    notes = []
    if estimate is None:
        notes.append("there are no fold runs of this model, so nothing estimates its score")
    elif not key.left_out:
        notes.append("the estimate is of the fold runs; these weights come from a run on all rows")
    else:
        notes.append("the estimate is of all fold runs together; these weights are one of them")
    if not settings.long.cuts_end:
        notes.append(
            f"a text of more tokens is cut at its end here; the model was trained to read it by `long: "
            f"{settings.long.name}`"
        )
    if ws.patterns is not None:
        notes.append("rules of patterns.yaml are not part of the network")
    return notes


def _thresholds(ws: Workspace, estimate: BlendRecord | None) -> str:
    """Return the decision rule as JSON: the fitted one, or the default without one."""
    competition = ws.competition
    value = {
        "kind": str(competition.kind),
        "metric": competition.metric.name,
        "labels": list(competition.labels),
        "outputs": list(competition.outputs),
    }
    fitted = estimate and estimate.rule
    if fitted:
        rule = fitted.to_json()
    elif competition.kind.is_values:
        rule = None
    else:
        rule = default_rule(competition.kind, len(competition.outputs)).to_json()
    value |= {"fitted_on": "out-of-fold rows" if fitted else None, "rule": rule}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
