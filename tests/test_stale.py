"""What makes a finished run stale or optimistic after it was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foldstack.stages.dependencies import Doubts, why_stale
from foldstack.store import RunKey
from test_taught import LINEAR
from tiny import foldstack, make_workspace, run_of, write

NETWORK = "preset: fasttext\nsize: 4\nbuckets: 1000\n"
OF_ALL = """join_features: true
words: {stop_words: {file: stop.txt}}
training: {epochs: 1, precision: fp32, auxiliary: 0.5}
"""


def with_columns(root: Path) -> None:
    """Add a feature column to both files, and an auxiliary one to the training file."""
    for name, columns in (("train", ["size", "toxicity"]), ("test", ["size"])):
        path = root / f"input/{name}.csv"
        head, *lines = path.read_text().splitlines()
        more = [",".join([line, *["0.5"] * len(columns)]) for line in lines]
        write(path, "\n".join([",".join([head, *columns]), *more]) + "\n")


@pytest.fixture
def root(tmp_path) -> Path:
    """A network that reads a feature column, an auxiliary one and a file of stop words."""
    root = make_workspace(
        tmp_path / "w",
        n=30,
        models=["network", "linear"],
        numeric=["size"],
        auxiliary=["toxicity"],
    )
    with_columns(root)
    write(root / "input/stop.txt", "the\n")
    write(root / "presets/network.yaml", NETWORK + OF_ALL)
    write(root / "presets/linear.yaml", LINEAR)
    assert foldstack(root, "folds") == 0
    return root


def replaced(path: Path, old: str, new: str) -> None:
    write(path, path.read_text().replace(old, new, 1))


CHANGES = {
    "feature columns": lambda root: replaced(root / "input/train.csv", ",0.5,", ",0.75,"),
    "auxiliary targets": lambda root: replaced(root / "input/train.csv", ",0.5\n", ",0.75\n"),
    "files that its preset names": lambda root: write(root / "input/stop.txt", "a\n"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_run_is_stale_by_all_that_it_learned_from(root, what):
    """And a run that has not learned from it stays as it is."""
    assert foldstack(root, "train", "--fold", "0") == 0
    CHANGES[what](root)
    ws, _ = run_of(root, "network")
    (why,) = why_stale(ws, ws.store.read_run(RunKey("network", 0, (0,))))
    assert why.startswith(f"was made with other {what} (hash ")
    assert why_stale(ws, ws.store.read_run(RunKey("linear", 0, (0,)))) == []


def test_show_counts_stale_runs(root, capsys):
    """And says what makes them again."""
    assert foldstack(root, "train") == 0
    CHANGES["feature columns"](root)
    capsys.readouterr()
    assert foldstack(root, "show") == 0
    said = capsys.readouterr().out.splitlines()
    assert "model network: 3 runs, 3 of them stale" in said and "model linear: 3 runs" in said
    assert said[-1] == "next: `make train MODEL=network FORCE=1`"


def test_a_stale_teacher_by_feature_columns_is_refused(root, capsys):
    write(root / "presets/pupil.yaml", LINEAR + "pseudo_labels: {teachers: network}\n")
    assert foldstack(root, "train", "--model", "network", "--fold", "0") == 0
    CHANGES["feature columns"](root)
    assert foldstack(root, "train", "--model", "pupil", "--fold", "0") == 2
    said = capsys.readouterr().err
    assert "needs network seed 0 fold0, which was made with other feature columns" in said


def test_a_removed_file_makes_no_run_stale(root):
    """It cannot be compared."""
    assert foldstack(root, "train", "--model", "network", "--fold", "0") == 0
    (root / "input/stop.txt").unlink()
    ws, _ = run_of(root, "network")
    assert why_stale(ws, ws.store.read_run(RunKey("network", 0, (0,)))) == []


def drifted(monkeypatch: pytest.MonkeyPatch, weights: Callable) -> None:
    for module in ("run", "learned"):
        monkeypatch.setattr(f"foldstack.stages.{module}.weights_to_test", weights)


def test_a_run_is_stale_by_its_weights_to_the_test_file(root, monkeypatch):
    write(root / "presets/weighted.yaml", LINEAR + "row_weights: drift\n")
    drifted(monkeypatch, lambda ws: np.ones(30))
    assert foldstack(root, "train", "--model", "weighted", "--fold", "0") == 0
    ws, _ = run_of(root, "weighted")
    key = RunKey("weighted", 0, (0,))
    assert why_stale(ws, ws.store.read_run(key)) == []
    drifted(monkeypatch, lambda ws: np.linspace(0.5, 1.5, 30))
    (why,) = why_stale(ws, ws.store.read_run(key))
    assert why.startswith("was made with other weights to the test file")
    monkeypatch.undo()
    (why,) = why_stale(ws, ws.store.read_run(key))
    assert why.startswith("cannot be compared with today's rows (drift compares files of 100 rows")


@pytest.mark.parametrize("how", ["pseudo_labels", "distil"])
def test_a_mark_that_a_teacher_gets_later_is_on_its_pupils_too(tmp_path, how):
    """Texts of an external file stand in a new test file: a model may have labelled them.

    The pupil has not chosen the file, and is as it was trained.
    """
    root = make_workspace(tmp_path / "w", n=30, external=["soft.csv"])
    write(root / "input/soft.csv", "text,label\nunheard one,1\n")
    write(root / "presets/linear.yaml", LINEAR)
    teachers = f"external_files: none\n{how}: {{teachers: linear}}\n"
    write(root / "presets/pupil.yaml", LINEAR + teachers)
    write(root / "presets/apart.yaml", LINEAR + "external_files: none\n")
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "pupil,apart") == 0
    (first, *rest) = (root / "input/test.csv").read_text().splitlines()[1:]
    write(root / "input/test.csv", "\n".join(["id,text", *rest, f"{first[:3]}unheard one", ""]))
    ws, _ = run_of(root, "pupil")
    doubts = Doubts.of(ws)
    (why,) = doubts.of_run(ws.store.read_run(RunKey("pupil", 0, (0,))))[1]
    assert "1 external rows" in why and "have texts of the test file" in why
    assert doubts.of_run(ws.store.read_run(RunKey("apart", 0, (0,))))[1] == []
