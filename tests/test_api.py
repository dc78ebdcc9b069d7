"""The Python API: the same records as the stages return, and nothing printed but progress."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import foldstack
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.records import Comparison, ViewsRecord
from foldstack.stages import launch
from tiny import files, make_workspace, write

OLD = Path(__file__).parent / "fixtures" / "workspace"

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "w"))


def test_scores_are_data_frames_and_are_not_printed(
    old: Path, capsys: pytest.CaptureFixture
) -> None:
    project = foldstack.open(old)
    runs, blends = project.scores(), project.blends()
    assert runs["model"].tolist() == ["later"] * 3 + ["tfidf"] * 3 + ["tiny"] * 3
    run = read_json(old / "oof/tiny/seed0/fold1/run.json")
    assert runs.query("model == 'tiny' and run == 'fold1'")["score"].item() == run["score"]
    nested = read_json(old / "oof/_blends/blend/blend.json")["nested"]
    assert blends[["blend", "nested", "low", "high"]].values.tolist() == [
        ["blend", nested["score"], nested["low"], nested["high"]]
    ]
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_a_comparison_is_returned_and_kept(old: Path) -> None:
    """Its numbers are those of the file, which another process reads again."""
    found = foldstack.open(old).compare("tfidf", "tiny", "later", fold=[0, 1], seed=0)
    assert (found.baseline, found.folds, found.folds_in_all) == ("tfidf", [0, 1], 3)
    assert found.frame["model"].tolist() == ["tiny", "later"]
    assert "<td>tiny</td>" in found._repr_html_()
    (kept,) = foldstack.open(old).comparisons()
    assert kept.to_json() == found.to_json()
    assert (old / "oof/_comparisons/tfidf-vs-tiny+later.json").exists()


def test_views_folds_and_predictions(old: Path, capsys: pytest.CaptureFixture) -> None:
    project = foldstack.open(old)
    before = files(old)
    folds = project.folds()
    assert files(old) == before and not folds.made
    assert folds.frame[["fold", "rows"]].values.tolist() == [[0, 8], [1, 8], [2, 8]]
    views = project.views(model="tfidf")
    assert isinstance(views, ViewsRecord) and views.frame["view"][0] == "all rows"
    assert (old / views.file).read_text() == views.frame.to_csv(index=False)
    assert len(project.predict(["a fine film", "a dull plot"]).labels) == 2
    assert capsys.readouterr().out == ""


def test_from_folds_to_a_submission(tmp_path: Path) -> None:
    """Folds and seeds are numbers, lists or text."""
    root = make_workspace(tmp_path / "w")
    write(root / "presets/words.yaml", "learner: tfidf\nchar_ngrams: [0, 0]\nmin_count: 1\n")
    project = foldstack.open(root, ["runtime.threads=1"])
    assert project.folds().made
    for fold in (0, [1], "2"):
        project.train("words", fold=fold, seed=0)
    assert project.scores()["run"].tolist() == ["fold0", "fold1", "fold2"]
    assert project.blends().empty
    project.blend(["words"], name="one")
    project.submit(name="one")
    assert project.blends()["blend"].tolist() == ["one"]
    assert (root / "submissions/one.csv").exists()


def test_what_is_shipped_and_shown(finished: Path) -> None:
    project = foldstack.open(finished)
    assert project.rerun(finished / "input/test.csv").file == "submissions/blend-test.csv"
    assert project.bundle().folder == "bundle/blend"
    assert project.page().file == "submissions/blend.html"
    with pytest.raises(InputError, match="WEIGHTS=fp8 is not known"):
        project.bundle(weights="fp8")


def test_what_is_wrong_is_an_input_error(tmp_path: Path, old: Path) -> None:
    with pytest.raises(InputError, match=r"competition\.yaml"):
        foldstack.open(tmp_path)
    project = foldstack.open(old)
    assert repr(project) == f"Project({str(old)!r})"
    with pytest.raises(InputError, match="tfidf is in both A= and B="):
        project.compare("tfidf", "tfidf")
    with pytest.raises(InputError, match="compare requires two models"):
        project.compare("tfidf")
    assert isinstance(project.compare("tfidf", "tiny"), Comparison)


CHOICE = "give a name, a whole number, a list of them, or None for all"
NOTHING = "names nothing: give None for all"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda p: p.train([]), f"model=[] {NOTHING}"),
        (lambda p: p.train("tfidf", fold=[]), f"fold=[] {NOTHING}"),
        (lambda p: p.train("tfidf", seed=()), f"seed=() {NOTHING}"),
        (lambda p: p.blend([]), f"model=[] {NOTHING}"),
        (lambda p: p.report(model=[]), f"model=[] {NOTHING}"),
        (lambda p: p.train("tfidf", fold=0.0), f"fold=0.0: {CHOICE}"),
        (lambda p: p.train("tfidf", fold=[None]), f"fold=[None]: {CHOICE}"),
        (lambda p: p.train("tfidf", fold=True), f"fold=True: {CHOICE}"),
        (lambda p: p.train({"tfidf": 1}), f"model={{'tfidf': 1}}: {CHOICE}"),
        (lambda p: p.train(jobs="2"), "jobs='2' is not a whole number of 0 or more"),
        (lambda p: p.train(jobs=-1), "jobs=-1 is not a whole number of 0 or more"),
        (lambda p: p.train(jobs=None), "jobs=None is not a whole number of 0 or more"),
        (lambda p: p.train(force="no"), "force='no' is neither True nor False"),
        (lambda p: p.train("tfidf", name=3), "name=3 is not a name: give a text"),
        (
            lambda p: p.compare("tfidf", "tiny", jobs=-1),
            "jobs=-1 is not a whole number of 0 or more",
        ),
        (lambda p: p.compare(0, "tiny"), "baseline=0 is not a name: give a text"),
        (lambda p: p.views(tail=0), "tail=0 is not a whole number of 1 or more"),
        (lambda p: p.views(model=["tfidf"]), "model=['tfidf'] is not a name: give a text"),
        (
            lambda p: p.views(model="tfidf", name="blend"),
            "views takes MODEL= or the blend's NAME=, not both",
        ),
        (
            lambda p: p.report(model="tfidf", name="blend"),
            "report takes MODEL= or the blend's NAME=, not both",
        ),
        (
            lambda p: p.predict(["a"], model="tfidf", blend="blend"),
            "predict takes a model or a blend, not both",
        ),
        (
            lambda p: p.predict("a film", model="tfidf"),
            "the given texts: 'a film' is not a list of texts: put it into a list",
        ),
        (
            lambda p: p.predict(["a film", 3], model="tfidf"),
            "the given texts: row 2 is 3, which is not a text",
        ),
        (
            lambda p: p.predict(None, model="tfidf"),
            "the given texts: None is not a list of texts: put it into a list",
        ),
        (lambda p: p.distil(mb=0), "mb=0 is not a number above 0"),
        (lambda p: p.distil(rate="9"), "rate='9' is not a number above 0"),
        (lambda p: p.submit(fold=0), "fold=0 is not a name: give a text"),
        (
            lambda p: foldstack.open(p.workspace.root, {"folds.count": 10}),
            "sets={'folds.count': 10}: give a list of texts such as 'folds.count=10'",
        ),
        (lambda p: foldstack.open(None), "workspace=None is not a folder: give its path"),
    ],
)
def test_an_argument_of_another_type_is_refused(old: Path, call, sentence: str) -> None:
    """None of them is taken for all models or folds, or letter by letter."""
    with pytest.raises(InputError) as error:
        call(foldstack.open(old))
    assert str(error.value) == sentence


def test_numbers_of_numpy_and_settings_in_one_text_are_taken(old: Path) -> None:
    project = foldstack.open(old, "folds.count=10 blend.seed=3")
    assert project.workspace.given == {"folds": {"count": "10"}, "blend": {"seed": "3"}}
    project = foldstack.open(old)
    assert project.train("tfidf", fold=np.int64(1), seed=np.arange(1)).finished == [
        "tfidf seed 0 fold1"
    ]


def test_a_comparison_of_finished_runs_prints_nothing(old: Path, capsys) -> None:
    foldstack.open(old).compare("tfidf", "tiny")
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_ctrl_c_stops_the_runs(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's signal reaches this process alone, where no handler of foldstack's is installed."""
    stopped = old / "stopped"
    program = (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try:\n"
        "    os.kill(os.getppid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        f"    pathlib.Path({str(stopped)!r}).touch()\n"
    )
    monkeypatch.setattr(launch, "_command", lambda *_: [sys.executable, "-c", program])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            foldstack.open(old).train("tfidf", fold=[0, 1], force=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.exists()
