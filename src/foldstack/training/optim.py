"""The optimiser's parameter groups and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from foldstack.nets.layers import blocks, depths
from foldstack.techniques import Cosine, Linear, Plateau, Schedule, Step, TrainingSettings


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """The optimiser over what is not frozen, in groups of one rate and one weight decay.

    Each group keeps its rate at the schedule's top as `initial_lr`. Layer-wise rates (Howard and
    Ruder 2018): `lr` for the top block and what follows it, times `layer_decay` for each block below,
    once more for the embeddings; `head_lr`, or else `lr`, for the head and for blocks drawn anew.
    Decay is for matrices, none for biases and norms.

    adamw: Loshchilov and Hutter 2019. adafactor: Shazeer and Stern 2018, which keeps sums over rows
    and columns instead of two numbers a weight; `lr` is the root mean square of a matrix's step, so
    that rates for AdamW fit.
    """
    rates = _rates(model, settings)
    members = defaultdict(list)
    for name, p in model.named_parameters():
        if p.requires_grad:
            decays = p.ndim > 1 and not name.endswith("bias")  # XLNet has biases for each head
            members[rates[name], settings.weight_decay if decays else 0.0].append(p)
    groups = [
        {"params": ps, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for (lr, decay), ps in members.items()
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr, fused=True)
    # torch multiplies the rate by the weights' own size, at least eps[1]: 1 makes it absolute. It
    # bounds mean squared gradients by eps[0], whose default, 1e-7, is above those of a large model;
    # its square, the bound of their product, must not vanish in float32.
    return torch.optim.Adafactor(groups, lr=settings.lr, eps=(1e-16, 1.0))


def _rates(model: nn.Module, settings: TrainingSettings) -> dict[str, float]:
    """The rate of each named parameter at the schedule's top."""
    if settings.layer_decay == 1 and settings.head_lr is None:
        return {name: settings.lr for name, _ in model.named_parameters()}
    top = len(blocks(model.backbone))
    old = top - settings.reinit_layers
    rates = {}
    for name, depth in depths(model).items():
        if not name.startswith("backbone.") or old < depth <= top:
            rates[name] = settings.head_lr or settings.lr
        else:
            rates[name] = settings.lr * settings.layer_decay ** max(top - depth, 0)
    return rates


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers, as `KEY.PARAMETER`, for a checkpoint."""
    return {
        f"{key}.{name}": value
        for name, p in model.named_parameters()
        for key, value in optimizer.state.get(p, {}).items()
    }


def load_state_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `state_tensors` gave, each tensor where the optimiser wants it."""
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = {p: i for i, p in enumerate(trained)}
    named = dict(model.named_parameters())
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for place, value in tensors.items():
        key, _, name = place.partition(".")
        state[numbers[named[name]]][key] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": dict(state)})


def lr_factor(
    step: int,
    total: int,
    per_epoch: int,
    warmup: float,
    schedule: Schedule,
    scores: Sequence[float] = (),
) -> float:
    """Factor on the rate for update `step` (from 0) of `total`, of which an epoch has `per_epoch`.

    It climbs over the first `warmup` share of the updates to 1. Then it falls towards 0, linearly or
    along half a cosine, stays, or is cut: after whole epochs since the training began (step), or
    where the finished epochs' `scores`, larger is better, no longer rise (plateau). It depends on
    nothing else, so a resumed run needs no schedule restored.
    """
    climb = math.ceil(total * warmup)
    if step < climb:
        return (step + 1) / climb
    done = (step - climb) / max(total - climb, 1)
    match schedule:
        case Linear():
            return 1 - done
        case Cosine():
            return 0.5 * (1 + math.cos(math.pi * done))
        case Step():
            return schedule.factor ** (step // per_epoch // schedule.every)
        case Plateau():
            return schedule.factor ** _plateaus(scores, schedule.patience)
    return 1.0


def _plateaus(scores: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no better score; each time counts anew."""
    best, waited, cuts = -math.inf, 0, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == patience:
            waited, cuts = 0, cuts + 1
    return cuts
