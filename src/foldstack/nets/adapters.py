"""Low-rank adapters beside a backbone's frozen linear layers, by peft."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from copy import deepcopy
from types import ModuleType

import numpy as np
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from foldstack.errors import InputError, cut
from foldstack.nets.attention import install_dropout
from foldstack.nets.classifier import Classifier
from foldstack.nets.fewer_bits import load_bitsandbytes, widen
from foldstack.nets.layers import blocks
from foldstack.techniques import AUTO, LoraSettings

NAME = "default"  # of the adapters within peft's layers
FAST_SVD = "pissa_niter_16"  # 16 iterations of a randomised SVD: seconds per backbone, not minutes


def load_peft() -> ModuleType:
    """Return the package; InputError if it is not installed."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        load_bitsandbytes()  # peft imports it, if it is there
    try:
        import peft
    except ImportError:
        raise InputError(
            "lora requires the package peft, which is not installed: pip install 'foldstack[lora]'"
        ) from None
    return peft


def add_adapters(backbone: nn.Module, settings: LoraSettings, seed: int | None) -> None:
    """Put adapters beside linear layers of a backbone, in place; all else in it is frozen.

    Args:
        backbone: on the CPU, in float32.
        settings: of the adapters.
        seed: of their initialisation; None if their weights are loaded afterwards, see `take_out`.

    Raises:
        InputError: peft is missing, or a target names no linear layer.
    """
    peft = load_peft()
    targets = targets_of(backbone, settings.targets)
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in targets.values()),
        use_rslora=settings.kind == "rslora",
        use_dora=settings.kind == "dora",
        init_lora_weights=FAST_SVD if settings.kind == "pissa" and seed is not None else True,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that store their weights transposed
        own = np.random.SeedSequence((seed or 0, 0, 0, 1))  # differs from the head's and updates'
        torch.default_generator.manual_seed(int(own.generate_state(1)[0]))
        peft.inject_adapter_in_model(config, backbone, NAME)
    del backbone.peft_config
    install_dropout(backbone)
    for layer in adapted_layers(backbone) if settings.kind == "pissa" else ():
        # What has been taken out of the frozen weight, which is not stored.
        layer.register_buffer("initial_A", layer.lora_A[NAME].weight.detach().clone())
        layer.register_buffer("initial_B", layer.lora_B[NAME].weight.detach().clone())
    for norm in norms(backbone) if settings.train_norms else ():
        norm.requires_grad_(True)
    backbone.train(backbone.training)  # new layers are in training mode


def take_out(backbone: nn.Module) -> None:
    """Subtract the initial adapters, whose values have been loaded, from frozen weights (PiSSA)."""
    for layer in adapted_layers(backbone):
        if hasattr(layer, "initial_A"):
            weight = layer.base_layer.weight
            taken = layer.scaling[NAME] * layer.initial_B @ layer.initial_A
            weight.data = weight.data - (taken.T if layer.fan_in_fan_out else taken)


def targets_of(backbone: nn.Module, names: tuple[str, ...] | str) -> dict[str, nn.Module]:
    """Return the linear layers, by full name, whose names end with one of these.

    names: or auto, for all in the stack of layers.

    Raises InputError if there are none.
    """
    linear = {k: m for k, m in backbone.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    if names == AUTO:
        inside = {m for block in blocks(backbone) for m in block.modules()}
        found = {k: m for k, m in linear.items() if m in inside}
        if not found:
            kind = backbone.config.model_type
            raise InputError(
                f"lora adapts linear layers, and a backbone of type '{kind}' has none in its layers: "
                "leave it out"
            )
        return found
    found = {}
    for name in names:
        matching = {k: m for k, m in linear.items() if f".{k}".endswith(f".{name}")}
        if not matching:
            ends = ", ".join(sorted({k.rpartition(".")[2] for k in linear}))
            raise InputError(
                f"lora.targets names '{cut(name)}', with which no linear layer's name ends: they end "
                f"with {ends}"
            )
        found |= matching
    return found


def adapted_layers(backbone: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that have adapters."""
    return (m for m in backbone.modules() if hasattr(m, "lora_A"))


def norms(backbone: nn.Module) -> Iterator[nn.Module]:
    """Yield the norms of a backbone, which architectures define in classes of their own."""
    named = (m for m in backbone.modules() if "norm" in type(m).__name__.lower())
    return (m for m in named if not any(m.children()))


def changing(backbone: nn.Module) -> frozenset[str]:
    """Return the names of the weights of a backbone that is adapted which training may change."""
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    return frozenset(trained | {n for n, _ in backbone.named_buffers() if ".initial_" in n})


@torch.no_grad()
def merge(backbone: nn.Module) -> None:
    """Add adapters to the weights that they stand beside, in float32, and remove them, in place."""
    widen(backbone)
    for name, layer in list(backbone.named_modules()):
        if hasattr(layer, "lora_A"):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(backbone.get_submodule(parent), last, layer.base_layer)


def merged(model: Classifier) -> Classifier:
    """Return a copy of a classifier with its adapters merged; the classifier itself without any."""
    if model.changing is None:
        return model
    other = deepcopy(model)
    # After a fit, accelerate has set it, bound to the original model.
    other.__dict__.pop("forward", None)
    merge(other.backbone)
    other.changing = None
    return other
