"""Scores and intervals: the groups that they resample, and what they say where nothing varies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foldstack import metrics
from foldstack.ensemble import estimate
from foldstack.store import read_parquet
from foldstack.workspace import Workspace
from tiny import PLACES, foldstack, write, write_competition

TEXTS, COPIES = 12, 8


def near_duplicates(root: Path) -> Path:
    """Twelve long texts, each eight times but for its last letter, with one label per text."""
    rng = np.random.default_rng(0)
    lines, test = ["id,text,label"], ["id,text"]
    for i in range(TEXTS):
        word = "good" if (i % 2) ^ (i % 5 == 0) else "bad"
        text = f"{word} " + " ".join(f"{w}{i}" for w in rng.choice(PLACES, 14))
        lines += [f"r{i}-{j},{text} {'stuvwxyz'[j]},{i % 2}" for j in range(COPIES)]
    test += [f"t{i},good {PLACES[i]}" for i in range(4)]
    write(root / "input/train.csv", "\n".join(lines) + "\n")
    write(root / "input/test.csv", "\n".join(test) + "\n")
    write(
        root / "input/sample_submission.csv", "id,label\n" + "".join(f"t{i},0\n" for i in range(4))
    )
    write_competition(root, folds={"count": 3, "near": 0.8}, runtime={"threads": 1})
    return root


def test_near_duplicates_are_one_group_in_intervals_and_inner_splits(tmp_path: Path):
    """Copies that share a fold are not independent: resampled one by one, the error is too small."""
    root = near_duplicates(tmp_path)
    for command in (["folds"], ["train"], ["blend"]):
        assert foldstack(root, *command) == 0
    ws = Workspace(root)
    folds = ws.store.read_folds(ws.competition.train)
    rows = ws.competition.scored_rows(folds.scored)
    by_text = np.unique([id_.split("-")[0] for id_ in rows.ids], return_inverse=True)[1]
    assert len(np.unique(rows.groups)) == TEXTS
    assert len(set(zip(rows.groups, by_text, strict=True))) == TEXTS
    stored = read_parquet(root / "oof/_blends/blend/oof.parquet")[1].raw.astype(float)
    metric = metrics.get("roc_auc", "binary")
    by_groups = estimate(metric, rows.targets, stored, by_text, seed=0)
    by_rows = estimate(metric, rows.targets, stored, np.arange(len(rows)), seed=0)
    nested = ws.store.read_blend("blend").nested
    assert by_groups.standard_error > 1.5 * by_rows.standard_error
    assert nested.standard_error > 1.5 * by_rows.standard_error
