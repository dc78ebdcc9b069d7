"""Averages of weights along the training, from which the predictions are made.

No backbone here has batch normalisation, so that nothing has to be re-estimated for the
averaged weights.
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


class WeightAverage(Protocol):
    """An average of weights that the loop updates and applies."""

    def after_update(self, model: nn.Module) -> None: ...

    def after_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        """epoch: the number of the one that has ended, from 1, of `epochs`."""

    def applied(self, model: nn.Module) -> AbstractContextManager[None]:
        """The average stands in the model; after it, also after an error, the very weights again."""

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


def make_averaging(settings: techniques.Averaging | None, model: nn.Module) -> WeightAverage:
    """The average over the weights that are trained, for a model that lies on its device already.

    A soup is made of whole epochs when the training has ended, by `greedy_soup`: until then there is
    nothing to do.
    """
    return NoAverage(settings, model) if settings is None else settings.load()(settings, model)


class NoAverage:
    """The weights themselves."""

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
    """An average that moves a share of the way to the weights, time and again.

    Until it first moves, it is the weights themselves. Frozen weights and buffers stay as they are.
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
        kept = {k: p.data for k, p in weights.items()}
        try:
            for name, p in weights.items():
                p.data = self.average[name]
            yield
        finally:
            for name, p in weights.items():
                p.data = kept[name]

    def state(self) -> dict[str, Tensor]:
        return {"moves": torch.tensor(self.moves)} | {
            f"average.{k}": v for k, v in self.average.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.moves = int(state["moves"])
        for name, tensor in self.average.items():
            tensor.copy_(state[f"average.{name}"])


class EMAverage(_Running):
    """Exponential moving average (Polyak and Juditsky 1992), its decay warmed up.

    After t earlier updates it is min(decay, (1 + t) / (10 + t)), so that the weights from before the
    training are soon forgotten, however short it is.
    """

    def after_update(self, model: nn.Module) -> None:
        t = self.moves
        self._move(model, 1 - min(self.settings.decay, (1 + t) / (10 + t)))


class SWAverage(_Running):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of late epochs' last weights.

    Epochs count whose number is more than `start` of all of them.
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
    """The mean of some epochs' weights (greedy soup, Wortsman et al. 2022), and which, from 1.

    files: each epoch's state dict as safetensors; scores: each epoch's, larger is better; score_of: a
    mean's. The best epoch comes first; each other, in the order of their scores, stays in the mean if
    that does not lower its score. Two sets of weights are in memory at a time.
    """
    order = sorted(range(len(files)), key=lambda i: -scores[i])  # stable: of equals the earlier
    mean, best, chosen = load_file(files[order[0]]), scores[order[0]], [order[0]]
    for i in order[1:]:
        wider = load_file(files[i])
        for name, tensor in wider.items():
            if tensor.is_floating_point():
                # A running mean leaves what is the same in all epochs as it is, to the bit.
                torch.lerp(mean[name], tensor, 1 / (len(chosen) + 1), out=tensor)
        score = score_of(wider)
        if score >= best:
            mean, best = wider, score
            chosen.append(i)
    return mean, [i + 1 for i in chosen]
