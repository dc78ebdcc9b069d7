"""Augmentation within a run: which rows are changed, by whom copies are washed, what stays as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from foldstack.links import to_probabilities
from foldstack.rows import Rows
from foldstack.stages.fitted import load_learner
from foldstack.stages.learned import rows_of
from foldstack.stages.run import Run
from foldstack.store import RunKey, Store
from foldstack.workspace import Workspace
from makers import fit_and_predict, make_learner, tiny_rows
from tiny import add_preset, foldstack, make_workspace, refuses, run_of, turn_labels, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

DELETE = {"name": "delete_words", "share": 0.5, "probability": 1}


def learned(root: Path) -> tuple[Workspace, Run, Rows, Rows]:
    """What `tiny` would learn from and hold out, fold 0 left out."""
    ws, run = run_of(root)
    train, held, _, optimistic = rows_of(ws, run)
    assert optimistic == []
    return ws, run, train, held


@pytest.fixture
def root(tmp_path, backbone) -> Path:
    """30 rows in three folds."""
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    add_preset(root, backbone, augment=[DELETE], augment_copies=2)
    assert foldstack(root, "folds") == 0
    return root


def test_copies_follow_the_rows_that_stay_as_they_are(root):
    ws, run, train, held = learned(root)
    rows = ws.competition.train.take(run.folds.learned((0,)))
    assert (len(train), len(held)) == (60, 10)
    assert train.texts[:20] == rows.texts and set(train.origin[:20]) == {"gold"}
    assert set(train.origin[20:]) == {"augmented"}
    assert train.ids[20] == f"{rows.ids[0]}#1" and train.ids[40] == f"{rows.ids[0]}#2"
    for start in (20, 40):
        assert (train.targets[start : start + 20] == rows.targets).all()
        assert (train.groups[start : start + 20] == rows.groups).all()
    assert train.texts[20:40] != rows.texts and train.texts[20:40] != train.texts[40:]
    assert set(held.origin) == {"gold"}
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    assert Store(root).read_run(RunKey("tiny", 0, (0,))).rows == 60


def test_online_changes_are_drawn_anew_in_each_epoch_and_of_training_rows_alone(backbone):
    learner, rows = make_learner(backbone, augment=[DELETE]), tiny_rows()
    examples = learner.prepare(rows)
    of_epoch = learner.encoder.epochs(rows, examples, learner.settings.training, seed=0)
    first, again, second = (of_epoch(epoch).tokens for epoch in (0, 0, 1))
    assert (first.flat == again.flat).all()
    assert first.flat.tolist() != second.flat.tolist()
    assert examples.tokens.flat.tolist() == learner.encoder.tokens(rows).flat.tolist()


@pytest.mark.parametrize(
    "option",
    [
        {"augment": ["swap_words"]},
        {"training": {"mask_spans": {"share": 0.5, "probability": 1}}},
        {"training": {"mask_spans": {"share": 0.5, "probability": 1, "by": "drop"}}},
        {"training": {"mixup": 1.0}},
    ],
    ids=str,
)
def test_each_technique_changes_the_predictions(backbone, tmp_path, option):
    plain = fit_and_predict(backbone, tmp_path / "plain")
    assert np.abs(fit_and_predict(backbone, tmp_path / "other", **option) - plain).max() > 1e-5


# Washing


@pytest.fixture
def washed(root, backbone) -> Path:
    """The same, its copies washed by tfidf, of which the runs are there that may judge them."""
    add_preset(root, backbone, augment=[DELETE], augment_copies=2, augment_washed_by="tfidf")
    for fold in ("0-1", "0-2"):
        options = ["--set", "min_count=1", "--set", "C=100"]
        assert foldstack(root, "train", "--model", "tfidf", "--fold", fold, *options) == 0
    return root


def confidence(ws: Workspace, judge: RunKey, rows: Rows) -> np.ndarray:
    learner = load_learner(ws, judge, 1)
    p = to_probabilities(learner.predict(rows), learner.link)
    return (rows.targets * p + (1 - rows.targets) * (1 - p))[:, 0]


def test_copies_are_judged_by_a_run_that_knows_neither_their_fold_nor_the_held_out_one(washed):
    """Slow reference: every copy by itself."""
    ws, run, train, _ = learned(washed)
    folds = dict(zip(ws.competition.train.ids, run.folds.fold, strict=True))
    add_preset(washed, Path(run.settings.backbone), augment=[DELETE], augment_copies=2)
    _, _, unwashed, _ = learned(washed)
    assert 20 < len(train) < 60 == len(unwashed)
    rows = {id_: i for i, id_ in enumerate(unwashed.ids)}
    kept = []
    for i, id_ in enumerate(unwashed.ids):
        original, _, copy = id_.partition("#")
        judge = RunKey("tfidf", 0, (0, int(folds[original])))
        before, after = (
            confidence(ws, judge, unwashed.take(np.array([k])))[0] for k in (rows[original], i)
        )
        if not copy or after >= before / 2:
            kept.append(id_)
    assert train.ids.tolist() == kept


def test_runs_with_washed_copies_are_blended(washed):
    options = ["--set", "min_count=1", "--set", "C=100"]
    assert foldstack(washed, "train", "--model", "tfidf", "--fold", "1-2", *options) == 0
    for fold in "012":
        assert foldstack(washed, "train", "--model", "tiny", "--fold", fold) == 0
    assert foldstack(washed, "blend", "--model", "tiny") == 0


def test_no_label_of_the_held_out_fold_washes(washed):
    """Trap 3: with all of them turned round and the judges trained again, the same copies stay."""
    ws, run, train, _ = learned(washed)
    turn_labels(washed, set(ws.competition.train.ids[run.folds.held_out((0,))]))
    for fold in ("0-1", "0-2"):
        options = ["--set", "min_count=1", "--set", "C=100", "--force"]
        assert foldstack(washed, "train", "--model", "tfidf", "--fold", fold, *options) == 0
    _, _, again, _ = learned(washed)
    assert again.ids.tolist() == train.ids.tolist() and again.texts == train.texts


def test_judges_that_are_not_there_have_the_settings_of_those_that_are(washed, capsys):
    """Those that are there were trained with --set."""
    capsys.readouterr()
    refuses(
        washed,
        ["train", "--model", "tiny", "--fold", "1"],
        "tfidf seed 0 fold1-2 would have other settings than tfidf seed 0 fold0-1 (C 100.0 → auto; "
        "min_count 1 → 2), so that they could not serve together: give the same SET=, another NAME=, or "
        "--force (FORCE=1)",
        capsys,
    )
    capsys.readouterr()
    refuses(
        washed,
        ["train", "--model", "tiny", "--fold", "1", "--set", "training.lr=0.01"],
        "tiny seed 0 fold1: its copies are filtered by runs of tfidf that are missing: run `make train "
        "MODEL=tfidf FOLD=1-2 SEED=0`",
        capsys,
    )


def test_judges_that_are_not_there_are_trained_first(washed):
    shutil.rmtree(washed / "oof/tfidf")
    write(washed / "presets/tfidf.yaml", "preset: tfidf\nmin_count: 1\n")
    assert foldstack(washed, "train", "--model", "tiny", "--fold", "1") == 0
    judges = Store(washed).read_run(RunKey("tiny", 0, (1,))).identity.washed
    assert set(judges) == {"fold0-1", "fold1-2"}


def test_how_many_are_washed_away_is_said(washed, capsys):
    assert foldstack(washed, "train", "--model", "tiny", "--fold", "0") == 0
    run = Store(washed).read_run(RunKey("tiny", 0, (0,)))
    gone = 60 - run.rows
    assert (
        f"tiny seed 0 fold0: {gone} of 40 augmented copies filtered out by tfidf\n"
    ) in capsys.readouterr().out
    assert set(run.identity.washed) == {"fold0-1", "fold0-2"}


REFUSED = {
    "augment_washed_by=tfidf": (
        "augment_washed_by drops copies, of which there are none: set augment_copies"
    ),
    "augment=[keyboard] training.freeze_backbone=true": (
        "augment resamples texts in each epoch, but freeze_backbone runs the backbone once: set "
        "augment_copies, or leave one of them out"
    ),
    "augment=[keyboard] long=windows": (
        "augment resamples texts in each epoch, which changes the number of windows: set "
        "augment_copies, or another `long`"
    ),
    "augment_copies=2": (
        "augment_copies is 2, but augment names no technique: set both or neither"
    ),
}


@pytest.mark.parametrize("sets", list(REFUSED))
def test_what_does_not_go_together_is_refused(backbone, tmp_path, capsys, sets):
    root = make_workspace(tmp_path / "w")
    add_preset(root, backbone)
    assert foldstack(root, "folds") == 0
    options = [word for pair in sets.split() for word in ("--set", pair)]
    capsys.readouterr()
    sentence = f"tiny.yaml with --set: {REFUSED[sets]}"
    refuses(root, ["train", "--model", "tiny", *options], sentence, capsys)
