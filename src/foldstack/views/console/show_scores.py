"""Scores of runs, blends and submissions on the console."""

from __future__ import annotations

import math

from foldstack.progress import duration, say, table
from foldstack.records import (
    BlendScore,
    PrivateScores,
    RunScore,
    ScoresResult,
    SubmissionScore,
)
from foldstack.views.console import show
from foldstack.views.console.text import mark, say_marks


@show.register
def _(found: ScoresResult) -> None:
    header = ["model", "seed", "run", found.metric, "time", "peak MB", ""]
    say(table(header, [_of_run(row) for row in found.runs.rows]))
    for marks in found.models:
        say_marks(marks.name, marks.stale, marks.optimistic)
    if not found.blends.rows:
        return
    say("")
    header = ["blend", "made of", "nested CV [95 % interval]", "in-sample (optimistic)", ""]
    say(table(header, [_of_blend(row) for row in found.blends.rows]))
    for row in found.blends.rows:
        say_marks(row.blend, row.stale, row.optimistic)


def _of_run(row: RunScore) -> list[str]:
    return [
        row.model,
        str(row.seed),
        row.run,
        "–" if math.isnan(row.score) else f"{row.score:.4f}",
        duration(row.seconds),
        f"{row.peak_memory_mb:,}",
        mark(row.stale, row.optimistic),
    ]


def _of_blend(row: BlendScore) -> list[str]:
    return [
        row.blend,
        row.winner,
        _interval(row),
        f"{row.in_sample:.4f}",
        mark(row.stale, row.optimistic),
    ]


def _interval(row: BlendScore | SubmissionScore) -> str:
    return f"{row.nested:.4f} [{row.low:.4f}, {row.high:.4f}]"


@show.register
def _(found: PrivateScores) -> None:
    if found.reports is not None:
        say(f"score: scores per label are in {found.reports}/NAME.txt, and .csv beside it")
    _, *others = found.rows[0].private
    header = [
        "submission",
        "made of",
        f"nested CV {found.metric} [95 % interval]",
        "in-sample (optimistic)",
        "private score",
        *(f"private {name}" for name in others),
    ]
    say(table(header, [_of_submission(row) for row in found.rows]))
    for row in found.rows:
        say_marks(row.submission, row.stale, row.optimistic)
        if row.changed:
            say(
                f"{row.submission}: CHANGED since `submit` wrote it, so the nested score is not this "
                "file's"
            )


def _of_submission(row: SubmissionScore) -> list[str]:
    marks = "".join(f" {word}!" for word in mark(row.stale, row.optimistic).split(", ") if word)
    return [
        row.submission,
        row.winner,
        _interval(row) + marks,
        f"{row.in_sample:.4f}",
        *(f"{score:.4f}" for score in row.private.values()),
    ]
