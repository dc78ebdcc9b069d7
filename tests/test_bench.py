"""The benchmark's own arithmetic, and that it goes through."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from foldstack import config
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.links import to_probabilities
from foldstack.metrics import get
from foldstack.store import RunKey
from foldstack.techniques import TrainingSettings, TransformerSettings
from foldstack.workspace import Workspace
from makers import make_task
from tiny import add_preset, foldstack, make_workspace

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


@pytest.fixture(autouse=True)
def bench(monkeypatch: pytest.MonkeyPatch):
    """tests/bench/speed.py, which finds its neighbours as a script does."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "bench")
    import speed

    return speed


def test_useful_operations_of_a_tiny_case_by_hand(bench):
    """A matrix of 10 weights, one layer of width 4, texts of 2 and 3 tokens: 6·10·5 + 12·4·(4 + 9)."""
    assert bench.useful_flops(10, 1, 4, np.array([2, 3])) == 300 + 624


def test_useful_operations_are_what_torch_counts(bench, backbone):
    """Forward and backward of a backbone, but for the gradient of what the embeddings are."""
    model = AutoModel.from_pretrained(backbone, attn_implementation="eager")
    model.pooler = None
    ids = torch.arange(5, 12).repeat(3, 1)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))[0].sum().backward()
    config = model.config
    size = (config.num_hidden_layers, config.hidden_size)
    counted = bench.useful_flops(bench.matrix_parameters(model), *size, np.full(3, 7))
    assert counter.get_total_flops() == counted


def test_the_peak_is_that_of_a_product(bench, monkeypatch):
    """2 · n³ operations in the median time."""
    moments = iter([0, 9, 9, 10, 10, 12, 12, 16])  # 9 seconds to warm up, then 1, 2, 4
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(moments))
    assert bench.matrix_peak("fp32", size=10, repeats=3) == 2 * 10**3 / 2


def test_tables_have_medians_of_rates_and_scores_of_all_rounds(bench):
    results = bench.Results()
    for ours, rival in ((1.0, 2.0), (2.0, 8.0), (4.0, 40.0)):
        results.add("training vs Trainer", 80, ours, rival, "rows/s")
    assert results.speed_table().splitlines()[2].split() == (
        ["training", "vs", "Trainer", "40.0", "10.0", "rows/s", "4.00x", "2.00-10.00"]
    )
    targets = np.array([[0.0], [0.0], [1.0]])
    for who, rounds in {
        "Trainer": ([0.1, 0.2, 0.3], [0.1, 0.9, 0.5]),  # 1 and 0.5
        "foldstack": ([0.1, 0.2, 0.3], [0.1, 0.2, 0.5]),  # 1 and 1
    }.items():
        for values in rounds:
            results.predicted("films", who, targets, np.array(values)[:, None])
    of = get("roc_auc", "binary").score
    lines = results.score_table({"films": ("roc_auc", of)}).splitlines()
    assert lines[2].split() == ["films", "Trainer", "6", "roc_auc", "0.7500"]
    assert lines[3].split() == [
        "films",
        "foldstack",
        "6",
        "roc_auc",
        "1.0000",
        "+0.2500",
        "±",
        "0.2500",
    ]


@pytest.mark.parametrize("binary_link", ["sigmoid", "softmax"])
def test_the_pipeline_has_the_probabilities_of_the_learners_model(
    bench, backbone, tmp_path, binary_link
):
    """So that the two are compared on the same work."""
    root = make_workspace(tmp_path / "w", n=12)
    rows = Workspace.open(root, []).competition.train
    settings = TransformerSettings(
        learner="transformer",
        backbone=str(backbone),
        binary_link=binary_link,
        training=TrainingSettings(precision="fp32", max_length=16),
    )
    learner = TransformerLearner(settings, LearnerContext(make_task()))
    learner.prepare(rows)
    torch.nn.init.normal_(learner.model.head.weight)
    theirs = bench.rivals.predictor(learner)([t[0] for t in rows.texts])
    ours = to_probabilities(learner.predict(rows), learner.link)
    assert np.ptp(ours) > 1e-3
    assert theirs.shape == ours.shape
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # of Trainer's defaults
def test_trainer_by_length_predicts_the_rows_in_their_order(bench, backbone, tmp_path):
    """Its sampler by length would shuffle the held-out rows too. Nothing is learned here."""
    root = make_workspace(tmp_path / "w", n=12)
    rows = Workspace.open(root, []).competition.train
    training = TrainingSettings(precision="fp32", max_length=16, epochs=1, lr=1e-12)
    settings = TransformerSettings(learner="transformer", backbone=str(backbone), training=training)
    _, plain = bench.rivals.train(settings, rows, rows, seed=0)
    _, by_length = bench.rivals.train(
        settings, rows, rows, seed=0, train_sampling_strategy="group_by_length"
    )
    assert np.abs(by_length - plain).max() < np.ptp(plain) / 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # of Trainer's defaults
def test_the_benchmark_goes_through_and_writes_its_page(bench, backbone, tmp_path, monkeypatch):
    """On a few rows of tiny competitions in the place of the embedded ones."""
    for name in ("movie-reviews", "bbc"):
        root = make_workspace(
            tmp_path / name, n=40, models=["minilm-quick"], runtime={"threads": 1}
        )
        training = {"epochs": 1, "max_length": 16, "precision": "fp32"}
        for preset in ("minilm-quick", "minilm-f1"):
            f1 = {"loss": "soft_f1", "freeze_backbone": True, "head_lr": 1e-3, "epochs": 10}
            stages = {"stages": [{}, f1]} if preset == "minilm-f1" else {}
            add_preset(root, backbone, preset, training, **stages)
        assert foldstack(root, "folds") == 0
    monkeypatch.setattr(bench, "LONG", [])
    monkeypatch.setattr(bench, "CACHED_EPOCHS", 2)
    monkeypatch.setattr(bench, "matrix_peak", partial(bench.matrix_peak, size=64))
    out = tmp_path / "bench.md"
    arguments = ["--short", "--rounds", "2", "--rows", "16", "--long-rows", "8"]
    bench.main([*arguments, "--workspace", str(tmp_path), "--out", str(out)])
    page = out.read_text()
    assert (
        'SHORT=1 ARGS="--rows 16 --long-rows 8 --rounds 2"` (2 folds, 16 film reviews and 8 articles'
        in page
    )
    begins = [line.split("  ")[0] for line in page.splitlines()]
    for line in (
        "training vs Trainer, film reviews",
        "training vs Trainer, BBC, 512 tokens",
        "training two folds at once, film reviews, vs Trainer's at once",
        "training two folds at once, film reviews, vs Trainer in turn",
        "prediction vs pipeline, film reviews",
        "int8 prediction vs pipeline, BBC, 512 tokens",
        "F1 epoch on kept outputs vs an epoch that runs the backbone",
        "F1 epoch on kept outputs vs an epoch that trains it",
    ):
        assert line in begins
    assert re.search(r"^film reviews +foldstack in int8 ", page, re.M)
    shares = "; ".join(
        rf"{work}, {data} \d+%"
        for data in (bench.FILMS, bench.ARTICLES)
        for work in ("training", "prediction")
    )
    assert re.search(rf"this share of the matrix peak, medians: {shares}\.", page)


def test_the_epochs_of_a_run_beside_a_model_that_began_from_it(backbone, tmp_path, capsys):
    import epochs

    root = make_workspace(tmp_path / "w")
    add_preset(root, backbone, "chosen", training={"select": "fold", "epochs": 3})
    add_preset(root, backbone, "after", start_from="chosen")
    assert foldstack(root, "folds") == 0
    for model in ("chosen", "after"):
        assert foldstack(root, "train", "--model", model, "--fold", "0") == 0
    capsys.readouterr()
    epochs.main(["chosen", "after", "--workspace", str(root)])
    header, _, line, mean = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header == ["run", "after", "each", "epoch", "best", "last", "chosen", "after"]
    store = Workspace.open(root, []).store
    first, second = (store.read_run(RunKey(model, 0, (0,))) for model in ("chosen", "after"))
    wanted = [first.facts["epoch_metric"][-1], first.score, second.score]
    scores = [f"{score:.4f}" for score in (*first.facts["epoch_metric"], *wanted)]
    assert line == ["fold0", *scores[:3], str(first.facts["best_epoch"]), *scores[3:]]
    assert mean == ["mean", *scores[3:]]


@pytest.mark.parametrize("case", ["deberta-v3-base-256", "qwen3-0.6b-lora-256"])
def test_the_gpu_benchmark_goes_through_on_small_networks(case, bench, monkeypatch, capsys):
    """But for compiled blocks, which take a minute on a CPU."""
    import gpu

    monkeypatch.setattr(gpu, "FORMS", {"Trainer": {}})
    monkeypatch.setattr(gpu, "SIDES", ("foldstack", "Trainer"))
    options = ["--batches", "4", "--updates", "4", "--rounds", "1", "--tiny"]
    gpu.main(["--cases", case, *options])
    *_, header, _, training, prediction = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["case", "rows", "foldstack"]
    assert training.split()[:3] == [case, "4", "training"]
    assert prediction.split()[:3] == [case, "4", "prediction"]
    assert re.fullmatch(r"\d+\.\d\dx", prediction.split()[-1])
    gpu.main(["--cases", case, *options, "--minutes", "0"])
    assert f"not run, for want of time: {case} with 4 rows" in capsys.readouterr().out


def test_presets_say_their_sizes():
    """As docs/models.md has them, from the sizes of each checkpoint's config."""
    import sizes

    for name in sizes.SIZES:
        first = (config.SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert f"({sizes.weights(name)[0] / 1e6:,.0f} M parameters, " in first, name
