"""Frozen weights in fewer bits: in the precision of the computation, in 4 bits or in 8."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType

import torch
from torch import nn

from foldstack.errors import InputError
from foldstack.nets.layers import blocks

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def load_bitsandbytes() -> ModuleType:
    """Return the package, kept from fetching code from a hub; InputError if it is not installed.

    On some CPUs its import would fetch a kernel by the package `kernels`, if that is installed, and
    warns if it is not.
    """
    kernels, log = sys.modules.get("kernels"), logging.getLogger("bitsandbytes")
    sys.modules["kernels"], level = None, log.level  # None: its import fails
    log.setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError:
        raise InputError(
            "quantize requires the package bitsandbytes, which is not installed: pip install "
            "'foldstack[quantize]'"
        ) from None
    finally:
        log.setLevel(level)
        sys.modules.pop("kernels")
        if kernels is not None:
            sys.modules["kernels"] = kernels
    return bitsandbytes


def frozen_layers(backbone: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Yield parent, name and layer of each frozen linear layer in the stack of layers."""
    for block in blocks(backbone):
        for parent in list(block.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) is nn.Linear and not layer.weight.requires_grad:
                    yield parent, name, layer


def narrow(backbone: nn.Module, precision: str) -> str:
    """Keep frozen linear layers in bf16 or fp16, in place, if that is the precision; return the form.

    Autocast would round them so in each pass: results are identical. Other weights stay in float32.
    """
    if precision not in HALF:
        return "fp32"
    for _, _, layer in frozen_layers(backbone):
        layer.to(HALF[precision])
    return precision


def quantise(backbone: nn.Module, form: str, device: torch.device) -> None:
    """Quantise frozen linear layers to `nf4` or `int8`, in place.

    nf4 (Dettmers et al. 2023, QLoRA) has 16 levels at quantiles of a normal distribution, and a scale
    per 64 weights, itself in 8 bits. int8 has a scale per output (Dettmers et al. 2022, LLM.int8(),
    where inputs are rounded too).

    device: that they are moved to.

    Raises InputError if bitsandbytes is not installed.
    """
    load_bitsandbytes()
    from foldstack.nets.quantised_layers import FORMS

    for parent, name, layer in frozen_layers(backbone):
        setattr(parent, name, FORMS[form](layer, device))


@torch.no_grad()
def widen(backbone: nn.Module) -> None:
    """Return frozen layers to float32, in place: what `narrow` and `quantise` have kept of them."""
    for parent in list(backbone.modules()):
        for name, layer in list(parent.named_children()):
            if hasattr(layer, "widened"):
                setattr(parent, name, layer.widened())
    for parameter in backbone.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.float()
