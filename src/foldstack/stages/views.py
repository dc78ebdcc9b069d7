"""Stage: scores on parts of the out-of-fold rows."""

from __future__ import annotations

import numpy as np

from foldstack import ensemble
from foldstack.defined import scored_by
from foldstack.ensemble.slices import (
    Scored,
    Slice,
    all_rows,
    column_slices,
    duplicates_once,
    label_slices,
    length_slices,
    score_slices,
)
from foldstack.errors import InputError
from foldstack.metrics import Metric
from foldstack.records import BlendRecord, Marks, SliceRow, ViewsRecord
from foldstack.rows import Rows, duplicate_groups
from foldstack.stages.blend import blend_command, make_blend, read_stored
from foldstack.stages.dependencies import Doubts
from foldstack.stages.shared import folds_of
from foldstack.store import Folds, read_parquet
from foldstack.workspace import Workspace


def views(
    ws: Workspace, *, model: str | None = None, name: str | None = None, tail: int = 10
) -> ViewsRecord:
    """Score a blend, or a single model, on parts of the out-of-fold rows; write views.csv.

    Args:
        ws: the workspace.
        model: score this model instead of the blend `name`.
        name: the blend; None for `blend`.
        tail: labels with fewer rows form the tail.

    Returns:
        One row per part.

    Raises:
        InputError: both are named, there is no such blend or model, or it is for other rows.
    """
    if model and name:
        raise InputError("views takes MODEL= or the blend's NAME=, not both")
    if model:
        shown = ws.choose_model(model, "views")
        made = make_blend(ws, [shown], methods=(), quiet=True, command="make views")
        blend, marks = made.record, ([], made.record.optimistic)
    else:
        shown = name or "blend"
        blend = read_stored(ws, shown)
        marks = Doubts.of(ws).of_blend(blend)
    folds = folds_of(ws, blend)
    rows = ws.competition.scored_rows(folds.scored)
    predictions = made.result.nested_predictions if model else _of_blend(ws, shown, blend, rows)
    by_folds = scored_by(ws.competition, folds)
    scored = _scored(ws, by_folds.metric, rows, predictions)
    asked = _slices(ws, scored, rows, folds, tail)
    found = score_slices(scored, asked, seed=ws.competition.settings.blend.seed)
    path = ws.store.views_path(shown, of_model=bool(model))
    record = ViewsRecord(
        metric=ws.competition.metric.name,
        file=ws.store.name(path),
        folds=blend.folds,
        rows=[SliceRow.from_dataclass(each) for each in found],
        marks=Marks(name=shown, stale=marks[0], optimistic=marks[1]),
        undefined=by_folds.undefined,
    )
    ws.store.write_views(shown, record.frame.to_csv(index=False), of_model=bool(model))
    return record


def _of_blend(ws: Workspace, name: str, record: BlendRecord, rows: Rows) -> np.ndarray:
    """Return a stored blend's nested predictions, which are decisions if labels are submitted."""
    again = f"run {blend_command(name)} again"
    path = ws.store.blend_file(name, record, "nested.parquet")
    if path is None:
        raise InputError(f"blend '{name}' is of a version without views: {again}")
    _, predictions, meta = read_parquet(path)
    if meta["rows"] != rows.hash():
        raise InputError(f"blend '{name}' was made for other training rows or folds: {again}")
    return predictions.raw.astype(float)


def _scored(ws: Workspace, metric: Metric, rows: Rows, predictions: np.ndarray) -> Scored:
    competition, targets = ws.competition, rows.targets
    if metric.wants == "labels":  # decisions do not change
        rule = ensemble.default_rule(competition.kind, targets.shape[1], metric.levels)
        predictions = rule.apply(predictions)
    labels = competition.labels
    return Scored(metric, competition.kind, labels, targets, predictions, rows.groups)


def _slices(ws: Workspace, scored: Scored, rows: Rows, folds: Folds, tail: int) -> list[Slice]:
    competition, s = ws.competition, ws.competition.settings
    duplicates = duplicate_groups(rows.texts)
    lengths = np.array([len(text) for text in rows.joined_texts()])
    slices = [
        all_rows(len(rows)),
        *label_slices(scored, tail),
        duplicates_once(duplicates),
        *length_slices(lengths),
    ]
    if s.group:
        values = competition.column(s.group)[folds.scored]
        # Resample duplicate groups: a slice of one group as a whole would not vary.
        slices += column_slices(s.group, values, duplicates)
    for column in s.categorical:
        if column != s.group:
            slices += column_slices(column, competition.column(column)[folds.scored])
    return slices
