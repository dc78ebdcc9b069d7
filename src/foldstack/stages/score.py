"""Stages: `score` submissions against the solution, and list `scores` of runs and blends.

Only `score` reads input/private.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.input_tables import in_spelling_of, spelled
from foldstack.records import (
    BlendRecord,
    BlendScore,
    BlendScores,
    Marks,
    PrivateScores,
    RunRecord,
    RunScore,
    RunScores,
    ScoresResult,
    SubmissionRecord,
    SubmissionScore,
)
from foldstack.report import format_report, label_report, target_report
from foldstack.stages.dependencies import Doubts, merged
from foldstack.stages.pooled import model_scores
from foldstack.store import RunKey
from foldstack.tables import read_table
from foldstack.workspace import Workspace


def score(ws: Workspace) -> PrivateScores:
    """Score every submission of the test file against input/private/solution.csv.

    If labels are submitted, write the scores per label into submissions/private/.
    """
    found = ws.store.submissions()
    # The rows of another test file are not those of the solution.
    submissions = {name: each for name, each in found.items() if each.of_file is None}
    if not submissions:
        raise InputError("submissions/ is empty: run `make submit` first")
    solution, today = _solution(ws), Doubts.of(ws)
    of_labels = ws.competition.submission.wants_labels
    return PrivateScores(
        metric=ws.competition.metric.name,
        rows=[_scored(ws, name, record, solution, today) for name, record in submissions.items()],
        reports=str(ws.store.private_dir) if of_labels else None,
    )


def _scored(
    ws: Workspace, name: str, record: SubmissionRecord, solution: pd.DataFrame, today: Doubts
) -> SubmissionScore:
    """Score one submission; if it is of labels, write its scores per label.

    Args:
        record: the submission's record.
        solution: the ids and target columns, in any order.
        today: the marks by today's files.
    """
    competition = ws.competition
    rows, values = _read_submission(ws, name, solution)
    targets = competition.targets_of(rows, ws.solution)
    private = {}
    for metric in (competition.metric, *competition.report_metrics):
        task = replace(competition.task, metric=competition.beside(metric, ws.solution, rows))
        private[metric.name] = float(task.score_probabilities(targets, values))
    if competition.submission.wants_labels:
        of_values = competition.kind.is_values
        report = (
            target_report(targets, values, competition.labels)
            if of_values
            else label_report(targets, values, competition.labels, competition.kind)
        )
        ws.store.write_private(name, report.to_csv(), format_report(report) + "\n")
    return SubmissionScore(
        submission=name,
        private=private,
        changed=not ws.store.is_as_submitted(name, record),
        **_estimate(record, today),
        expected=record.submitted,
    )


def _solution(ws: Workspace) -> pd.DataFrame:
    if not ws.solution.exists():
        raise InputError(
            f"{ws.solution} does not exist: only a competition whose test labels are at "
            "hand can be scored here; put id and target columns there"
        )
    s = ws.competition.settings
    name = (
        f"{ws.solution.parent.name}/{ws.solution.name}"  # with DEBUG=1 it is not below this input/
    )
    solution = spelled(read_table(ws.solution, s.form_of(name)), (s.id, *s.target))
    if s.id not in solution.columns:
        raise InputError(f"{ws.solution}: column '{s.id}' is missing: fix the file")
    ws.competition.check_ids(ws.solution, solution[s.id])
    solution[s.id] = in_spelling_of(ws.competition.test.ids, solution[s.id])
    missing = sorted(set(ws.competition.test.ids) - set(solution[s.id]))
    if missing:
        raise InputError(
            f"{ws.solution}: id '{missing[0]}' and {len(missing) - 1} more of "
            "input/test.csv are missing there: fix the file"
        )
    return solution


def _read_submission(
    ws: Workspace, name: str, solution: pd.DataFrame
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the rows of the solution, and (n, outputs) the predictions submitted for them."""
    competition, path = ws.competition, ws.store.submission_path(name)
    s = competition.settings
    submitted = read_table(path, competition.submission_form)
    if s.id in submitted.columns:
        submitted[s.id] = in_spelling_of(competition.test.ids, submitted[s.id])
    if s.id not in submitted.columns or set(submitted[s.id]) != set(competition.test.ids):
        raise InputError(
            f"{path}: its ids are not those of input/test.csv: run `make submit` again"
        )
    solution = competition.labelled(ws.solution, solution)
    known = pd.Index(solution[s.id])
    submitted = submitted[submitted[s.id].isin(known)]  # of the others no label is known
    rows = solution.iloc[known.get_indexer(submitted[s.id])]  # its index counts rows in messages
    return rows, competition.submission.read(path, submitted)


def scores(ws: Workspace) -> ScoresResult:
    """Return the scores of every run, every model and every blend."""
    runs, today = ws.store.runs(), Doubts.of(ws)
    if not runs:
        raise InputError("oof/ holds no runs: run `make train` first")
    rows = [_run_score(key, run, today) for key, run in runs.items()]
    names = list(dict.fromkeys(row.model for row in rows))
    return ScoresResult(
        metric=ws.competition.metric.name,
        decided=_decided(ws.competition),
        runs=RunScores(rows=rows),
        pooled=model_scores(ws, names),
        models=[_marks(name, rows) for name in names],
        blends=blend_scores(ws, today),
    )


def _decided(competition: Competition) -> str:
    if competition.metric.wants != "labels" or competition.kind.is_values:
        return ""
    return "most probable class" if competition.kind.is_one_hot else "thresholds of .5"


def blend_scores(ws: Workspace, today: Doubts | None = None) -> BlendScores:
    """Return the scores of every blend; today: the marks by today's files, if known."""
    today = today or Doubts.of(ws)
    return BlendScores(
        rows=[
            BlendScore(
                blend=name,
                **_estimate(record, today),
                expected=record.submitted,
                weighted=record.drift and record.drift.nested,
            )
            for name, record in ws.store.blends().items()
        ]
    )


def _run_score(key: RunKey, run: RunRecord, today: Doubts) -> RunScore:
    stale, optimistic = today.of_run(run)
    return RunScore(
        model=key.model,
        seed=key.seed,
        run=key.run,
        score=run.score,
        metric=None if run.metric == today.ws.competition.metric.name else run.metric,
        seconds=run.seconds,
        peak_memory_mb=run.peak_memory_mb,
        stale=stale,
        optimistic=optimistic,
    )


def _marks(model: str, rows: list[RunScore]) -> Marks:
    """Merge the marks of a model's runs; those that differ only in a count become one."""
    ours = [row for row in rows if row.model == model]
    stale = list(dict.fromkeys(why for row in ours for why in row.stale))
    return Marks(
        name=model, stale=stale, optimistic=merged(why for row in ours for why in row.optimistic)
    )


def _estimate(record: BlendRecord | SubmissionRecord, today: Doubts) -> dict[str, Any]:
    """Return the fields that a blend's score and a submission's have in common."""
    stale, optimistic = today.of_blend(record)
    return {
        "winner": record.winner,
        "folds": record.folds and str(record.folds),
        "nested": record.nested.score,
        "low": record.nested.low,
        "high": record.nested.high,
        "in_sample": record.in_sample,
        "undefined": record.undefined,
        "stale": stale,
        "optimistic": optimistic,
    }
