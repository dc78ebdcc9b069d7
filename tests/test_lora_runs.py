"""Runs with adapters: what they store, where it comes from again, what starts from them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from foldstack.bundle.infer import infer
from foldstack.errors import InputError
from foldstack.files import file_sha256, read_json
from foldstack.kinds import Kind
from foldstack.learners.adapted import make_whole
from foldstack.learners.hub_form import HubForm
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets.backbone import weights_digest
from foldstack.training import loop
from makers import make_learner, tiny_rows
from tiny import (
    add_preset,
    foldstack,
    go_through,
    make_backbone,
    make_workspace,
    write_competition,
)

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

KINDS = ["lora", "dora", "rslora", "pissa"]
SMALL = {"r": 2, "alpha": 4, "dropout": 0.1}
FAST = {"lr": 0.02, "epochs": 1}


def learner_of(backbone: Path, **settings: object) -> TransformerLearner:
    return make_learner(backbone, **{"lora": SMALL, "training": FAST} | settings)


def stored(backbone: Path, folder: Path, **settings: object) -> tuple[Path, np.ndarray]:
    """The folder of a fitted model, and its predictions of the tiny rows."""
    (folder / "run").mkdir(parents=True)
    learner = learner_of(backbone, **settings)
    learner.fit(tiny_rows(), None, folder / "run")
    (folder / "model").mkdir()
    learner.save(folder / "model")
    return folder / "model", learner.predict(tiny_rows())


def loaded(model: Path, backbone: Path, **settings: object) -> TransformerLearner:
    learner = learner_of(backbone, **settings)
    learner.load(model)
    return learner


# What is stored


def test_a_run_stores_adapters_and_head_and_where_the_backbone_is(backbone, tmp_path):
    model, _ = stored(backbone, tmp_path)
    names = load_file(model / "classifier.safetensors")
    assert {k for k in names if "lora_" not in k} == {"head.weight", "head.bias"}
    assert len(names) == 2 + 2 * 12  # A and B of six linear layers in each of two layers
    record = read_json(model / "adapters.json")
    assert record["name"] == str(backbone)
    assert record["sha256"] == file_sha256(backbone / "model.safetensors")
    whole, _ = stored(backbone, tmp_path / "whole", lora=None)
    sizes = [(m / "classifier.safetensors").stat().st_size for m in (model, whole)]
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("quantize", [None, "nf4", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_run_predicts_the_same_bytes_and_merged_nearly_so(
    backbone, tmp_path, kind, quantize
):
    settings = {"lora": SMALL | {"kind": kind, "train_norms": True}, "quantize": quantize}
    model, predicted = stored(backbone, tmp_path, **settings)
    learner = loaded(model, backbone, **settings)
    np.testing.assert_array_equal(learner.predict(tiny_rows()), predicted)
    np.testing.assert_allclose(learner.merged().predict(tiny_rows()), predicted, atol=1e-5)
    np.testing.assert_array_equal(learner.predict(tiny_rows()), predicted)  # it is as it was
    make_whole(model)
    assert not (model / "adapters.json").exists()
    whole = loaded(model, backbone / "gone", **settings)
    np.testing.assert_allclose(whole.predict(tiny_rows()), predicted, atol=1e-5)


def test_other_weights_of_the_backbone_are_refused(backbone, tmp_path):
    copy = Path(shutil.copytree(backbone, tmp_path / "backbone"))
    model, _ = stored(copy, tmp_path)
    before = weights_digest(str(copy))
    weights = load_file(copy / "model.safetensors")
    weights["embeddings.LayerNorm.weight"] += 1e-6
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError) as e:
        loaded(model, copy)
    assert str(e.value) == (
        f"backbone '{copy}' has weights with sha256 {weights_digest(str(copy))[:12]}…, but this run "
        f"has been trained beside those with {before[:12]}…: get these again, or train it again"
    )


def test_the_digest_of_several_files_is_that_of_all(tmp_path):
    from transformers import AutoModel

    folder = make_backbone(tmp_path / "one")
    model = AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "several", max_shard_size="8KB")
    shards = sorted((tmp_path / "several").glob("*.safetensors"))
    assert len(shards) > 1
    first = weights_digest(str(tmp_path / "several"))
    weights = load_file(shards[-1])
    save_file({k: v + 1 for k, v in weights.items()}, shards[-1], metadata={"format": "pt"})
    assert weights_digest(str(tmp_path / "several")) != first


@pytest.mark.parametrize("change", [{"keep_every": 2}, {"lora": SMALL | {"kind": "pissa"}}])
def test_a_backbone_that_no_checkpoint_has_is_stored(backbone, tmp_path, change):
    """Half of the layers, or (with `start`) weights that another run has trained."""
    start, _ = stored(backbone, tmp_path / "start", lora=None)
    learner = learner_of(backbone, **change)
    if "lora" in change:
        learner.start = start
    learner.fit(tiny_rows(), None, tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    learner.save(model)
    assert read_json(model / "adapters.json")["name"] is None
    other = loaded(model, tmp_path / "gone", **change)
    np.testing.assert_array_equal(other.predict(tiny_rows()), learner.predict(tiny_rows()))
    np.testing.assert_allclose(
        other.merged().predict(tiny_rows()), learner.predict(tiny_rows()), atol=1e-5
    )


# Resuming


@pytest.mark.parametrize("quantize", [None, "nf4"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_ends_with_the_same_bytes(backbone, tmp_path, kind, quantize, monkeypatch):
    settings = {
        "lora": SMALL | {"kind": kind},
        "quantize": quantize,
        "training": FAST | {"epochs": 2, "averaging": "ema"},
        "checkpoint_seconds": 0,
    }
    _, predicted = stored(backbone, tmp_path / "whole", **settings)
    run, updates = tmp_path / "run", []
    run.mkdir()

    def dying(*args: object, real=loop.update) -> Tensor:
        updates.append(1)
        if len(updates) == 6:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            learner_of(backbone, **settings).fit(tiny_rows(), None, run)
    held = load_file(run / "step-00000005/state.safetensors")
    base = {k for k in held if "base_layer" in k or "embeddings" in k}
    assert not base and any("lora_A" in k for k in held)
    learner = learner_of(backbone, **settings)
    learner.fit(tiny_rows(), None, run)
    np.testing.assert_array_equal(learner.predict(tiny_rows()), predicted)


def test_stages_and_the_best_epoch_hold_what_is_trained(backbone, tmp_path):
    """Weights of a finished stage and of epochs have no frozen ones, and are loaded again."""
    settings = {
        "training": FAST | {"select": "fold", "epochs": 2, "averaging": {"name": "soup"}},
        "stages": [{"freeze_backbone": True}, {}],
    }
    learner = learner_of(backbone, **settings)
    rows = tiny_rows()
    learner.fit(rows, rows, tmp_path)
    first = load_file(tmp_path / "stage1/weights.safetensors")
    assert first.keys() == learner.model.learned().keys()
    again = learner_of(backbone, **settings)
    again.fit(rows, rows, tmp_path)
    np.testing.assert_array_equal(again.predict(rows), learner.predict(rows))


# start_from


def started(backbone: Path, start: Path, folder: Path, **settings: object) -> TransformerLearner:
    """A learner that has started from a stored model, and moved next to nothing."""
    folder.mkdir()
    training = {"lr": 1e-12, "epochs": 1}
    learner = learner_of(backbone, start_from="first", **{"training": training} | settings)
    learner.start = start
    learner.fit(tiny_rows(), None, folder)
    return learner


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_with_the_adapters_of_another(backbone, tmp_path, kind):
    lora = SMALL | {"kind": kind}
    start, predicted = stored(backbone, tmp_path / "first", lora=lora)
    other = {"lora": lora | {"dropout": 0.3}}
    learner = started(backbone, start, tmp_path / "second", **other)
    np.testing.assert_allclose(learner.predict(tiny_rows()), predicted, atol=1e-5)
    (tmp_path / "model").mkdir()
    learner.save(tmp_path / "model")
    assert read_json(tmp_path / "model/adapters.json")["name"] == str(backbone)
    again = loaded(tmp_path / "model", backbone, **other)
    np.testing.assert_array_equal(again.predict(tiny_rows()), learner.predict(tiny_rows()))


@pytest.mark.parametrize("lora", [None, {"r": 3, "alpha": 4}], ids=["without", "other"])
def test_a_run_without_these_adapters_starts_from_them_merged(backbone, tmp_path, lora):
    start, predicted = stored(backbone, tmp_path / "first")
    learner = started(backbone, start, tmp_path / "second", lora=lora)
    np.testing.assert_allclose(learner.predict(tiny_rows()), predicted, atol=1e-5)


def test_a_quantised_run_starts_from_its_like_only(backbone, tmp_path):
    start, _ = stored(backbone, tmp_path / "first")
    with pytest.raises(InputError) as e:
        started(backbone, start, tmp_path / "second", quantize="nf4")
    assert str(e.value) == (
        "start_from first: quantize rounds a checkpoint's weights, and this model has others: name one "
        "with the same lora and quantize, or leave quantize out"
    )


def test_adapters_beside_other_weights_are_no_start(backbone, tmp_path):
    start, _ = stored(backbone, tmp_path / "first")
    other = make_backbone(tmp_path / "other", initializer_range=0.03)
    with pytest.raises(InputError) as e:
        started(other, start, tmp_path / "second")
    assert str(e.value) == (
        f"start_from first: its adapters stand beside the weights of backbone '{backbone}', and this "
        "preset has others: name a model with the same backbone"
    )


# Prediction in other forms


def test_an_export_and_int8_have_the_adapters_merged(backbone, tmp_path):
    model, predicted = stored(backbone, tmp_path)
    learner = loaded(model, backbone)
    hub = HubForm.of(learner, Kind("binary"), ("bad", "good"))
    (tmp_path / "out").mkdir()
    hub.write(tmp_path / "out", "transformers")
    found = hub.found(tiny_rows(), tmp_path / "out", "transformers")
    expected = 1 / (1 + np.exp(-predicted[:, 0]))
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-5)
    pytest.importorskip("openvino")
    rounded = learner.in_int8().predict(tiny_rows())
    assert np.abs(rounded - predicted).max() < 0.1 * np.ptp(predicted)


def test_measured_times_and_sizes_are_those_of_adapters(backbone):
    measured = learner_of(backbone).measure(tiny_rows(), 32, sized=True, updates=1)
    whole = learner_of(backbone, lora=None).measure(tiny_rows(), 32, sized=True, updates=1)
    assert measured.mb < whole.mb


# The command


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of two fits each, beside a backbone of the workspace's own."""
    root = make_workspace(tmp_path_factory.mktemp("lora") / "w", n=30, runtime={"threads": 1})
    make_backbone(root / "backbone")
    training = FAST | {"precision": "fp32"}
    add_preset(root, root / "backbone", training=training, lora=SMALL, repeats=2)
    write_competition(root, models=["tiny"], blend={"methods": ["mean"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        go_through(root)
    return root


def test_a_bundle_needs_no_checkpoint(root, tmp_path, capsys):
    root = Path(shutil.copytree(root, tmp_path / "w"))
    assert foldstack(root, "bundle") == 0
    shutil.rmtree(root / "backbone")
    out = tmp_path / "submission.csv"
    given = [f"--input={root / 'input'}", f"--out={out}", f"--work={tmp_path / 'partial'}"]
    infer(root / "bundle/blend", given, time.monotonic())
    made, submitted = (np.genfromtxt(f, delimiter=",", skip_header=1) for f in (out, _only(root)))
    np.testing.assert_allclose(made[:, 1], submitted[:, 1], atol=1e-5)


def _only(root: Path) -> Path:
    (found,) = (root / "submissions").glob("*.csv")
    return found


def test_a_missing_checkpoint_is_said_in_a_sentence(backbone, tmp_path):
    copy = Path(shutil.copytree(backbone, tmp_path / "backbone"))
    model, _ = stored(copy, tmp_path)
    shutil.rmtree(copy)
    with pytest.raises(InputError) as e:
        loaded(model, copy)
    assert str(e.value) == f"backbone '{copy}': there is no folder {copy}"


def test_the_digest_of_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no file of weights whose checksum could be pinned"):
        weights_digest(str(tmp_path))
