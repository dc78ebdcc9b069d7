"""Frozen weights in 16, 8 and 4 bits: what is rounded, what stays, and what the rounding is."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from foldstack.errors import InputError
from foldstack.nets.fewer_bits import load_bitsandbytes, narrow, quantise, widen
from foldstack.nets.layers import blocks
from foldstack.techniques import TransformerSettings
from makers import make_learner, tiny_rows
from test_lora import backbone_of, read

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

CPU = torch.device("cpu")
# The quantiles of NF4 (Dettmers et al. 2023, appendix E).
NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]


def frozen(kind: str = "bert") -> nn.Module:
    return backbone_of(kind).requires_grad_(False)


def query(backbone: nn.Module) -> nn.Module:
    return backbone.get_submodule("encoder.layer.1.attention.self.query")


# 16 bits


@torch.no_grad()
def test_frozen_layers_in_bf16_give_the_bytes_of_autocast():
    backbone = frozen()
    with torch.autocast("cpu", torch.bfloat16):
        before = read(backbone)
        assert narrow(backbone, "bf16") == "bf16"
        assert torch.equal(read(backbone), before)
    kinds = {name: p.dtype for name, p in backbone.named_parameters()}
    in_half = {name for name, kind in kinds.items() if kind == torch.bfloat16}
    assert in_half == {
        name for name in kinds if ".layer." in name and "LayerNorm" not in name
    }  # embeddings and norms are in float32
    assert narrow(frozen(), "tf32") == "fp32"


def trained_in(backbone: Path, folder: Path, **settings: object) -> np.ndarray:
    folder.mkdir()
    learner = make_learner(backbone, training={"precision": "bf16"}, **settings)
    learner.fit(tiny_rows(), None, folder)
    return learner.predict(tiny_rows())


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_a_run_in_bf16_is_that_of_weights_in_float32(backbone, tmp_path, kind, monkeypatch):
    """DoRA computes with the weights themselves, and keeps them."""
    ours = trained_in(backbone, tmp_path / "ours", lora={"r": 2, "kind": kind})
    module = "foldstack.learners.transformer.narrow"
    monkeypatch.setattr(module, lambda backbone, precision: "fp32")
    whole = trained_in(backbone, tmp_path / "whole", lora={"r": 2, "kind": kind})
    np.testing.assert_array_equal(ours, whole)


# 4 and 8 bits


def test_nf4_rounds_to_quantiles_of_the_normal_distribution():
    """Each block of 64 weights has the largest of them as its scale, itself in 8 bits.

    A row of 16 is no whole block, for which bitsandbytes 0.50 mixes up scales on a CPU.
    """
    backbone = frozen()
    weight = query(backbone).weight.clone()
    quantise(backbone, "nf4", CPU)
    rounded = query(backbone).weight.flatten()
    scales = weight.flatten().view(-1, 64).abs().amax(dim=1, keepdim=True)
    shares = weight.flatten().view(-1, 64) / scales
    levels = torch.tensor(NF4)
    nearest = levels[(shares[..., None] - levels).abs().argmin(dim=-1)] * scales
    torch.testing.assert_close(rounded, nearest.flatten(), rtol=0.02, atol=1e-4)
    assert query(backbone).packed.numel() == weight.numel() / 2


def test_int8_rounds_by_output():
    backbone = frozen()
    weight = query(backbone).weight.clone()
    quantise(backbone, "int8", CPU)
    steps = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((query(backbone).weight - weight).abs() < 0.6 * steps).all()  # a little of it by fp16
    assert query(backbone).integers.dtype == torch.int8


@pytest.mark.parametrize("form", ["nf4", "int8"])
@pytest.mark.parametrize("kind", ["bert", "qwen3", "gemma3_text"])
def test_a_quantised_backbone_computes_with_the_rounded_weights(form, kind):
    """Forward and backward, of linear layers in the stack of layers only."""
    backbone = frozen(kind)
    quantise(backbone, form, CPU)
    linear = [m for block in blocks(backbone) for m in block.modules() if type(m) is nn.Linear]
    assert not linear
    outputs, gradients = [], []
    for _ in range(2):
        words = backbone.get_input_embeddings().weight.requires_grad_(True)
        words.grad = None
        out = read(backbone)
        out.square().sum().backward()
        outputs.append(out.detach())
        gradients.append(words.grad.clone())
        words.requires_grad_(False)
        widen(backbone)
    assert not any(hasattr(m, "widened") for m in backbone.modules())
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["nf4", "int8"])
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch_and_prediction_not_on_calls_before(form):
    backbone = frozen()
    quantise(backbone, form, CPU)
    ids = torch.arange(1, 25).view(3, 8)

    def outputs(rows: Tensor) -> Tensor:
        return backbone(input_ids=rows, attention_mask=torch.ones_like(rows))[0]

    whole = outputs(ids)
    torch.testing.assert_close(outputs(ids[1:2]), whole[1:2], rtol=0, atol=1e-5)
    backbone.train()
    backbone.eval()
    assert torch.equal(outputs(ids), whole)
    with torch.autocast("cpu", torch.bfloat16):
        assert query(backbone)(torch.ones(1, 16)).dtype == torch.bfloat16


def test_a_head_is_trained_on_a_quantised_backbone(backbone, tmp_path):
    learner = make_learner(backbone, quantize="nf4", training={"freeze_backbone": True})
    learner.fit(tiny_rows(), None, tmp_path)
    assert learner.model.learned().keys() == {"head.weight", "head.bias"}
    assert all(hasattr(m, "widened") for m in [query(learner.model.backbone)])


# Refused, and kept away


def settings_of(**given: object) -> TransformerSettings:
    return TransformerSettings(learner="transformer", backbone="x", **given)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"quantize": "nf4"},
            "quantize keeps the backbone's weights, so that something else must be trained: set lora, "
            "or freeze_backbone in all stages",
        ),
        (
            {"quantize": "nf4", "lora": {}, "keep_every": 2},
            "quantize rounds weights that a checkpoint has, and keep_every makes others: leave one of "
            "them out",
        ),
        (
            {"quantize": "nf4", "lora": {}, "pretrain": {}},
            "quantize rounds weights that a checkpoint has, and pretrain makes others: leave one of "
            "them out",
        ),
    ],
)
def test_what_does_not_go_with_quantised_weights(settings, sentence):
    with pytest.raises(ValidationError) as e:
        settings_of(**settings)
    assert sentence in str(e.value)


def test_without_bitsandbytes_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError) as e:
        load_bitsandbytes()
    assert str(e.value) == (
        "quantize requires the package bitsandbytes, which is not installed: pip install "
        "'foldstack[quantize]'"
    )


def test_bitsandbytes_fetches_no_kernel_and_says_nothing(tmp_path):
    """Its import calls `kernels.get_kernel` on some CPUs, and warns if it fails."""
    import subprocess

    (tmp_path / "kernels.py").write_text("raise SystemExit('fetched from a hub')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from foldstack.nets.fewer_bits import load_bitsandbytes\n"
        "load_bitsandbytes()\n"
        "assert 'kernels' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert logging.getLogger("bitsandbytes").level == logging.NOTSET
