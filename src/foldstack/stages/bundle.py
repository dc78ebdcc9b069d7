"""Stage: a stored blend as a folder that predicts without network, workspace and training rows."""

from __future__ import annotations

import numpy as np

from foldstack import config
from foldstack.bundle.infer import order
from foldstack.bundle.making import Making, bundled
from foldstack.bundle.manifest import BundledRun
from foldstack.bundle.weights import FORMS
from foldstack.errors import InputError
from foldstack.files import size_of
from foldstack.progress import Progress
from foldstack.records import BlendRecord, BundleResult, EstimateRecord
from foldstack.rows import Rows
from foldstack.stages.blend import blend, blend_command, read_stored
from foldstack.stages.fitted import times_of, tried
from foldstack.stages.patterned import OutOfFold, judge, nested_estimate
from foldstack.stages.predictor import Predictor
from foldstack.store import RunKey
from foldstack.workspace import Workspace


def bundle(
    ws: Workspace,
    *,
    name: str | None = None,
    weights: str = "fp32",
    time_limit: float | None = None,
    rows: int | None = None,
) -> BundleResult:
    """Write bundle/NAME and bundle/NAME.zip, and try the bundle on some test rows.

    Args:
        ws: the workspace.
        name: the blend; None for `blend`.
        weights: of transformers, `fp32`, `fp16` or `int8`.
        time_limit: minutes for `rows` rows: the least valuable models are dropped until the forecast
            fits, and the blend of the others is made and stored as NAME-short.
        rows: of the test file that the forecast is for; None for as many as the test file has.

    Returns:
        Size, forecast, and how far the predictions are from those of `submit`.

    Raises:
        InputError: there is no such blend, it is stale, or no model fits the limit.
    """
    if weights not in FORMS:
        raise InputError(f"WEIGHTS={weights} is not known: choose among {', '.join(FORMS)}")
    chosen = config.check_name(name or "blend", "name")
    record = _fresh(ws, chosen)
    at = tried(len(ws.competition.test))
    timed = _timed(ws, record, ws.competition.test.take(at))
    rows, dropped = rows or len(ws.competition.test), []
    value = _values(ws, record)
    if time_limit is not None:
        dropped = _too_slow(value, timed, 60 * time_limit, rows)
    if dropped:
        chosen, record = _shorter(ws, chosen, record, dropped)
        timed, value = [r for r in timed if r.model in record.members], _values(ws, record)
    made = Making(ws, chosen, record, order(timed, value), weights, time_limit)
    place = ws.store.write_bundle(chosen, lambda folder: made.fill(folder, at))
    packed = ws.store.bundle_zip(chosen)
    return BundleResult(
        name=chosen,
        folder=ws.store.name(place),
        packed=ws.store.name(packed),
        mb=size_of(place) / 1e6,
        packed_mb=size_of(packed) / 1e6,
        weights=weights,
        runs=len(timed),
        rows=rows,
        minutes=made.manifest.seconds(rows) / 60,
        peak_mb=made.manifest.peak_mb,
        threads=made.manifest.threads,
        tried=len(at),
        largest_difference=made.largest_difference,
        other_decisions=made.other_decisions,
        dropped=dropped,
        metric=record.metric,
        nested=_nested(ws, chosen, record),
    )


def _fresh(ws: Workspace, name: str) -> BlendRecord:
    """Return the record of a blend; raise InputError if it is stale."""
    record, stale = read_stored(ws, name), Predictor.of_blend(ws, name).stale
    if stale:
        raise InputError(f"blend '{name}' {stale[0]}: run {blend_command(name)} again")
    return record


def _nested(ws: Workspace, name: str, record: BlendRecord) -> EstimateRecord:
    """Return the nested estimate of a blend, with the patterns if there are any."""
    if ws.patterns is None:
        return record.nested
    oof = OutOfFold.of_blend(ws, name, record)
    return nested_estimate(oof, judge(ws, oof))


# Times


def _timed(ws: Workspace, record: BlendRecord, rows: Rows) -> list[BundledRun]:
    """Return the runs of a blend with the times that they take here to load and to predict a row.

    Runs of one model are alike: one of each is measured.
    """
    made, per_model = [], {}
    names = [RunKey.of_name(model, run) for model, runs in record.members.items() for run in runs]
    with Progress("measuring the models", len(record.members), "models") as progress:
        for key in names:
            if key.model not in per_model:
                per_model[key.model] = times_of(ws, key, rows)
                progress.add(1)
            load, row = per_model[key.model]
            times = {"load_seconds": load, "row_seconds": row}
            made.append(bundled(ws, key).model_copy(update=times))
    return made


def _too_slow(
    value: dict[str, float], timed: list[BundledRun], limit: float, rows: int
) -> list[str]:
    """Return the models to drop so that the others predict in time, the least valuable first."""
    seconds = {m: sum(r.seconds(rows) for r in timed if r.model == m) for m in value}
    left, dropped = list(value), []
    while sum(seconds[m] for m in left) > limit and len(left) > 1:
        dropped.append(min(left, key=lambda m: (value[m], -seconds[m])))
        left.remove(dropped[-1])
    if (total := sum(seconds[m] for m in left)) > limit:
        raise InputError(
            f"{left[0]} alone takes about {total / 60:.1f} minutes for {rows:,} rows, which "
            f"TIME_LIMIT={limit / 60:g} does not allow: give more, or bundle a blend of quicker models"
        )
    return dropped


def _values(ws: Workspace, record: BlendRecord) -> dict[str, float]:
    """Return each model's weight in the blend; without weights of models, its own nested score."""
    weights = record.parameters.get("weights")
    if weights:
        return {model: float(np.mean(weights[model])) for model in record.members}
    sign = ws.competition.metric.sign
    return {model: sign * record.models[model].nested.score for model in record.members}


def _shorter(
    ws: Workspace, name: str, record: BlendRecord, dropped: list[str]
) -> tuple[str, BlendRecord]:
    """Make the blend without some models; return its name and record."""
    left, short = [m for m in record.members if m not in dropped], f"{name}-short"
    blend(ws, model=",".join(left), name=short)
    return short, read_stored(ws, short)
