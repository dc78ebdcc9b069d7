"""Poolings by convolutions over the sequence. What lies beyond a row's tokens is zero to all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig

from foldstack import techniques
from foldstack.nets.poolings import Pooling

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "identity": lambda values: values}


class CnnPooling(Pooling):
    """Convolutions of several widths, and each filter's largest or mean value (Kim 2014).

    A window lies within the real tokens; a text shorter than a window is padded with zeros to its
    size. Weights are he-normal (He et al. 2015).
    """

    def __init__(self, head: techniques.CnnHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.head = head
        each = head.top if head.read == "top" else 1
        self.size = head.filters * len(head.widths) * each
        self.activation = ACTIVATIONS[head.activation]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.hidden_size, head.filters, width, dilation=head.dilation)
            for width in head.widths
        )
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        tokens = (states[:, -1] * mask.unsqueeze(-1)).transpose(1, 2)
        widest = self.head.dilation * (max(self.head.widths) - 1)
        further = self.head.top if self.head.read == "top" else 0
        tokens = F.pad(tokens, (0, widest + further))
        lengths = mask.sum(dim=1, keepdim=True)
        return torch.cat([self._of(c, tokens, lengths) for c in self.convolutions], dim=1)

    def _of(self, convolution: nn.Conv1d, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return (b, filters) or (b, top * filters) of (b, h, t) tokens, `lengths` (b, 1) real."""
        found = self.activation(convolution(tokens))
        covers = self.head.dilation * (convolution.kernel_size[0] - 1)
        windows = (lengths - covers).clamp(min=1)
        inside = (torch.arange(found.shape[2], device=found.device) < windows).unsqueeze(1)
        if self.head.read == "mean":
            return (found * inside).sum(dim=2) / windows
        found = found.masked_fill(~inside, -torch.inf)
        if self.head.read == "max":
            return found.amax(dim=2)
        # Not topk: among equal values, as ReLU leaves, it may choose other ones beside padding.
        order = found.sort(dim=2, descending=True, stable=True).indices
        places = order[..., : self.head.top].sort(dim=2).values
        top = found.gather(2, places)
        return top.masked_fill(top.isneginf(), 0).flatten(1)  # fewer windows than values


class Pyramid(Pooling):
    """Convolutions that keep the length, between which it is divided by pooling."""

    def __init__(self, head: techniques.Head, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.size = head.filters

    def _convolution(self, given: int, width: int) -> nn.Conv1d:
        made = nn.Conv1d(given, self.size, width, padding=width // 2)
        nn.init.kaiming_normal_(made.weight, nonlinearity="relu")
        nn.init.zeros_(made.bias)
        return made


class DpcnnPooling(Pyramid):
    """Region embedding, then pre-activated pairs with a shortcut (Johnson and Zhang 2017).

    Before each pair but the first the maximum over 3 with stride 2 halves the length.
    """

    def __init__(self, head: techniques.DpcnnHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.region = self._convolution(config.hidden_size, 3)
        self.pairs = nn.ModuleList(
            nn.ModuleList([self._convolution(self.size, 3), self._convolution(self.size, 3)])
            for _ in range(head.blocks)
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(dim=1)
        x = within(self.region(within(states[:, -1].transpose(1, 2), lengths)), lengths)
        for number, pair in enumerate(self.pairs):
            if number:
                x, lengths = pooled(x, lengths, 3, 2)
            inner = x
            for convolution in pair:
                inner = within(convolution(inner.relu()), lengths)
            x = x + inner
        return within(x, lengths, -torch.inf).amax(dim=2)


class CharCnnPooling(Pyramid):
    """Six convolutions, the length divided by 3 after three of them (Zhang et al. 2015)."""

    WIDTHS, POOLED = (7, 7, 3, 3, 3, 3), (0, 1, 5)

    def __init__(self, head: techniques.CharCnnHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        given = (config.hidden_size, *[self.size] * 5)
        self.convolutions = nn.ModuleList(map(self._convolution, given, self.WIDTHS))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(dim=1)
        x = within(states[:, -1].transpose(1, 2), lengths)
        for number, convolution in enumerate(self.convolutions):
            x = within(convolution(x).relu(), lengths)
            if number in self.POOLED:
                x, lengths = pooled(x, lengths, 3, 3)
        return within(x, lengths, -torch.inf).amax(dim=2)


def within(x: Tensor, lengths: Tensor, fill: float = 0.0) -> Tensor:
    """Return (b, h, t) features with those beyond each row's length (b,) set to `fill`."""
    beyond = torch.arange(x.shape[2], device=x.device) >= lengths.unsqueeze(1)
    return x.masked_fill(beyond.unsqueeze(1), fill)


def pooled(x: Tensor, lengths: Tensor, size: int, stride: int) -> tuple[Tensor, Tensor]:
    """Return the maxima over windows from every stride-th position on, and their number per row.

    A row of any length has one at least: the last windows reach beyond it.
    """
    x = F.pad(within(x, lengths, -torch.inf), (0, size - 1), value=-torch.inf)
    left = (lengths + stride - 1) // stride
    return within(F.max_pool1d(x, size, stride), left), left
