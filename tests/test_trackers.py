"""Experiment trackers: what they are sent, and that they change nothing of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from foldstack.files import read_json
from tiny import add_preset, foldstack, go_through, make_workspace, refuses

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


class Stub(GeneralTracker):
    """A tracker that keeps what it is sent."""

    name = "trackio"
    requires_logging_directory = False
    made: list[Stub]

    def __init__(self, project: str, **options: object):
        super().__init__()
        self.project, self.options = project, options
        self.logged, self.settings, self.finished = [], None, False
        Stub.made.append(self)

    @property
    def tracker(self) -> list:
        return self.logged

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict) -> None:
        self.settings = values

    def log(self, values: dict, step: int | None = None, **_: object) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Stub]:
    """The class that stands in for trackio's, whose package seems to be installed."""
    Stub.made = []
    package = ModuleType("trackio")
    package.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "trackio", package)
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "trackio", Stub)
    return Stub


@pytest.fixture
def workspace(tmp_path: Path, backbone: Path) -> Path:
    root = make_workspace(
        tmp_path / "w", models=["tiny"], metric="accuracy", runtime={"threads": 1}
    )
    add_preset(root, backbone, training={"select": "inner", "warmup": 0.0})
    return go_through(root, "folds")


TRAIN = ("train", "--model", "tiny", "--fold", "0")
TRACKED = (*TRAIN, "--set", "runtime.trackers=trackio")


def test_loss_rate_and_scores_are_logged_under_the_runs_name(workspace, stub):
    assert foldstack(workspace, *TRACKED) == 0
    (made,) = stub.made
    assert (made.project, made.options) == ("tiny", {"name": "tiny/seed0/fold0"})
    assert made.settings["training.batch_size"] == 8
    assert made.settings["head.name"] == "mean"
    record = read_json(workspace / "oof/tiny/seed0/fold0/run.json")
    names = [sorted(values) for _, values in made.logged]
    assert names == [["metric"], ["loss", "lr"], ["metric"], ["held-out accuracy"]]
    (first, one), (last, trained), (_, two), (at, held) = made.logged
    assert (first, last, at) == (record["updates"] // 2, record["updates"], record["updates"])
    assert [one["metric"], two["metric"]] == record["epoch_metric"]
    assert trained["loss"] == pytest.approx(record["losses"][-1][1], rel=1e-5)
    assert trained["lr"] == pytest.approx(0.001 / record["updates"])  # linear, of the last update
    assert held["held-out accuracy"] == record["score"]
    assert made.finished


def test_a_model_without_a_loop_logs_its_score(workspace, stub):
    args = ("train", "--model=tfidf", "--fold=0", "--set", "runtime.trackers=trackio")
    assert foldstack(workspace, *args) == 0
    (made,) = stub.made
    assert [sorted(values) for _, values in made.logged] == [["held-out accuracy"]]


def test_stages_and_further_fits_have_names_of_their_own(workspace, backbone, stub):
    training = {"epochs": 1}
    add_preset(workspace, backbone, training=training, stages=[{}, {"lr": 1e-4}], repeats=2)
    assert foldstack(workspace, *TRACKED) == 0
    names = [name for _, values in stub.made[0].logged for name in values if "loss" in name]
    assert names == ["stage1/loss", "stage2/loss", "fit2/stage1/loss", "fit2/stage2/loss"]


def test_a_run_is_the_same_with_trackers(workspace, stub):
    """Neither identity nor bytes change, so that a tracked run is finished for an untracked call."""
    folder = workspace / "oof/tiny/seed0/fold0"

    def made() -> tuple:
        record = read_json(folder / "run.json")
        return record["identity"], record["files"], record["losses"], record["predictions"]

    assert foldstack(workspace, *TRAIN) == 0
    plain = made()
    assert foldstack(workspace, *TRACKED, "--force") == 0
    assert stub.made
    assert made() == plain


def test_trackers_are_finished_after_an_error(workspace, stub, monkeypatch):
    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("foldstack.stages.one_run._predict", fails)
    with pytest.raises(RuntimeError):
        foldstack(workspace, *TRACKED)
    assert stub.made[0].finished


def test_a_missing_package_is_said_before_training(workspace, capsys, monkeypatch):
    find = "foldstack.tracking.importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name: None)
    sentence = (
        "runtime.trackers: wandb requires the package wandb, which is not installed: pip install "
        "wandb, or leave it out"
    )
    refuses(workspace, [*TRAIN, "--set", "runtime.trackers=wandb"], sentence, capsys)
    assert not (workspace / "oof/tiny").exists()


def test_an_unknown_tracker_is_refused_with_the_nearest(workspace, capsys):
    assert foldstack(workspace, *TRAIN, "--set", "runtime.trackers=tensorbord") == 2
    assert "did you mean 'tensorboard'?" in capsys.readouterr().err


def test_tensorboard_has_the_curves(workspace):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert foldstack(workspace, *TRAIN, "--set", "runtime.trackers=tensorboard") == 0
    events = EventAccumulator(str(workspace / "tracking/tiny/seed0/fold0"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["held-out accuracy", "loss", "lr", "metric"]
    assert len(events.Scalars("metric")) == 2
