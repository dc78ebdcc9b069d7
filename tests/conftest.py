from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foldstack import hints
from tiny import FORK_SERVER, go_through, make_backbone, make_workspace


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def plain_commands(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Sentences name commands without the WORKSPACE= of a temporary folder, but in test_shell.py."""
    if request.path.name != "test_shell.py":
        monkeypatch.setattr(hints, "remember", lambda workspace, debug: None)
        monkeypatch.setattr(hints, "_options", [])  # of a fixture of the session
        monkeypatch.setattr(hints, "_by_make", [True])


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """24 training and 6 test rows, three folds, tfidf."""
    return make_workspace(tmp_path / "w")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with folds, three tfidf runs, a blend and a submission, to be copied only."""
    return go_through(make_workspace(tmp_path_factory.mktemp("finished") / "w"))


@pytest.fixture(autouse=True)
def without_forecasts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` measures no models, unless a test asks for `forecasts_made`."""
    if "forecasts_made" not in request.fixturenames:
        monkeypatch.setattr("foldstack.stages.init.forecasts", lambda *given: iter(()))


@pytest.fixture
def forecasts_made() -> None:
    """`init` measures the models, as it does for a user."""


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT checkpoint."""
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of four layers that change their input, over 500 word embeddings."""
    folder = tmp_path_factory.mktemp("deep")
    return make_backbone(folder, num_hidden_layers=4, vocab_size=500, initializer_range=0.3)


@pytest.fixture(scope="module")
def cpu_settings_restored():
    """A learner sets threads and denormals for its process; other modules get them as they were."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def fork_server():
    """The processes forked from it have torch imported already."""
    FORK_SERVER.set_forkserver_preload(
        [
            "foldstack.learners.transformer",
            "foldstack.stages.train",
            "pyarrow.parquet",
            "torch.distributed",
            "transformers.models.bert.modeling_bert",
        ]
    )
