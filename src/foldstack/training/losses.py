"""Losses: one value a row, for soft targets; the loop weighs and adds them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def row_loss(raw: Tensor, targets: Tensor, link: str) -> Tensor:
    """(b,) loss of (b, outputs) raw outputs against soft targets of the same shape.

    sigmoid: binary cross-entropy, the mean over outputs. softmax: cross-entropy. identity: squared
    error, the mean over outputs.
    """
    if link == "softmax":
        return -(targets * F.log_softmax(raw, dim=1)).sum(dim=1)
    if link == "identity":
        return F.mse_loss(raw, targets, reduction="none").mean(dim=1)
    return F.binary_cross_entropy_with_logits(raw, targets, reduction="none").mean(dim=1)
