"""Averages of weights during training, which are used for prediction.

No backbone here has batch normalisation, so nothing needs re-estimation for averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from foldstack import techniques
from foldstack.nets.shared_out import shared_as
from foldstack.training.attacks import put, restored


class WeightAverage(Protocol):
    """An average of weights that the loop updates and applies."""

    def after_update(self, model: nn.Module) -> None: ...

    def after_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """Update after an epoch; epoch: number of the finished one, from 1, of `epochs`."""

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """Put the average into the model inside the context; restore the exact weights afterwards."""

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


def make_averaging(settings: techniques.Averaging | None, model: nn.Module) -> WeightAverage:
    """Return the average of the trained weights, for a model that is already on its device.

    A soup is mixed from whole epochs by `greedy_soup` after training; during training it does
    nothing.
    """
    return NoAverage(settings, model) if settings is None else settings.load()(settings, model)


class NoAverage:
    """No average: the current weights."""

    def __init__(self, settings: techniques.Averaging | None, model: nn.Module):
        pass

    def after_update(self, model: nn.Module) -> None:
        pass

    def after_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        pass

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        yield

    def state(self) -> dict[str, Tensor]:
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        pass


class _Running(NoAverage):
    """A running average that moves a share of the way towards the weights at each step.

    Until its first step it equals the weights. Frozen weights and buffers are not averaged.
    """

    def __init__(self, settings: techniques.EMA | techniques.SWA, model: nn.Module):
        self.settings, self.moves = settings, 0
        self.average = {k: p.detach().clone() for k, p in _trained(model).items()}

    @torch.no_grad()
    def _move(self, model: nn.Module, share: float) -> None:
        weights = _trained(model)
        torch._foreach_lerp_(list(self.average.values()), [weights[k] for k in self.average], share)
        self.moves += 1

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        if not self.moves:
            yield
            return
        weights = _trained(model)
        with restored(list(weights.values())):
            put(list(weights.values()), (self.average[name] for name in weights))
            yield

    def state(self) -> dict[str, Tensor]:
        return {"moves": torch.tensor(self.moves)} | {
            f"average.{k}": v for k, v in self.average.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.moves = int(state["moves"])
        for name, tensor in self.average.items():
            tensor.copy_(shared_as(tensor, state[f"average.{name}"]))


class EMAverage(_Running):
    """Exponential moving average (Polyak and Juditsky 1992) with a warmed-up decay.

    After t earlier updates the decay is min(decay, (1 + t) / (10 + t)), so that the initial weights
    are soon forgotten, however short the training is.
    """

    def after_update(self, model: nn.Module) -> None:
        t = self.moves
        self._move(model, 1 - min(self.settings.decay, (1 + t) / (10 + t)))


class SWAverage(_Running):
    """Mean of the weights after each of the last epochs (Izmailov et al. 2018).

    An epoch counts if its number is more than `start` times the number of epochs.
    """

    def after_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        if epoch / epochs > self.settings.start:
            self._move(model, 1 / (self.moves + 1))


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {k: p for k, p in model.named_parameters() if p.requires_grad}


def greedy_soup(
    files: Sequence[Path],
    scores: Sequence[float],
    score_of: Callable[[dict[str, Tensor]], float],
) -> tuple[dict[str, Tensor], list[int]]:
    """Return the mean of some epochs' weights (greedy soup, Wortsman et al. 2022), and which, from 1.

    The best epoch comes first; each other, in order of its score, is kept in the mean if that does
    not lower the mean's score. Two sets of weights are in memory at a time.

    Args:
        files: each epoch's state dict as safetensors.
        scores: each epoch's; larger is better.
        score_of: returns the score of a state dict.
    """
    order = sorted(
        range(len(files)), key=lambda i: -scores[i]
    )  # stable: the earlier of equal scores
    mean, best, chosen = load_file(files[order[0]]), scores[order[0]], [order[0]]
    for i in order[1:]:
        wider = load_file(files[i])
        for name, tensor in wider.items():
            if tensor.is_floating_point():
                # A running mean keeps tensors that are equal in all epochs, bit by bit.
                torch.lerp(mean[name], tensor, 1 / (len(chosen) + 1), out=tensor)
        score = score_of(wider)
        if score >= best:
            mean, best = wider, score
            chosen.append(i)
    return mean, [i + 1 for i in chosen]
