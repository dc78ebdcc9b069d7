"""Two processes that share out weights, gradients and optimiser state: each has a half of them.

They meet over gloo on the CPU; what comes out is what one process has.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from foldstack.store import Store
from foldstack.training import loop
from foldstack.training.checkpoint import on_cpu
from makers import loop_learner, make_learner, tiny_rows
from test_lora import ARCHITECTURES, backbone_of
from test_parallel import (
    CASES,
    KEY,
    TRAIN,
    far_apart,
    fitted,
    make,
    results,
    run_together,
    together,
)
from tiny import add_preset, foldstack, make_backbone, refuses

pytestmark = pytest.mark.usefixtures("fork_server", "cpu_settings_restored")

# Of those of test_parallel.py; the others are slow.
QUICK = ("micro-batches", "worst matrices", "averaged", "best epoch")
REFUSED = ("adafactor", "adagrad")


def decoder(folder: Path, kind: str = "qwen3") -> Path:
    """A random backbone of this architecture, with the words of the tiny BERT."""
    make_backbone(folder)
    backbone_of(kind).save_pretrained(folder)
    return folder


def _fit_each(backbone: str, folder: str, names: tuple, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    for name in names:
        own = Path(folder, name)
        made = fitted(backbone, own, name, sharding="full")
        np.savez(own / f"{environment['RANK']}.npz", **made)


def fit_each(backbone: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """The folder of what both processes end with in each of these cases."""
    assert run_together([(_fit_each, (str(backbone), str(folder), names))] * 2) == [0, 0]
    return folder


def compared(backbone: Path, folder: Path, name: str, one: Path) -> None:
    """Both processes have the result of one."""
    first, second = (dict(np.load(folder / name / f"{rank}.npz")) for rank in range(2))
    assert far_apart(first, second) == 0
    assert far_apart(first, fitted(str(backbone), one, name)) < 1e-5


# What is learned


@pytest.fixture(scope="module")
def wordy(tmp_path_factory) -> Path:
    """A backbone of 500 word embeddings, of which the texts have a part."""
    return make_backbone(tmp_path_factory.mktemp("wordy"), vocab_size=500)


@pytest.fixture(scope="module")
def quick(wordy, tmp_path_factory) -> Path:
    return fit_each(wordy, tmp_path_factory.mktemp("quick"), QUICK)


@pytest.mark.parametrize("name", QUICK)
def test_processes_that_share_out_weights_have_the_result_of_one(wordy, quick, tmp_path, name):
    """The word embeddings are trimmed to the words that occur, but for AWP."""
    compared(wordy, quick, name, tmp_path / "one")


@pytest.mark.slow
def test_every_technique_may_share_out_weights(backbone, tmp_path):
    names = tuple(name for name in CASES if name not in (*QUICK, *REFUSED))
    folder = fit_each(backbone, tmp_path, names)
    for name in names:
        compared(backbone, folder, name, tmp_path / f"one {name}")


def halves(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The shares of weights, gradients and moments that this process has."""
    weights = list(net.parameters())
    of_optimizer = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    parts = {"weights": weights, "gradients": [p.grad for p in weights], "moments": of_optimizer}
    return {
        name: sum(t.to_local().numel() for t in tensors) / sum(t.numel() for t in tensors)
        for name, tensors in parts.items()
    }


def _update_once(backbone: str, folder: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    learner = loop_learner(backbone)
    examples = learner.prepare(tiny_rows(n=21))
    settings = learner.settings.training
    training = loop.prepare(learner.model, examples, settings, learner.accelerator, sharded=True)
    part, kept = training.optimizer.zero_grad, []
    training.optimizer.zero_grad = lambda *given, **named: (
        kept.append(halves(training.model, training.optimizer)),
        part(*given, **named),
    )
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    loop.update(training, examples, np.arange(8), 0)
    after = on_cpu(training.model.learned())
    moved = sum(not torch.equal(before[k], after[k]) for k in before)
    same = all(torch.equal(before[k], v) for k, v in learner.model.state_dict().items())
    bias, inputs = training.model.get_parameter("head.bias"), examples.tokens.batch(np.arange(2))
    with torch.no_grad():
        logits = training.model.eval()(**inputs)
        bias.add_(1)
        raised = training.model(**inputs) - logits
    kept[0]["raised"] = raised.flatten().tolist()
    text = yaml.safe_dump({"shares": kept[0], "moved": moved, "same": same})
    Path(folder, environment["RANK"]).write_text(text)


def test_a_process_has_a_half_of_weights_gradients_and_moments(backbone, tmp_path):
    """The network itself stays as it was until the training ends."""
    assert run_together([(_update_once, (str(backbone), str(tmp_path)))] * 2) == [0, 0]
    first, second = (yaml.safe_load((tmp_path / str(rank)).read_text()) for rank in range(2))
    # A pass without gradients leaves nothing behind that would hide a change of the shares.
    assert first["shares"].pop("raised") == pytest.approx([1, 1], abs=1e-6)
    for name, share in first["shares"].items():
        assert 0.5 <= share < 0.52, name  # odd rows are the first one's
        assert share + second["shares"][name] == pytest.approx(1)
    assert first["moved"] == second["moved"] > 30
    assert first["same"] and second["same"]


# A decoder with adapters

# The adversary moves the word embeddings, which are frozen.
LORA = {
    "lora": {"r": 2, "dropout": 0},
    "head": "last",
    "dropout": 0.0,
    "training": {"adversary": {"name": "fgm", "epsilon": 0.5}, "layer_decay": 0.5},
}


def _save_decoder(backbone: str, folder: str, sharding: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    learner = make_learner(backbone, sharding=sharding, **LORA)
    learner.fit(tiny_rows(n=21), None, Path(folder))
    if environment.get("RANK", "0") == "0":
        learner.save(Path(folder, "model"))


def test_a_decoder_with_adapters_is_saved_as_by_one_process(tmp_path):
    backbone = str(decoder(tmp_path / "backbone"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    _save_decoder(backbone, str(tmp_path / "one"), "none", {})
    given = (backbone, str(tmp_path / "two"), "full")
    assert run_together([(_save_decoder, given)] * 2) == [0, 0]
    one, two = (tmp_path / name / "model" for name in ("one", "two"))
    assert sorted(p.name for p in one.iterdir()) == sorted(p.name for p in two.iterdir())
    weights, other = (load_file(folder / "classifier.safetensors") for folder in (one, two))
    assert sum("lora_" in name for name in weights) == 2 * 7 * 3
    assert (
        far_apart(
            {k: v.numpy() for k, v in weights.items()}, {k: v.numpy() for k, v in other.items()}
        )
        < 1e-5
    )

    found = []
    for folder in (one, two):
        learner = make_learner(backbone, sharding="full", **LORA)
        learner.load(folder)
        found.append(learner.predict(tiny_rows(n=30)))
    np.testing.assert_allclose(*found, atol=1e-5)


def _fit_architectures(folder: str, kinds: tuple, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    for kind in kinds:
        own = Path(folder, kind)
        np.save(own / f"{environment['RANK']}.npy", architecture(own, own / "run", "full"))


def architecture(backbone: Path, folder: Path, sharding: str) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    options = {"dropout": 0.0, "backbone_dropout": 0.0, "sharding": sharding}
    learner = make_learner(backbone, **options)
    learner.fit(tiny_rows(n=21), None, folder)
    return learner.predict(tiny_rows(n=30))


@pytest.mark.slow
def test_every_architecture_may_share_out_weights(tmp_path):
    kinds = tuple(kind for kind in ARCHITECTURES if kind != "gpt2")  # whose dropout has other names
    for kind in kinds:
        decoder(tmp_path / kind, kind)
    assert run_together([(_fit_architectures, (str(tmp_path), kinds))] * 2) == [0, 0]
    for kind in kinds:
        one = architecture(tmp_path / kind, tmp_path / f"one {kind}", "none")
        for rank in range(2):
            two = np.load(tmp_path / kind / f"{rank}.npy")
            np.testing.assert_allclose(two, one, atol=1e-5, err_msg=kind)


# The command


def test_a_stopped_run_resumes_however_it_is_shared_out(backbone, tmp_path):
    """By two processes again, to the same bytes, or by one, to those of one but for rounding."""
    root = make(tmp_path / "w", backbone)
    options = {"dropout": 0.0, "backbone_dropout": 0.0, "sharding": "full"}
    training = {"precision": "fp32", "averaging": {"name": "ema"}}
    add_preset(root, backbone, **options, training=training)
    stop = ("foldstack.training.loop:update", 4, [signal.SIGTERM])
    codes, logs = together(root, *TRAIN, at=(None, stop))
    assert codes == [143, 143], logs
    stopped = shutil.copytree(root, tmp_path / "stopped")
    codes, logs = together(root, *TRAIN)
    assert codes == [0, 0], logs
    assert "resuming from the checkpoint after update 4\n" in logs[0]
    resumed = results(root)
    # The setting is none of the result: one process, which may not have it, finds the run.
    assert foldstack(root, *TRAIN) == 0

    codes, logs = together(root, *TRAIN, "--force")
    assert codes == [0, 0], logs
    assert results(root) == resumed

    assert foldstack(stopped, *TRAIN, "--set", "sharding=none") == 0
    assert foldstack(stopped, *TRAIN) == 0
    one, two = (Store(each).run_dir(KEY) for each in (stopped, root))
    files = [sorted(p.name for p in each.rglob("*")) for each in (one, two)]
    assert files[0] == files[1]
    weights, other = (load_file(each / "model/classifier.safetensors") for each in (one, two))
    for name, value in weights.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=1e-5)


def test_a_backbone_is_pretrained_in_shares(backbone, tmp_path):
    found = []
    for sharding in ("none", "full"):
        root = make(tmp_path / sharding, backbone)
        options = {"backbone_dropout": 0.0, "pretrain": {"epochs": 1}, "sharding": sharding}
        add_preset(root, backbone, **options, training={"precision": "fp32", "epochs": 1})
        if sharding == "none":
            assert foldstack(root, *TRAIN) == 0
        else:
            codes, logs = together(root, *TRAIN)
            assert codes == [0, 0], logs
        (place,) = (root / "oof/.pretrained").glob("[!.]*")
        found.append(load_file(place / "model.safetensors"))
    one, two = found
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=2e-5)


# Refusals


def test_one_process_shares_nothing_out(workspace, backbone, capsys):
    assert foldstack(workspace, "folds") == 0
    add_preset(workspace, backbone, sharding="full")
    capsys.readouterr()
    refuses(
        workspace,
        list(TRAIN),
        "tiny seed 0 fold0: sharding shares a run out over processes: start several with --processes "
        "(PROCESSES=), or leave it out",
        capsys,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"training": {"optimizer": "adafactor"}},
            "optimizer adafactor cannot share out its state: leave sharding out, or take adamw",
        ),
        (
            {"training": {"freeze_backbone": True}},
            "sharding shares out what is trained, which with freeze_backbone is the head alone: leave "
            "it out",
        ),
    ],
)
def test_what_cannot_be_shared_out_is_refused(settings, message):
    with pytest.raises(ValidationError) as e:
        make_learner("backbone", sharding="full", **settings)
    assert message in str(e.value)
