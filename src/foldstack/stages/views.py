"""Stage: the score on parts of the out-of-fold rows, so that a mean hides nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack import ensemble
from foldstack.ensemble.views import (
    Scored,
    View,
    ViewScore,
    all_rows,
    column_views,
    duplicates_once,
    label_views,
    length_views,
    score_views,
)
from foldstack.errors import InputError
from foldstack.files import write_text
from foldstack.progress import say, table
from foldstack.rows import Rows, duplicate_groups
from foldstack.stages.blend import blend_command, make_blend, read_stored
from foldstack.stages.dependencies import Doubts
from foldstack.store import Folds, read_parquet
from foldstack.views.console.text import say_marks
from foldstack.workspace import Workspace


def views(
    ws: Workspace, *, model: str | None = None, name: str | None = None, tail: int = 10
) -> None:
    """Show and store how a blend, or one model, does on parts of the out-of-fold rows.

    tail: labels of fewer rows are the tail of the distribution.
    """
    folds = ws.store.read_folds(ws.competition.train)
    rows = ws.competition.train.take(folds.scored)
    if model:
        shown = ws.choose_model(model, "views")
        place = ws.root / "oof" / shown
        made = make_blend(ws, [shown], methods=(), quiet=True)
        predictions, marks = made.result.nested_predictions, ([], made.record.optimistic)
    else:
        shown = name or "blend"
        place, predictions = ws.store.blend_dir(shown), _of_blend(ws, shown, rows)
        marks = Doubts.of(ws).of_blend(read_stored(ws, shown))
    scored = _scored(ws, rows, predictions)
    asked = _views(ws, scored, rows, folds, tail)
    found = score_views(scored, asked, seed=ws.competition.settings.blend.seed)
    path = place / "views.csv"
    write_text(path, pd.DataFrame(map(dataclasses.asdict, found)).to_csv(index=False))
    _say(ws, shown, path, found)
    say_marks(shown, *marks)


def _of_blend(ws: Workspace, name: str, rows: Rows) -> np.ndarray:
    """A stored blend's nested predictions, decided where labels are submitted."""
    record = read_stored(ws, name)
    again = f"run {blend_command(name)} again"
    path = ws.store.blend_file(name, record, "nested.parquet")
    if path is None:
        raise InputError(f"blend '{name}' was made before views were there: {again}")
    _, predictions, meta = read_parquet(path)
    if meta["rows"] != rows.hash():
        raise InputError(f"blend '{name}' was made for other training rows or folds: {again}")
    return predictions.raw.astype(float)


def _scored(ws: Workspace, rows: Rows, predictions: np.ndarray) -> Scored:
    competition, targets = ws.competition, rows.targets
    if competition.metric.wants == "labels":  # Decisions pass through unchanged.
        rule = ensemble.default_rule(competition.kind, targets.shape[1])
        predictions = rule.apply(predictions)
    labels = competition.labels
    return Scored(competition.metric, competition.kind, labels, targets, predictions, rows.groups)


def _views(ws: Workspace, scored: Scored, rows: Rows, folds: Folds, tail: int) -> list[View]:
    competition, s = ws.competition, ws.competition.settings
    duplicates = duplicate_groups(rows.texts)
    lengths = np.array([len(text) for text in rows.joined_texts()])
    views = [
        all_rows(len(rows)),
        *label_views(scored, tail),
        duplicates_once(duplicates),
        *length_views(lengths),
    ]
    if s.group:
        values = competition.column(s.group)[folds.scored]
        # Within a group its rows are what varies; drawn as a whole it would never differ.
        views += column_views(s.group, values, duplicates)
    for column in s.categorical:
        if column != s.group:
            views += column_views(column, competition.column(column)[folds.scored])
    return views


def _say(ws: Workspace, shown: str, path: Path, found: Sequence[ViewScore]) -> None:
    say(
        f"{shown}: {ws.competition.metric.name} of nested out-of-fold predictions, pooled "
        f"({ws.store.name(path)}); intervals by bootstrap over rows, without what seeds add"
    )
    header = ["view", "rows", "score [95 % interval]", "better than the rest by", ""]
    say(table(header, [_cells(each) for each in found]))
    if any(each.differs for each in found):
        say(
            "* differs from the rest by more than chance, at 5 % for all comparisons together "
            "(Bonferroni)"
        )
    say("duplicates once: every text counts as one row; compared with all rows")
    for each in found:
        if each.why:
            say(f"{each.view}: undefined, since {each.why}")


def _cells(each: ViewScore) -> list[str]:
    score = "undefined" if np.isnan(each.score) else f"{each.score:.4f}"
    if np.isfinite(each.low):
        score += f" [{each.low:.4f}, {each.high:.4f}]"
    better = ""
    if np.isfinite(each.better_by):
        better = f"{each.better_by:+.4f} ± {each.standard_error:.4f}"
    return [each.view, f"{each.rows:,}", score, better, "*" if each.differs else ""]
