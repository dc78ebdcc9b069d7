"""`make compare`: the paired difference between models on the same folds and seeds."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from foldstack.metrics import get
from foldstack.stages.dependencies import merged
from foldstack.store import RunKey, Store
from foldstack.workspace import Workspace
from tiny import foldstack, make_workspace, seal, write, write_competition

CHARS = "learner: tfidf\nword_ngrams: [0, 0]\nmin_count: 1\n"
SEEDS = "--seed", "0,1"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """60 rows; `words` and `weak` trained with two seeds, `kept` a variant that NAME= kept."""
    root = make_workspace(tmp_path_factory.mktemp("compare") / "w", n=60)
    write(root / "presets/words.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\nmin_count: 1\n")
    write(root / "presets/weak.yaml", CHARS + "C: 0.0001\nmax_features: 3\n")
    write_competition(root, models=["words", "weak"])
    assert foldstack(root, "folds") == 0
    for model, name in (("words", "words"), ("weak", "weak"), ("words", "kept")):
        for seed in "01":
            for fold in "012":
                options = ["--model", model, "--name", name, "--seed", seed, "--fold", fold]
                extra = ["--set", "C=0.5"] if name == "kept" else []
                assert foldstack(root, "train", *options, *extra) == 0
    return root


def oof(root: Path, model: str, seed: int, of: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """One seed's out-of-fold predictions; 0 for the rows of other folds."""
    ws = Workspace.open(root, [])
    rows = ws.competition.train
    folds = ws.store.read_folds(rows)
    raw = np.zeros(rows.targets.shape)
    for fold in of:
        held = folds.held_out((fold,))
        key = RunKey(model, seed, (fold,))
        raw[held] = ws.store.read_predictions(key, "heldout", rows.take(held)).raw
    return raw


def pooled(root: Path, model: str, seed: int) -> float:
    """The score of one seed's out-of-fold predictions."""
    targets = Workspace.open(root, []).competition.train.targets
    return get("roc_auc", "binary").score(targets, oof(root, model, seed))


def test_the_difference_is_of_pooled_scores_with_its_interval(done, capsys):
    capsys.readouterr()
    assert foldstack(done, "compare", "--a", "words", "--b", "weak,kept", *SEEDS) == 0
    out = capsys.readouterr().out
    first = np.mean([pooled(done, "words", s) for s in (0, 1)])
    assert (f"compare: words has roc_auc {first:.4f}, pooled over the 3 folds, seeds 0, 1\n") in out
    weak, kept = out.splitlines()[-2:]
    by_seed = [pooled(done, "weak", s) - pooled(done, "words", s) for s in (0, 1)]
    form = r"weak +(\S+) +(\S+) \[(\S+), (\S+)\] +\S+ +\S+ +(\S+) (\S+) +(\S+)x$"
    score, difference, low, high, one, two, time = map(float, re.match(form, weak).groups())
    assert score == pytest.approx(np.mean([pooled(done, "weak", s) for s in (0, 1)]), abs=1e-4)
    assert difference == pytest.approx(np.mean(by_seed), abs=1e-4)
    assert (one, two) == pytest.approx(tuple(by_seed), abs=1e-4)
    assert low < difference < high and high < 0  # weak is worse, beyond doubt
    assert difference - low == pytest.approx(high - difference, abs=2e-4)
    assert time > 0
    assert kept.startswith("kept ")


def test_a_model_is_exactly_as_good_as_its_copy(done, tmp_path, capsys):
    """On the same resamples: on others its own interval would be as wide as between two models."""
    root = shutil.copytree(done, tmp_path / "w")
    shutil.copytree(root / "oof/words", root / "oof/copy")
    capsys.readouterr()
    assert foldstack(root, "compare", "--a", "words", "--b", "copy", *SEEDS) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r" \+0.0000 \[\+0.0000, \+0.0000\] +0.0000 +0.0000  \+0.0000 \+0.0000 ", last)


def stored(root: Path) -> dict:
    return json.loads((root / "oof/_comparisons/words-vs-weak.json").read_text())


def test_one_seed_gives_intervals_over_rows_only_and_says_so(done, capsys):
    capsys.readouterr()
    assert foldstack(done, "compare", "--a", "words", "--b", "weak", "--seed", "0") == 0
    out = capsys.readouterr().out
    assert "pooled over the 3 folds, seed 0\n" in out
    assert (
        "compare: intervals over rows only, since one seed shows no variance between seeds; "
        "SEED=0,1,2 includes it\n"
    ) in out
    assert "± seeds" not in out
    found = stored(done)
    assert found["interval_over"] == ["rows"]
    (row,) = found["rows"]
    assert row["seed_error"] is None and row["row_error"] == row["standard_error"]


def test_several_seeds_give_intervals_over_rows_and_seeds_and_say_so(done, capsys):
    capsys.readouterr()
    assert foldstack(done, "compare", "--a", "words", "--b", "weak", *SEEDS) == 0
    out = capsys.readouterr().out
    assert (
        "compare: intervals over rows and 2 seeds of each model, by a t quantile; ± rows and ± seeds "
        "are the two parts of the standard error\n"
    ) in out
    found = stored(done)
    assert found["interval_over"] == ["rows", "seeds"]
    (row,) = found["rows"]
    assert row["standard_error"] == pytest.approx(math.hypot(row["row_error"], row["seed_error"]))
    assert f"  {row['row_error']:.4f}   {row['seed_error']:.4f}  " in out.splitlines()[-1]


@pytest.mark.slow
def test_what_is_missing_is_trained_first(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", n=30, runtime={"threads": 1})
    write(root / "presets/words.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\nmin_count: 1\n")
    write(root / "presets/chars.yaml", CHARS)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "compare", "--a", "words", "--b", "chars") == 0
    assert {key.model for key in Store(root).runs()} == {"words", "chars"}
    assert "against words" in capsys.readouterr().out


@pytest.mark.slow
def test_some_folds_alone_are_trained_and_scored(tmp_path, capsys):
    root = make_workspace(tmp_path / "w", n=60, runtime={"threads": 1})
    write(root / "presets/words.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\nmin_count: 1\n")
    write(root / "presets/chars.yaml", CHARS)
    assert foldstack(root, "folds") == 0
    capsys.readouterr()
    assert foldstack(root, "compare", "--a", "words", "--b", "chars", "--fold", "0,2") == 0
    out = capsys.readouterr().out
    assert {key.left_out for key in Store(root).runs()} == {(0,), (2,)}
    ws = Workspace.open(root, [])
    rows = ws.competition.train
    held = ws.store.read_folds(rows).held_out((0, 2))
    score = get("roc_auc", "binary").score(rows.targets[held], oof(root, "words", 0, (0, 2))[held])
    over = "folds 0, 2 of 3 (40 rows), seed 0"
    assert f"compare: words has roc_auc {score:.4f}, pooled over {over}\n" in out


def test_labels_are_compared_as_they_are_submitted(done, tmp_path, capsys):
    """With a metric of labels each model gets its threshold, fitted on the other folds."""
    root = make_workspace(tmp_path / "w", n=60, metric="f1", models=["words", "weak"])
    write(root / "presets/words.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\nmin_count: 1\n")
    write(root / "presets/weak.yaml", CHARS + "C: 0.0001\nmax_features: 3\n")
    assert foldstack(root, "folds") == 0
    for model in ("words", "weak"):
        for fold in "012":
            assert foldstack(root, "train", "--model", model, "--fold", fold) == 0
    assert foldstack(root, "blend") == 0
    info = json.loads((root / "oof/_blends/blend/blend.json").read_text())
    capsys.readouterr()
    assert foldstack(root, "compare", "--a", "words", "--b", "weak") == 0
    out = capsys.readouterr().out
    for model in ("words", "weak"):
        assert f"{info['models'][model]['nested']['score']:.4f}" in out


REFUSED = {
    "": "compare requires two models: make compare A=minilm B=roberta (or B=x,y,z)",
    "--a words": "compare requires two models: make compare A=minilm B=roberta (or B=x,y,z)",
    "--a words,weak --b kept": ("A=words,weak: compare one model with those of B=, not 2 at once"),
    "--a words --b weak,words": "words is in both A= and B=: name another model in B=",
    "--a word --b weak": (
        "model 'word' is not known: did you mean 'words'? (your own goes into presets/NAME.yaml)"
    ),
    "--a words --b weak --fold 0": (
        "FOLD=0: compare requires two folds or more, each left out alone, as FOLD=0,1"
    ),
    "--a words --b weak --fold 0-1,2": (
        "FOLD=0-1,2: compare requires two folds or more, each left out alone, as FOLD=0,1"
    ),
    "--a words --b kept --seed 0,1,2": (
        "model 'kept' has no run for fold0 of seed 2 (3 missing in all): run "
        "`make train MODEL=words NAME=kept FOLD=0,1,2 SEED=2`, or leave this model out"
    ),
}


@pytest.mark.parametrize("options", list(REFUSED))
def test_a_wrong_comparison_is_refused(done, capsys, options):
    if "0,1,2" in options:  # what has a preset would be trained first
        for fold in "012":
            train = ["train", "--model", "words", "--seed", "2", "--fold", fold]
            assert foldstack(done, *train) == 0
    capsys.readouterr()
    assert foldstack(done, "compare", *options.split()) == 2
    assert capsys.readouterr().err == f"foldstack: {REFUSED[options]}\n"


def test_counts_alone_do_not_make_two_reasons_of_one():
    """Five folds, each with another number of crossing texts, are one line."""
    runs = [
        ["1,020 texts cross", "a-2: 7 texts cross", "the epoch was chosen"],
        ["980 texts cross", "a-2: 9 texts cross", "the epoch was chosen"],
    ]
    assert merged(why for run in runs for why in run) == [
        "980 to 1,020 texts cross",
        "a-2: 7 to 9 texts cross",
        "the epoch was chosen",
    ]


def test_what_is_optimistic_stays_so(done, capsys):
    path = Store(done).run_dir(RunKey("weak", 0, (0,))) / "run.json"
    before = path.read_text()
    run = json.loads(before)
    run["optimistic"] = ["the epoch was chosen on the held-out fold"]
    path.write_text(json.dumps(run))
    seal(path.parent)
    capsys.readouterr()
    assert foldstack(done, "compare", "--a", "words", "--b", "weak", *SEEDS) == 0
    path.write_text(before)
    assert capsys.readouterr().out.endswith(
        "weak: OPTIMISTIC, the epoch was chosen on the held-out fold\n"
    )
