"""The leaderboard, its marks and the learning curves of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from foldstack.errors import InputError
from foldstack.records import (
    BlendRecord,
    BlendScore,
    LeaderRow,
    LearningCurves,
    Marks,
    ModelEstimate,
    ModelScore,
    PageMark,
    PlotLine,
    RunRecord,
    ScoresResult,
    SubmissionRecord,
)
from foldstack.stages.score import score
from foldstack.store import RunKey
from foldstack.workspace import Workspace

MOST_LINES = 24  # of a plot of learning curves
MOST_POINTS = 80  # of a line


def private_scores(
    ws: Workspace, blends: Mapping[str, BlendRecord]
) -> tuple[dict[str, float], list[str]]:
    """Return the scores of submissions against the solution, as `score` finds them, and remarks.

    A submission that was changed, or made from another blend than the stored one, has none. Without a
    solution or a submission there are none.
    """
    submissions = ws.store.submissions()
    if not ws.solution.exists() or not submissions:
        return {}, []
    try:
        found = score(ws)
    except InputError as e:
        return {}, [f"private scores are not shown: {e}"]
    own = [row for row in found.rows if not row.changed]
    return {
        row.submission: row.private[found.metric]
        for row in own
        if _is_of(submissions[row.submission], row.submission, blends)
    }, []


def _is_of(submission: SubmissionRecord, name: str, blends: Mapping[str, BlendRecord]) -> bool:
    """Return whether a submission is of the stored blend, or of the model, that it is named after."""
    blend = blends.get(name)
    if blend is None:
        return list(submission.members) == [name]
    return (submission.members, submission.winner) == (blend.members, blend.winner)


def leaders(
    found: ScoresResult, blends: Mapping[str, BlendRecord], private: Mapping[str, float]
) -> list[LeaderRow]:
    """Return the blends, then the models, each sort by name.

    A model's interval is that of a blend that it is a member of.
    """
    estimates = {
        model: estimate
        for record in blends.values()
        if record.metric == found.metric
        for model, estimate in record.models.items()
    }
    marks = {each.name: each for each in found.models}
    of_models = [
        _of_model(row, estimates.get(row.model), marks[row.model], private)
        for row in found.pooled.rows
    ]
    return [*(_of_blend(row, private) for row in found.blends.rows), *of_models]


def _of_blend(row: BlendScore, private: Mapping[str, float]) -> LeaderRow:
    return LeaderRow(
        name=row.blend,
        what="blend",
        made_of=row.winner if row.folds is None else f"{row.winner}, {row.folds}",
        nested=row.nested,
        low=row.low,
        high=row.high,
        in_sample=row.in_sample,
        private=private.get(row.blend, math.nan),
        stale=row.stale,
        optimistic=row.optimistic,
        why="; ".join(row.undefined or ()),
    )


def _of_model(
    row: ModelScore, estimate: ModelEstimate | None, marks: Marks, private: Mapping[str, float]
) -> LeaderRow:
    folds = f"{row.folds} folds" if row.folds == row.of else f"{row.folds} of {row.of} folds"
    usable = estimate is not None and not marks.stale and not row.why
    nested = estimate.nested if usable else None
    return LeaderRow(
        name=row.model,
        what="model",
        made_of=folds,
        nested=nested.score if nested else row.score,
        low=nested.low if nested else math.nan,
        high=nested.high if nested else math.nan,
        in_sample=estimate.in_sample if usable else math.nan,
        private=private.get(row.model, math.nan),
        stale=marks.stale,
        optimistic=list(dict.fromkeys([*marks.optimistic, *row.optimistic])),
        why=row.why,
    )


def marks_of(table: list[LeaderRow]) -> list[PageMark]:
    """Return every reason to doubt a row of the leaderboard."""
    return [
        PageMark(name=row.name, mark=mark, reason=reason)
        for row in table
        for mark, reasons in (("STALE", row.stale), ("OPTIMISTIC", row.optimistic))
        for reason in reasons
    ]


def learning_curves(ws: Workspace) -> LearningCurves:
    """Return the training losses and epoch scores of the runs that hold out one fold."""
    runs = {key: run for key, run in ws.store.runs().items() if len(key.left_out) < 2}
    losses, scored = [], []
    for key, run in runs.items():
        losses += _lines(key, _losses(run.facts))
        scored += _lines(key, [_epoch_scores(run)])
    return LearningCurves(
        metric=ws.competition.metric.name, losses=losses[:MOST_LINES], scores=scored[:MOST_LINES]
    )


def _lines(key: RunKey, curves: list[list[tuple[float, float]]]) -> list[PlotLine]:
    name = f"{key.model} seed {key.seed} {key.run}"
    return [
        PlotLine(
            name=name if len(curves) == 1 else f"{name}, fit {number}",
            of=key.model,
            points=_thinned(points),
        )
        for number, points in enumerate(curves, 1)
        if points
    ]


def _losses(facts: Mapping[str, Any]) -> list[list[tuple[float, float]]]:
    """Return (update, loss) of each fit of a run; the stages of a fit follow each other."""
    return [_of_stages(each.get("stages", [each])) for each in facts.get("repeats", [facts])]


def _of_stages(stages: list[Mapping[str, Any]]) -> list[tuple[float, float]]:
    points, before = [], 0
    for stage in stages:
        losses = stage.get("losses", [])
        points += [(float(before + update), float(loss)) for update, loss in losses]
        before += stage.get("updates", 0)
    return points


def _epoch_scores(run: RunRecord) -> list[tuple[float, float]]:
    """Return (epoch, score) by the competition's metric, if the epochs were scored."""
    found = run.facts.get("epoch_metric")
    return [(float(k), float(s)) for k, s in enumerate(found, 1)] if isinstance(found, list) else []


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = math.ceil(len(points) / MOST_POINTS)
    return points[::step] if step > 1 else points
