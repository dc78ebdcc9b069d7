"""The Python API: the same records as the stages return, and nothing printed but progress."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import foldstack
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.records import Comparison, ViewsRecord
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
