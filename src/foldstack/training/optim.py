"""The optimiser's parameter groups and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foldstack import techniques
from foldstack.nets.trainable import Trainable
from foldstack.techniques import LoopSettings, Optimizer, Schedule


def make_optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """Return the optimiser over what is not frozen, in groups of one rate and one weight decay.

    Each group keeps its rate at the schedule's top as `initial_lr`. Decay is for matrices, none for
    biases and norms.
    """
    members = defaultdict(list)
    rates = layer_rates(model, settings)
    for name, p in model.named_parameters():
        if p.requires_grad:
            decays = p.ndim > 1 and not name.endswith("bias")  # XLNet has biases for each head
            rate = settings.lr if rates is None else rates[name]
            members[rate, settings.weight_decay if decays else 0.0].append(p)
    groups = [
        {"params": ps, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for (lr, decay), ps in members.items()
    ]
    chosen = Optimizer.registered[settings.optimizer](name=settings.optimizer)
    return chosen.load()(groups, settings.lr)


def layer_rates(model: Trainable, settings: LoopSettings) -> dict[str, float] | None:
    """Return the rate of each named parameter at the schedule's top; None if all have `lr`.

    Layer-wise rates (Howard and Ruder 2018): `lr` for the top layer and what follows it, times
    `layer_decay` for each layer below, once more for the embeddings; `head_lr`, or else `lr`, for the
    head and for layers that are re-initialised.
    """
    if not settings.rates_by_layer:
        return None
    depths, head, top = model.named_layers()
    old = top - settings.reinit_layers
    return {
        name: (settings.head_lr or settings.lr)
        if name in head or old < depth <= top
        else settings.lr * settings.layer_decay ** max(top - depth, 0)
        for name, depth in depths.items()
    }


def adamw(groups: list[dict], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def adafactor(groups: list[dict], lr: float) -> torch.optim.Optimizer:
    """Return Adafactor whose rate is the root mean square of a matrix's step, so that AdamW's fit."""
    # torch multiplies the rate by the weights' own size, at least eps[1]: 1 makes it absolute. It
    # bounds mean squared gradients by eps[0], whose default, 1e-7, is above those of a large model;
    # its square, the bound of their product, must not vanish in float32.
    return torch.optim.Adafactor(groups, lr=lr, eps=(1e-16, 1.0))


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state, as `KEY.PARAMETER`, for a checkpoint."""
    return {
        f"{key}.{name}": value
        for name, p in model.named_parameters()
        for key, value in optimizer.state.get(p, {}).items()
    }


def load_state_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `state_tensors` returned, each tensor in the optimiser's place."""
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
    return schedule.load()(schedule, Place(done, step // per_epoch, scores))


@dataclass(frozen=True)
class Place:
    """Where in the training an update is, for a schedule.

    done: share of the updates after the warm-up. epoch: how many are finished. scores: theirs, larger
    is better.
    """

    done: float
    epoch: int
    scores: Sequence[float]


def linear_factor(schedule: techniques.LinearSchedule, place: Place) -> float:
    return 1 - place.done


def cosine_factor(schedule: techniques.Cosine, place: Place) -> float:
    return 0.5 * (1 + math.cos(math.pi * place.done))


def constant_factor(schedule: techniques.ConstantSchedule, place: Place) -> float:
    return 1.0


def step_factor(schedule: techniques.Step, place: Place) -> float:
    return schedule.factor ** (place.epoch // schedule.every)


def plateau_factor(schedule: techniques.Plateau, place: Place) -> float:
    return schedule.factor ** _plateaus(place.scores, schedule.patience)


def _plateaus(scores: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no better score; the count then starts over."""
    best, waited, cuts = -math.inf, 0, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == patience:
            waited, cuts = 0, cuts + 1
    return cuts
