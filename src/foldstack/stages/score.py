"""Stages that report: `score` against the private solution, `scores` over everything stored.

`score` alone reads input/private.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from foldstack.errors import InputError
from foldstack.files import read_table
from foldstack.progress import duration, say, table
from foldstack.report import format_report, label_report
from foldstack.stages.dependencies import Doubts, merged
from foldstack.views.console.text import interval, mark, say_marks
from foldstack.workspace import Workspace


def score(ws: Workspace) -> None:
    """Score every submission against input/private/solution.csv and print the table.

    Where labels are submitted, how each label does is written into submissions/private/.
    """
    submissions = ws.store.submissions()
    if not submissions:
        raise InputError("submissions/ is empty: run `make submit` first")
    solution = _solution(ws)
    competition, rows, doubts, today = ws.competition, [], [], Doubts.of(ws)
    for name, info in submissions.items():
        targets, values = _read_submission(ws, name, solution)
        task = competition.task
        further = [replace(task, metric=metric) for metric in competition.report_metrics]
        private = [each.score_probabilities(targets, values) for each in (task, *further)]
        if competition.submission.wants_labels:
            _write_report(ws, name, targets, values)
        marks = today.of_blend(info)
        doubts.append((name, marks))
        shown = "".join(f" {word}!" for word in mark(*marks).split(", ") if word)
        rows.append(
            [
                name,
                info.winner,
                interval(info.nested) + shown,
                f"{info.in_sample:.4f}",
                *(f"{each:.4f}" for each in private),
            ]
        )
    if competition.submission.wants_labels:
        say(f"score: how each label does is in {ws.store.private_dir}/NAME.txt, and .csv beside it")
    metric = competition.metric.name
    say(
        table(
            [
                "submission",
                "made of",
                f"nested CV {metric} [95 % interval]",
                "in-sample (optimistic)",
                "private score",
                *(f"private {other.name}" for other in competition.report_metrics),
            ],
            rows,
        )
    )
    for name, marks in doubts:
        say_marks(name, *marks)
        if not ws.store.is_as_submitted(name, submissions[name]):
            say(f"{name}: CHANGED since `submit` wrote it, so the nested score is not this file's")


def _solution(ws: Workspace) -> pd.DataFrame:
    if not ws.solution.exists():
        raise InputError(
            f"{ws.solution} does not exist: only a competition whose test labels are at "
            "hand can be scored here; put id and target columns there"
        )
    s = ws.competition.settings
    solution = read_table(ws.solution, s.encoding)
    if s.id not in solution.columns:
        raise InputError(f"{ws.solution}: column '{s.id}' is missing: mend the file")
    ws.competition.check_ids(ws.solution, solution[s.id])
    missing = sorted(set(ws.competition.test.ids) - set(solution[s.id]))
    if missing:
        raise InputError(
            f"{ws.solution}: id '{missing[0]}' and {len(missing) - 1} more of "
            "input/test.csv are missing there: mend the file"
        )
    return solution


def _read_submission(
    ws: Workspace, name: str, solution: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """(n, outputs) targets, and what was submitted for them."""
    competition, path = ws.competition, ws.store.submission_path(name)
    s = competition.settings
    submitted = read_table(path, s.encoding)
    if s.id not in submitted.columns or set(submitted[s.id]) != set(competition.test.ids):
        raise InputError(
            f"{path}: its ids are not those of input/test.csv: run `make submit` again"
        )
    order = pd.Index(solution[s.id]).get_indexer(submitted[s.id])
    targets = competition.targets_of(solution.iloc[order].reset_index(drop=True), ws.solution)
    return targets, competition.submission.read(path, submitted)


def _write_report(ws: Workspace, name: str, targets: np.ndarray, decisions: np.ndarray) -> None:
    competition = ws.competition
    report = label_report(targets, decisions, competition.labels, competition.kind)
    ws.store.write_private(name, report.to_csv(), format_report(report) + "\n")


def scores(ws: Workspace) -> None:
    """Print every run and every blend."""
    runs, blends = ws.store.runs(), ws.store.blends()
    if not runs:
        raise InputError("oof/ holds no runs: run `make train` first")
    rows, doubts, today = [], {}, Doubts.of(ws)
    for key, run in runs.items():
        marks = today.of_run(run)
        doubts.setdefault(key.model, []).append(marks)
        shown = "–" if run.score is None else f"{run.score:.4f}"
        rows.append(
            [
                key.model,
                str(key.seed),
                key.run,
                shown,
                duration(run.seconds),
                f"{run.peak_memory_mb:,}",
                mark(*marks),
            ]
        )
    say(table(["model", "seed", "run", ws.competition.metric.name, "time", "peak MB", ""], rows))
    for model, of_model in doubts.items():
        stale = list(dict.fromkeys(why for stale, _ in of_model for why in stale))
        say_marks(model, stale, merged(why for _, optimistic in of_model for why in optimistic))
    if not blends:
        return
    marks = {name: today.of_blend(info) for name, info in blends.items()}
    rows = [
        [
            name,
            info.winner,
            interval(info.nested),
            f"{info.in_sample:.4f}",
            mark(*marks[name]),
        ]
        for name, info in blends.items()
    ]
    say("")
    say(
        table(["blend", "made of", "nested CV [95 % interval]", "in-sample (optimistic)", ""], rows)
    )
    for name in blends:
        say_marks(name, *marks[name])
