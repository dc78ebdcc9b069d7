"""Frozen linear layers in 4 or 8 bits; import after `fewer_bits.load_bitsandbytes`.

The library's own layers repack their weight in prediction, remember the dtype of the first input, or
round inputs together with those of other rows, so that a text's prediction depends on its batch.
"""

from __future__ import annotations

import torch
from bitsandbytes import functional, matmul_4bit
from torch import Tensor, nn
from torch.nn.functional import linear


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
        return self.product(x.to(kind), None if self.bias is None else self.bias.to(kind))

    def widened(self) -> nn.Linear:
        """Return the layer with the weight that it computes with, in float32."""
        weight = self.weight.float()
        made = nn.Linear(*reversed(weight.shape), self.bias is not None, device="meta")
        made.weight, made.bias = nn.Parameter(weight, False), self.bias
        return made


class NF4Linear(QuantisedLinear):
    """A layer in 4 bits, with a scale per 64 weights that is in 8 bits itself."""

    def __init__(self, layer: nn.Linear, device: torch.device):
        super().__init__(layer, device)
        given = layer.weight.data.to(device)
        packed, self.state = functional.quantize_4bit(
            given, quant_type="nf4", compress_statistics=True
        )
        self.register_buffer("packed", packed)

    @property
    def weight(self) -> Tensor:
        return functional.dequantize_4bit(self.packed, self.state)

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return matmul_4bit(x, self.packed, self.state, bias=bias)


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

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return _Product.apply(x, self, bias)


class _Product(torch.autograd.Function):
    """x Wᵀ + b, for which W in full is made again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: Int8Linear, bias: Tensor | None) -> Tensor:
        ctx.layer = layer
        return linear(x, layer.weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad @ ctx.layer.weight.to(grad.dtype), None, None


FORMS = {"nf4": NF4Linear, "int8": Int8Linear}
