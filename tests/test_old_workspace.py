"""A workspace made before records were typed (commit 0f9b142) gives what it gave then.

A linear model, a transformer of two layers and one that starts from it, a blend of labels and two
submissions. Nothing in tests/fixtures/workspace is ever written again by newer code.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import foldstack as package
from foldstack.files import read_json
from tiny import files, foldstack

OLD = Path(__file__).parent / "fixtures" / "workspace"

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "w"))


def without_version(record: dict) -> dict:
    return {k: v for k, v in record.items() if k not in ("version", "digest", "files")}


def test_its_runs_need_no_training(old: Path, capsys: pytest.CaptureFixture) -> None:
    before = files(old)
    assert foldstack(old, "train") == 0
    assert "train: nothing to do, 9 finished" in capsys.readouterr().out
    assert files(old) == before


def test_another_seed_is_trained_with_the_preset_of_its_runs(old: Path) -> None:
    """The shipped tfidf has `C: auto` today; runs of both could not be blended."""
    assert foldstack(old, "train", "--model", "tfidf", "--seed", "1", "--fold", "0") == 0
    other = read_json(old / "oof/tfidf/seed1/fold0/run.json")
    assert other["identity"]["settings"]["C"] == 4.0 and "auto" not in other
    assert foldstack(old, "train", "--model", "tfidf", "--fold", "0", "--force") == 0
    forced = read_json(old / "oof/tfidf/seed0/fold0/run.json")
    assert forced["identity"]["settings"]["C"] == "auto" and forced["auto"]["C"]["value"] >= 4


def test_blend_and_submit_give_the_same_bytes(old: Path) -> None:
    shutil.rmtree(old / "oof/_blends")
    for name in ("blend.csv", "blend.json", "tiny.csv", "tiny.json"):
        (old / "submissions" / name).unlink()
    for command in (["blend"], ["submit"], ["submit", "--model", "tiny"]):
        assert foldstack(old, *command) == 0
    for name in ("submissions/blend.csv", "submissions/tiny.csv", "oof/_blends/blend/labels.csv"):
        assert (old / name).read_bytes() == (OLD / name).read_bytes(), name
    for name in ("oof/_blends/blend/blend.json", "submissions/blend.json", "submissions/tiny.json"):
        now, then = (without_version(read_json(root / name)) for root in (old, OLD))
        then.pop("positives")  # of probabilities and of few test rows they are no longer counted
        now["rules"].pop("reference")
        assert {k: now.get(k) for k in then} == then, name


def test_its_stored_blend_is_submitted(old: Path) -> None:
    (old / "submissions/blend.csv").unlink()
    (old / "submissions/blend.json").unlink()
    assert foldstack(old, "submit") == 0
    assert (old / "submissions/blend.csv").read_bytes() == (
        OLD / "submissions/blend.csv"
    ).read_bytes()


@pytest.mark.parametrize("command", ["scores", "views", "report", "score"])
def test_it_is_shown(old: Path, command: str, capsys: pytest.CaptureFixture) -> None:
    assert foldstack(old, command) == 0
    shown = capsys.readouterr()
    assert shown.err == "" and "STALE" not in shown.out and "OPTIMISTIC" not in shown.out


@pytest.mark.parametrize("of", [{"blend": "blend"}, {"model": "later"}], ids=str)
def test_it_predicts_new_texts(old: Path, of: dict) -> None:
    texts = [line.split(",")[1] for line in (OLD / "input/test.csv").read_text().split("\n")[1:7]]
    predicted = package.load(old, **of).predict(texts)
    assert len(predicted.labels) == len(predicted.probabilities) == 6


def test_its_blend_was_made_of_runs_compared_on_the_test_rows(old: Path) -> None:
    assert package.load(old).stale == ["was made by a version that compared runs on the test rows"]


def test_a_changed_setting_makes_its_runs_others(old: Path, capsys: pytest.CaptureFixture) -> None:
    args = ("--set", "training.epochs=3", "train", "--model", "tiny", "--fold", "0")
    assert foldstack(old, *args) == 2
    assert "(training.epochs 2 → 3)" in capsys.readouterr().err
