"""A backbone's linear layers in int8, for prediction on a processor."""

from __future__ import annotations

import platform
import threading

import torch
from torch import Tensor, nn

from foldstack.errors import InputError
from foldstack.nets.device import lowered

ZERO = 128  # the product wants unsigned inputs


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

    def __init__(self, linear: nn.Linear, inputs: Inputs | None = None):
        super().__init__()
        self.bias, self.inputs = linear.bias, inputs or Inputs()
        self.weight = None  # some backbones look at its type
        weight = linear.weight.detach()
        self.scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        integers = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(integers, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs), in float32 or what autocast has instead."""
        kind = lowered(torch.float32)
        integers, size = self.inputs.rounded(x, kind)
        given = (integers, 1 / self.inputs.levels, ZERO)
        by = (self.packed, self.scales, self.zeros, None)
        out = torch.ops.onednn.qlinear_pointwise(*given, *by, 1.0, 0, kind, "none", [], "")
        out = out.mul_(size) if self.bias is None else torch.addcmul(self.bias.to(kind), out, size)
        return out.unflatten(0, x.shape[:-1])


class Inputs(threading.local):
    """What layers side by side, as a query's, key's and value's, are given: rounded once for all.

    Each thread has its own, since several predict at once.
    """

    def __init__(self):
        self.levels = levels()
        self.given: Tensor | None = None
        self.last: tuple[Tensor, Tensor] | None = None

    def rounded(self, x: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """(tokens, inputs) unsigned integers around ZERO, and each token's largest value (tokens, 1).

        kind: what the largest value is a number of, from which the outputs are made again.
        """
        if x is not self.given:
            tokens = x.flatten(0, -2)
            size = tokens.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12).to(kind)
            # To signed ones first, since torch's way to unsigned ones takes nine times as long.
            signed = (
                (tokens * (self.levels / size.float())).round_().clamp_(-127, 127).to(torch.int8)
            )
            self.given, self.last = x, (signed.view(torch.uint8).bitwise_xor_(ZERO), size)
        return self.last


def to_int8(backbone: nn.Module) -> None:
    """Replace the linear layers, in place; everything else computes as before.

    Raises InputError where there are no integer products.
    """
    place = next(backbone.parameters()).device.type
    if place != "cpu":
        raise InputError(
            f"int8 is for processors, and this machine predicts on {place}: leave it out"
        )
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        raise InputError("int8 is for x86 processors and a torch with oneDNN: leave it out here")
    for module in list(backbone.modules()):
        inputs = Inputs()
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child, inputs))
