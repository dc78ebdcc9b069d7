"""Parameter groups of the optimiser, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foldstack import techniques
from foldstack.nets.shared_out import shared_as
from foldstack.nets.trainable import Trainable
from foldstack.techniques import LoopSettings, Optimizer, Schedule

MANY = 20_000  # rows of an embedding, from which sparse gradients take less time than dense ones


def make_optimizer(
    model: nn.Module,
    settings: LoopSettings,
    sparse: bool = False,
    rates: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Return the optimiser over the trained parameters, grouped by learning rate and weight decay.

    Each group keeps its rate at the top of the schedule as `initial_lr`. Weight decay applies to
    matrices, not to biases and norms. sparse: let large embeddings have sparse gradients where an
    update stays the same. rates: what `layer_rates` has returned of the same model, default: it.
    """
    members = defaultdict(list)
    rates = layer_rates(model, settings) if rates is None else rates
    large = _made_sparse(model, sparse and settings.rowwise)
    for name, p in model.named_parameters():
        if p.requires_grad:
            decays = p.ndim > 1 and not name.endswith("bias")  # XLNet's biases are matrices
            rate = settings.lr if rates is None else rates[name]
            members[rate, settings.weight_decay if decays else 0.0, p in large].append(p)
    groups = [
        {"params": ps, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        | ({"sparse": True} if is_sparse else {})
        for (lr, decay, is_sparse), ps in members.items()
    ]
    chosen = Optimizer.registered[settings.optimizer](name=settings.optimizer)
    return chosen.load()(groups, settings.lr)


def _made_sparse(model: nn.Module, sparse: bool) -> set[nn.Parameter]:
    """Give large embeddings sparse gradients, if `sparse`, else dense; return their weights.

    An update then takes as long as its batch has words, whatever the size of the vocabulary.
    """
    large = {m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings >= MANY}
    for embedding in large:
        embedding.sparse = sparse  # a stage before may have had them sparse
    if not (sparse and large):
        return set()
    torch.sparse.check_sparse_tensor_invariants.disable()  # the default, which torch warns of
    return {embedding.weight for embedding in large}


def layer_rates(model: Trainable, settings: LoopSettings) -> dict[str, float] | None:
    """Return each named parameter's learning rate at the top of the schedule; None if all have `lr`.

    Layer-wise rates (Howard and Ruder 2018): `lr` for the top layer and what follows it, times
    `layer_decay` for each layer below, once more for the embeddings; `head_lr`, or else `lr`, for
    the head and re-initialised layers.
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
    """Return Adafactor with absolute rates: `lr` is a step's root mean square, so AdamW's rates fit."""
    # torch multiplies the rate by the weights' own size, at least eps[1]: 1 makes it absolute. It
    # bounds mean squared gradients by eps[0], whose default, 1e-7, is above those of a large model;
    # its square, the bound of their product, must not vanish in float32.
    return torch.optim.Adafactor(groups, lr=lr, eps=(1e-16, 1.0))


def adagrad(groups: list[dict], lr: float) -> torch.optim.Optimizer:
    """Return Adagrad; its weight decay is added to the gradient."""
    # Only the fused implementation is fast, and it has no sparse gradients.
    chosen = [{**group, "fused": not group.get("sparse", False)} for group in groups]
    return torch.optim.Adagrad(chosen, lr=lr)


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
    """Load what `state_tensors` returned, each tensor to its parameter's device."""
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = {p: i for i, p in enumerate(trained)}
    named = dict(model.named_parameters())
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for place, value in tensors.items():
        key, _, name = place.partition(".")
        p = named[name]
        state[numbers[p]][key] = shared_as(p, value) if value.shape == p.shape else value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": dict(state)})


def lr_factor(
    step: int,
    total: int,
    per_epoch: int,
    warmup: float,
    schedule: Schedule,
    scores: Sequence[float] = (),
) -> float:
    """Return the factor on the learning rate for an update.

    It rises linearly to 1 during the warm-up. Then it decays to 0, linearly or along half a cosine,
    stays constant, or is cut: every few epochs (step), or if the epochs' scores no longer improve
    (plateau). It has no other state, so a resumed run needs no schedule restored.

    Args:
        step: number of the update, from 0.
        total: number of updates.
        per_epoch: updates per epoch.
        warmup: share of the updates during which the rate rises.
        schedule: settings.
        scores: of the finished epochs; larger is better.
    """
    climb = math.ceil(total * warmup)
    if step < climb:
        return (step + 1) / climb
    done = (step - climb) / max(total - climb, 1)
    return schedule.load()(schedule, Place(done, step // per_epoch, scores))


@dataclass(frozen=True)
class Place:
    """The position of an update in the training, for a schedule.

    done: share of the updates after the warm-up that are done. epoch: number of finished epochs.
    scores: of these epochs; larger is better.
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
    """Return how often `patience` successive epochs had no better score; the count then restarts."""
    best, waited, cuts = -math.inf, 0, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited == patience:
            waited, cuts = 0, cuts + 1
    return cuts
