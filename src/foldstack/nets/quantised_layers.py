"""Frozen linear layers in 4 or 8 bits; import after `fewer_bits.load_bitsandbytes`.

The library's own layers repack their weight in prediction, remember the dtype of the first input, or
round inputs together with those of other rows, so that a text's prediction depends on its batch.
"""

from __future__ import annotations

import torch
from bitsandbytes import functional
from torch import Tensor, nn
from torch.nn.functional import linear, pad

BLOCK = 64  # weights that share a scale, as in QLoRA


class QuantisedLinear(nn.Module):
    """A frozen linear layer, computed in autocast's dtype.

    bias: (outputs,) or None. A subclass has `weight`, (outputs, inputs) of the layer's dtype.
    """

    def __init__(self, layer: nn.Linear, device: torch.device):
        super().__init__()
        bias = layer.bias
        self.bias = None if bias is None else nn.Parameter(bias.data.to(device), False)

    def forward(self, x: Tensor) -> Tensor:
        kind, device = x.dtype, x.device.type
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        return _Product.apply(x.to(kind), self, None if self.bias is None else self.bias.to(kind))

    def widened(self) -> nn.Linear:
        """Return the layer with the weight that it computes with, in float32."""
        weight = self.weight.float()
        made = nn.Linear(*reversed(weight.shape), self.bias is not None, device="meta")
        made.weight, made.bias = nn.Parameter(weight, False), self.bias
        return made


class NF4Linear(QuantisedLinear):
    """A layer in 4 bits, with a scale per BLOCK weights that is in 8 bits itself.

    The weights are stored as rows of one block: for other rows, the library on a CPU takes a block's
    scale for another's (0.50).
    """

    def __init__(self, layer: nn.Linear, device: torch.device):
        super().__init__(layer, device)
        given = layer.weight.data.to(device)
        self.shape = given.shape
        rows = pad(given.flatten(), (0, -given.numel() % BLOCK)).view(-1, BLOCK)
        packed, self.state = functional.quantize_4bit(
            rows, blocksize=BLOCK, quant_type="nf4", compress_statistics=True
        )
        self.register_buffer("packed", packed)

    @property
    def weight(self) -> Tensor:
        found = functional.dequantize_4bit(self.packed, self.state).flatten()
        return found[: self.shape.numel()].view(self.shape)


class Int8Linear(QuantisedLinear):
    """A layer in 8 bits, with a scale per output."""

    def __init__(self, layer: nn.Linear, device: torch.device):
        super().__init__(layer, device)
        given = layer.weight.data.to(device, torch.float16)  # what the library takes
        integers, scale, _ = functional.int8_vectorwise_quant(given)
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale)

    @property
    def weight(self) -> Tensor:
        return functional.int8_vectorwise_dequant(self.integers, self.scale)


class _Product(torch.autograd.Function):
    """x Wᵀ + b, for which W in full is made again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: QuantisedLinear, bias: Tensor | None) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad @ ctx.layer.weight.to(grad.dtype), None, None


FORMS = {"nf4": NF4Linear, "int8": Int8Linear}
