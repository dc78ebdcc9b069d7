"""A backbone's linear layers in int8, for prediction on a processor."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

from foldstack.errors import InputError


def levels() -> int:
    """Steps from 0 to a token's largest value; sums of two products of 8 bits overflow without VNNI."""
    return 127 if torch.cpu._is_vnni_supported() else 63


class Int8Linear(nn.Module):
    """A linear layer that multiplies integers, by oneDNN.

    Weights have a scale for each output, inputs one for each token, from its largest value: as in
    LLM.int8() (Dettmers et al. 2022), without its outliers. With one scale for a whole batch, as in
    torch's own dynamic quantisation, the few large features of a transformer leave most tokens but a
    few steps. What a token gives does not depend on those beside it.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.bias, self.levels = linear.bias, levels()
        self.weight = None  # some backbones look at its type
        weight = linear.weight.detach()
        self.scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        integers = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(integers, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) float32 to (…, outputs)."""
        tokens = x.flatten(0, -2)
        size = tokens.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
        zero = self.levels + 1  # the product wants unsigned inputs
        integers = (tokens * (self.levels / size) + (zero + 0.5)).to(torch.uint8)
        given = (integers, 1 / self.levels, zero)
        by = (self.packed, self.scales, self.zeros, None)
        result = (1.0, 0, torch.float32, "none", [], "")
        out = torch.ops.onednn.qlinear_pointwise(*given, *by, *result)
        out = out * size if self.bias is None else torch.addcmul(self.bias, out, size)
        return out.unflatten(0, x.shape[:-1])


def to_int8(backbone: nn.Module) -> None:
    """Replace the linear layers, in place; everything else stays in float32.

    Raises InputError where there are no integer products.
    """
    place = next(backbone.parameters()).device.type
    if place != "cpu":
        raise InputError(
            f"int8 is for processors, and this machine predicts on {place}: leave it out"
        )
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        raise InputError("int8 is for x86 processors and a torch with oneDNN: leave it out here")
    linear = [(k, m) for k, m in backbone.named_modules() if type(m) is nn.Linear]
    for name, layer in linear:
        above, _, last = name.rpartition(".")
        setattr(backbone.get_submodule(above), last, Int8Linear(layer))
