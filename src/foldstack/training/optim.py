"""The optimiser's parameter groups and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from foldstack.config import TrainingSettings


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); weight decay for matrices, none for biases and norms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, fused=True)


def lr_factor(step: int, total: int, warmup: float, schedule: str) -> float:
    """Factor on the rate for update `step` (from 0) of `total`.

    It climbs over the first `warmup` share of the updates to 1, then falls towards 0: linearly, or
    along half a cosine. It depends on nothing else, so a resumed run needs no schedule restored.
    """
    climb = math.ceil(total * warmup)
    if step < climb:
        return (step + 1) / climb
    done = (step - climb) / max(total - climb, 1)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
