"""Forecasts of training time by `init`, from each model's first steps on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from foldstack.learners import Measured, sequence
from foldstack.learners.sequence import SequenceLearner
from foldstack.learners.transformer import TransformerLearner
from foldstack.progress import duration
from foldstack.stages import forecast as stage
from foldstack.stages import jobs as jobs_stage
from foldstack.stages.forecast import forecast, forecast_note
from foldstack.stages.init import init
from foldstack.workspace import Workspace
from makers import make_learner as make_tiny
from makers import tiny_rows
from test_language_models import make_masked
from test_presets import checkpoint
from tiny import add_preset, foldstack, make_workspace, write

pytestmark = pytest.mark.usefixtures("cpu_settings_restored", "forecasts_made")


@pytest.fixture
def root(tmp_path: Path, backbone: Path) -> Path:
    """24 training and 6 test rows, three folds and two seeds of a tiny transformer."""
    workspace = make_workspace(tmp_path / "w", models=["tiny"], seeds=[0, 1])
    add_preset(workspace, backbone)
    return workspace


def made_for(root: Path, model: str = "tiny"):
    ws = Workspace.open(root, [])
    return forecast(ws.competition, ws.root, model)


def test_the_first_steps_are_taken(root):
    made = made_for(root)
    assert (made.model, made.runs) == ("tiny", 6)
    assert made.seconds > 0 and made.learned_per_second > 0 and made.predicted_per_second > 0
    assert made.precision in ("fp32", "bf16", "fp16")


def test_a_decoder_has_a_forecast(root, tmp_path):
    place = checkpoint("qwen3-0.6b", tmp_path / "qwen")
    write(root / "presets/tiny.yaml", f"preset: decoder\nbackbone: {place}\n")
    assert made_for(root).seconds > 0


@pytest.mark.parametrize("cores, threads, jobs", [(1, 1, 1), (2, 1, 2), (24, 4, 6)])
def test_all_runs_share_the_machine(root, monkeypatch, cores, threads, jobs):
    """A run: 10 s to fit 16 rows, 14 predicted at 1 s each; as many runs at once as train takes."""
    seen = []

    def measure(learner: TransformerLearner, rows, learned: int) -> Measured:
        seen.append((len(rows), learned))
        return Measured(1e9, fit_seconds=10.0, learned_per_second=16.0, row_seconds=1.0)

    made_with = []

    def context_with(task, seed: int, threads: int, **files):
        made_with.append(threads)
        return context(task, seed, threads, **files)

    context = stage.LearnerContext
    monkeypatch.setattr(stage, "LearnerContext", context_with)
    monkeypatch.setattr(TransformerLearner, "measure", measure)
    monkeypatch.setattr(jobs_stage, "cpu_cores", lambda: cores)
    monkeypatch.setattr(jobs_stage, "has_gpu", lambda: False)
    assert made_for(root).seconds == pytest.approx(24 * 6 / jobs)
    assert seen == [(24, 16)] and made_with == [threads]


def test_on_a_gpu_one_run_at_a_time(root, monkeypatch):
    measured = Measured(1e9, fit_seconds=10.0, learned_per_second=16.0, row_seconds=1.0)
    monkeypatch.setattr(TransformerLearner, "measure", lambda *given: measured)
    monkeypatch.setattr(jobs_stage, "has_gpu", lambda: True)
    assert made_for(root).seconds == pytest.approx(24 * 6)


@pytest.mark.slow  # the hub is asked several times where no network answers
def test_a_backbone_that_is_not_here_has_no_forecast(root):
    """`init` is not refused: the hub may be reachable later."""
    add_preset(root, Path("nobody/no-such-model"))
    made = made_for(root)
    assert made.seconds is None
    assert made.reason == (
        "backbone 'nobody/no-such-model' is neither in this machine's cache nor reachable on the hub"
    )
    assert forecast_note(made) == f"time not known: {made.reason}"


def test_init_writes_the_forecast_beside_the_model(tmp_path, root, monkeypatch, capsys):
    given = {role: root / f"input/{name}.csv" for role, name in (
        ("train", "train"), ("test", "test"), ("sample", "sample_submission")
    )}  # fmt: skip
    measured = Measured(1e9, 60.0, learned_per_second=16.0, row_seconds=0.0001, work="10 epochs")
    monkeypatch.setattr(TransformerLearner, "measure", lambda *given: measured)
    made = init(tmp_path / "new", **given)
    listed = {each.model: each for each in made.forecasts}
    assert list(listed) == ["tfidf", "naive-bayes", "minilm"]
    text = (tmp_path / "new/competition.yaml").read_text(encoding="utf-8")
    note = (
        f"about {duration(listed['minilm'].seconds)} for 5 runs, 10 epochs in each of 3 fits, on the "
        "machine of `init`"
    )
    assert f"  - minilm            # {note}\n" in text
    assert yaml.safe_load(text)["models"] == ["tfidf", "naive-bayes", "minilm"]

    capsys.readouterr()
    names = ("train", "test", "sample")
    options = [text for name in names for text in (f"--{name}", str(given[name]))]
    assert foldstack(tmp_path / "quick", "init", "--quick", *options) == 0
    assert "for 5 runs here" not in capsys.readouterr().out
    assert "for 5 runs" not in (tmp_path / "quick/competition.yaml").read_text(encoding="utf-8")


# Augmentation


def measured_with(
    backbone: Path, seconds: tuple[float, float], monkeypatch, **settings
) -> Measured:
    """Of eight rows, for 1,000 rows, two epochs; changes take so long that updates count nothing."""
    monkeypatch.setattr(SequenceLearner, "_change_seconds", lambda *given: seconds)
    learner = make_tiny(backbone, training={"epochs": 2}, **settings)
    return learner.measure(tiny_rows(n=8), 1000)


@pytest.mark.parametrize(("copies", "times"), [(0, 2), (3, 3)])
def test_changes_are_counted_in_each_epoch_or_for_each_copy(backbone, monkeypatch, copies, times):
    settings = {"augment": ["swap_words"], "augment_copies": copies}
    made = measured_with(backbone, (0.0, 1e6), monkeypatch, **settings)
    assert made.fit_seconds == pytest.approx(1000 * times * 1e6, rel=1e-3)
    assert made.seed_row_seconds == 0


def test_what_language_models_change_is_counted_once_for_the_runs_of_a_seed(
    root, backbone, monkeypatch
):
    made = measured_with(backbone, (1e6, 0.0), monkeypatch, augment=["swap_words"])
    assert made.fit_seconds < 1e6 and made.seed_row_seconds == 2e6
    measured = Measured(1e9, 10.0, 16.0, 1.0, seed_row_seconds=1e6)
    monkeypatch.setattr(TransformerLearner, "measure", lambda *given: measured)
    assert made_for(root).seconds == pytest.approx(24 * 2 * 1e6, rel=1e-3)


def test_copies_are_more_rows_to_learn(backbone, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(sequence.time, "monotonic", lambda: float(next(now)))
    alone = measured_with(backbone, (0.0, 0.0), monkeypatch)
    settings = {"augment": ["swap_words"], "augment_copies": 3}
    assert measured_with(
        backbone, (0.0, 0.0), monkeypatch, **settings
    ).fit_seconds == pytest.approx(4 * alone.fit_seconds)


def test_which_changes_take_which_time(backbone, tmp_path):
    model = make_masked(tmp_path / "m")
    of_models, others = {"name": "contextual_words", "model": model}, "swap_words"
    of_file = {"name": "from_file", "file": "made.csv"}
    for augment, slow in (
        ([of_models], (True, False)),
        ([others], (False, True)),
        ([of_file], (False, False)),
    ):
        learner = make_tiny(backbone, augment=augment, augment_copies=1)
        assert tuple(s > 0 for s in learner._change_seconds(tiny_rows(n=8))) == slow


def test_words_of_unlabelled_texts_by_a_model_that_is_not_there_have_no_forecast(root, backbone):
    filled = {"name": "contextual_words", "model": "pretrained"}
    add_preset(root, backbone, pretrain={}, consistency={"augment": [filled]})
    reason = "augment fills words by a model that is not pretrained yet"
    assert made_for(root).reason == reason
