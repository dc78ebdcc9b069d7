"""Scores of runs, blends and submissions on the console."""

from __future__ import annotations

import math

from foldstack.progress import duration, say, table
from foldstack.records import (
    BlendScore,
    ModelScore,
    ModelScores,
    PrivateScores,
    RunScore,
    ScoresResult,
    SubmissionScore,
)
from foldstack.views.console import show
from foldstack.views.console.text import interval, mark, number, say_marks, say_undefined, span


@show.register
def _(found: ScoresResult) -> None:
    decided = f", {found.decided}" if found.decided else ""
    header = ["model", "seed", "run", found.metric + decided, "time", "peak MB", ""]
    say(table(header, [_of_run(row) for row in found.runs.rows]))
    if found.pooled.rows:
        say("")
        show_models(found.pooled)
    marked = {row.model: row.optimistic for row in found.pooled.rows}
    for marks in found.models:
        of_model = dict.fromkeys([*marks.optimistic, *marked.get(marks.name, [])])
        say_marks(marks.name, marks.stale, of_model)
    if not found.blends.rows:
        return
    say("")
    extra = _extra(found.blends.rows)
    header = ["blend", "made of", "nested CV [95 % interval]", *extra.values()]
    header += ["in-sample (optimistic)", ""]
    say(table(header, [_of_blend(row, list(extra)) for row in found.blends.rows]))
    for row in found.blends.rows:
        say_undefined(row.blend, row.undefined)
        say_marks(row.blend, row.stale, row.optimistic)


def show_models(found: ModelScores) -> None:
    """Print the models' pooled scores, with their mean and spread over folds."""
    header = [
        "model",
        "trained",
        f"pooled {found.metric}",
        "mean of folds",
        "standard deviation",
        "",
    ]
    say(table(header, [_of_model(row) for row in found.rows]))
    if found.decides:
        say(
            "labels are decided by a rule that was fitted on the other folds, unlike in single runs"
        )
    for row in found.rows:
        if row.why:
            say(f"{row.model}: no pooled score, {row.why}")


def _of_model(row: ModelScore) -> list[str]:
    of = "" if row.folds == row.of else f"of {row.of} "
    return [
        row.model,
        f"{row.folds} {of}folds",
        *map(_score, (row.score, row.mean, row.spread)),
        mark([], row.optimistic),
    ]


def _score(score: float) -> str:
    return "–" if math.isnan(score) else f"{score:.4f}"


def _of_run(row: RunScore) -> list[str]:
    return [
        row.model,
        str(row.seed),
        row.run,
        _score(row.score) + (f" ({row.metric})" if row.metric else ""),
        duration(row.seconds),
        f"{row.peak_memory_mb:,}",
        mark(row.stale, row.optimistic),
    ]


def _extra(rows: list[BlendScore]) -> dict[str, str]:
    """Return the estimates that some blend has beside the nested one, and their columns."""
    names = {"expected": "expected of the mean over runs", "weighted": "nested, weighted to test"}
    return {k: name for k, name in names.items() if any(getattr(row, k) for row in rows)}


def _of_blend(row: BlendScore, extra: list[str]) -> list[str]:
    return [
        row.blend,
        _made_of(row),
        _interval(row),
        *(interval(each) if (each := getattr(row, name)) else "–" for name in extra),
        number(row.in_sample),
        mark(row.stale, row.optimistic),
    ]


def _made_of(row: BlendScore | SubmissionScore) -> str:
    return row.winner if row.folds is None else f"{row.winner}, {row.folds}"


def _interval(row: BlendScore | SubmissionScore) -> str:
    return span(row.nested, row.low, row.high)


@show.register
def _(found: PrivateScores) -> None:
    if found.reports is not None:
        say(f"score: scores per label are in {found.reports}/NAME.txt, and .csv beside it")
    _, *others = found.rows[0].private
    known = any(row.expected is not None for row in found.rows)
    header = [
        "submission",
        "made of",
        f"nested CV {found.metric} [95 % interval]",
        *(["expected of the mean over runs"] if known else []),
        "in-sample (optimistic)",
        "private score",
        *(f"private {name}" for name in others),
    ]
    say(table(header, [_of_submission(row, known) for row in found.rows]))
    for row in found.rows:
        say_undefined(row.submission, row.undefined)
        say_marks(row.submission, row.stale, row.optimistic)
        if row.changed:
            say(
                f"{row.submission}: CHANGED since `submit` wrote it, so the nested score is not this "
                "file's"
            )


def _of_submission(row: SubmissionScore, known: bool) -> list[str]:
    marks = "".join(f" {word}!" for word in mark(row.stale, row.optimistic).split(", ") if word)
    return [
        row.submission,
        _made_of(row),
        _interval(row) + marks,
        *([interval(row.expected) if row.expected else "–"] if known else []),
        number(row.in_sample),
        *map(number, row.private.values()),
    ]
