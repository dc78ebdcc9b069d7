"""Stage: one HTML page of a blend, its models and the data."""

from __future__ import annotations

from foldstack import config
from foldstack.errors import InputError
from foldstack.records import PageRecord, ReportRecord, ViewsRecord, WrittenPage
from foldstack.stages.blend import read_stored, report
from foldstack.stages.blend_shown import (
    agreement,
    confusion,
    describe_rule,
    predicted_values,
    threshold_curves,
)
from foldstack.stages.calibration_shown import calibration_shown
from foldstack.stages.files_compared import compare_files
from foldstack.stages.leaders import leaders, learning_curves, marks_of, private_scores
from foldstack.stages.page_source import BlendRows
from foldstack.stages.provenance import provenance
from foldstack.stages.score import scores
from foldstack.stages.shown_rows import shown_rows
from foldstack.stages.views import views
from foldstack.views.page import render
from foldstack.workspace import Workspace


def page(ws: Workspace, *, name: str | None = None) -> WrittenPage:
    """Write submissions/<name>.html: what is known of a blend, in one file without a network.

    A blend whose rows, folds or runs have changed has a page, too: with its marks, and without what
    requires its predictions.

    Args:
        ws: the workspace.
        name: the blend; None for `blend`.

    Returns:
        The file and what it shows.

    Raises:
        InputError: there is no such blend, or another file has the page's place.
    """
    name = config.check_name(name or "blend", "name")
    ws.refuse_named(ws.store.page_path(name))
    record = describe(ws, name)
    html = render(record)
    path = ws.store.write_page(name, html)
    return WrittenPage(file=ws.store.name(path), bytes=path.stat().st_size, page=record)


def describe(ws: Workspace, name: str) -> PageRecord:
    """Return the content of a blend's page; raise InputError if there is no such blend."""
    blend, competition = read_stored(ws, name), ws.competition
    found = scores(ws)
    blends = ws.store.blends()
    private, remarks = private_scores(ws, blends)
    table = leaders(found, blends, private)
    common = {
        "competition": competition.settings.name,
        "blend": name,
        "kind": str(competition.kind),
        "metric": competition.metric.name,
        "better": "higher" if competition.metric.sign > 0 else "lower",
        "labels": list(competition.labels),
        "train_rows": len(competition.train),
        "test_rows": len(competition.test),
        "folds": ws.store.read_folds(competition.train).count if found.pooled.rows else 0,
        "nested": blend.folds is None or len(blend.folds.numbers) > 1,
        "leaders": table,
        "runs": found.runs.rows,
        "marks": marks_of(table),
        "learning": learning_curves(ws),
        "candidates": blend.candidates,
        "calibrated": blend.calibration is not None,
        "rule": describe_rule(blend, competition.labels),
        "provenance": provenance(ws, name, blend),
    }
    try:
        source = BlendRows.read(ws, name, blend)
    except InputError as e:
        remarks.append(f"what follows from the predictions of '{name}' is not shown: {e}")
        return PageRecord(**common, files=compare_files(ws, None), remarks=remarks)
    return PageRecord(**common, **_of_rows(ws, source), remarks=remarks)


def _of_rows(ws: Workspace, source: BlendRows) -> dict:
    """Return the fields that follow from the blend's predictions of the training rows."""
    of_labels: ReportRecord = report(ws, name=source.name)
    of_parts: ViewsRecord = views(ws, name=source.name)
    calibration, reliability = calibration_shown(ws, source)
    return {
        "agreement": agreement(source),
        "calibration": calibration,
        "reliability": reliability,
        "thresholds": threshold_curves(source),
        "confusion": confusion(source),
        "predicted": predicted_values(source),
        "report": of_labels.rows,
        "slices": of_parts.rows,
        "files": compare_files(ws, source),
        "rows": shown_rows(ws, source),
    }
