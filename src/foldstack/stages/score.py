"""Stages that report: `score` against the private solution, `scores` over everything stored.

`score` alone reads input/private.
"""

from __future__ import annotations

import pandas as pd

from foldstack.errors import InputError
from foldstack.files import read_table
from foldstack.progress import duration, say, table
from foldstack.stages.blend import interval
from foldstack.workspace import Workspace


def score(ws: Workspace) -> None:
    """Score every submission against input/private/solution.csv and print the table."""
    submissions = ws.store.submissions()
    if not submissions:
        raise InputError("submissions/ is empty: run `make submit` first")
    solution = _solution(ws)
    rows = []
    for name, info in submissions.items():
        private = _score_submission(ws, name, solution)
        mark = " optimistic!" if info["optimistic"] else ""
        rows.append(
            [
                name,
                info["winner"],
                interval(info["nested"]) + mark,
                f"{info['in_sample']:.4f}",
                f"{private:.4f}",
            ]
        )
    metric = ws.competition.metric.name
    say(
        table(
            [
                "submission",
                "made of",
                f"nested CV {metric} [95 % interval]",
                "in-sample (optimistic)",
                "private score",
            ],
            rows,
        )
    )


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


def _score_submission(ws: Workspace, name: str, solution: pd.DataFrame) -> float:
    competition, path = ws.competition, ws.store.submission_path(name)
    s = competition.settings
    submitted = read_table(path, s.encoding)
    if s.id not in submitted.columns or set(submitted[s.id]) != set(competition.test.ids):
        raise InputError(
            f"{path}: its ids are not those of input/test.csv: run `make submit` again"
        )
    order = pd.Index(solution[s.id]).get_indexer(submitted[s.id])
    targets = competition.targets_of(solution.iloc[order].reset_index(drop=True), ws.solution)
    values = competition.submission.read(path, submitted)
    return competition.task.score_probabilities(targets, values)


def scores(ws: Workspace) -> None:
    """Print every run and every blend."""
    runs, blends = ws.store.runs(), ws.store.blends()
    if not runs:
        raise InputError("oof/ holds no runs: run `make train` first")
    rows = []
    for key, run in runs.items():
        shown = "–" if run["score"] is None else f"{run['score']:.4f}"
        rows.append(
            [
                key.model,
                str(key.seed),
                key.run,
                shown,
                duration(run["seconds"]),
                f"{run['peak_memory_mb']:,}",
                "optimistic" if run["optimistic"] else "",
            ]
        )
    say(table(["model", "seed", "run", ws.competition.metric.name, "time", "peak MB", ""], rows))
    if blends:
        rows = [
            [
                name,
                info["winner"],
                interval(info["nested"]),
                f"{info['in_sample']:.4f}",
                "optimistic" if info["optimistic"] else "",
            ]
            for name, info in blends.items()
        ]
        say("")
        say(
            table(
                ["blend", "made of", "nested CV [95 % interval]", "in-sample (optimistic)", ""],
                rows,
            )
        )
