"""Poolings by a recurrent network over the sequence.

The backward direction reads each row's real tokens reversed, so that it starts at the last of them.
Packed sequences would do the same, but require lengths on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from foldstack import techniques
from foldstack.nets.poolings import (
    Pooling,
    additive_scores,
    masked_softmax,
    max_pool,
    mean_max_pool,
    mean_pool,
)

READ = {"mean_max": mean_max_pool, "mean": mean_pool, "max": max_pool}


class Directions(nn.Module):
    """One or two recurrent networks over a sequence; size: of their outputs together."""

    def __init__(self, kind: type[nn.RNNBase], given: int, width: int, both: bool = True):
        super().__init__()
        self.size = width * (1 + both)
        self.ahead = kind(given, width, batch_first=True)
        self.back = kind(given, width, batch_first=True) if both else None

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return (b, t, size) outputs of (b, t, h) tokens; those of padding have no meaning."""
        return run(self.ahead, self.back, tokens, mask)


class RecurrentPooling(Pooling):
    """LSTM (Hochreiter and Schmidhuber 1997) or GRU (Cho et al. 2014) over the tokens."""

    kind: type[nn.RNNBase]

    def __init__(self, head: techniques.RecurrentHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        both = head.directions == "both"
        self.read, self.width, size = head.read, head.width, head.width * (1 + both)
        self.size = 2 * size if head.read == "mean_max" else size
        # The first layer's weights are named as when there was but one.
        first = Directions(self.kind, config.hidden_size, head.width, both)
        self.ahead, self.back = first.ahead, first.back
        self.further = nn.ModuleList(
            Directions(self.kind, size, head.width, both) for _ in range(head.layers - 1)
        )
        self.scores = additive_scores(size, size, 1) if head.read == "attention" else None

    def outputs(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return (b, t, size) outputs of the last layer."""
        # On a GPU autocast would use fp16 for it, even if set to bf16: gradients vanish in fp16.
        with torch.autocast(states.device.type, enabled=False):
            tokens = states[:, -1].to(self.ahead.weight_ih_l0.dtype)
            tokens = run(self.ahead, self.back, tokens, mask)
            for layer in self.further:
                tokens = layer(tokens, mask)
            return tokens

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        outputs = self.outputs(states, mask)
        with torch.autocast(states.device.type, enabled=False):
            if self.scores is not None:
                return (self._weights(outputs, mask).unsqueeze(1) @ outputs).squeeze(1)
            return (
                self._last(outputs, mask) if self.read == "last" else READ[self.read](outputs, mask)
            )

    def _last(self, outputs: Tensor, mask: Tensor) -> Tensor:
        """Return (b, size): where each direction ends, at the last real token and at the first."""
        rows = torch.arange(len(outputs), device=outputs.device)
        ahead = outputs[rows, mask.sum(dim=1) - 1, : self.width]
        return torch.cat([ahead, outputs[:, 0, self.width :]], dim=1)

    def attention(self, states: Tensor, mask: Tensor) -> Tensor | None:
        return None if self.scores is None else self._weights(self.outputs(states, mask), mask)

    def _weights(self, outputs: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(self.scores(outputs).squeeze(2), mask)


class LstmPooling(RecurrentPooling):
    kind = nn.LSTM


class GruPooling(RecurrentPooling):
    kind = nn.GRU


class RcnnPooling(Pooling):
    """max over tokens of tanh(W [left context; token; right context] + b) (Lai et al. 2015).

    The contexts are those of LSTMs, which have read the tokens before, or after, this one.
    """

    def __init__(self, head: techniques.RcnnHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.context, self.size = head.context, head.width
        self.both = Directions(nn.LSTM, config.hidden_size, head.context)
        self.dense = nn.Linear(2 * head.context + config.hidden_size, head.width)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            tokens = states[:, -1].to(self.dense.weight.dtype)
            read = self.both(tokens, mask) * mask.unsqueeze(2)  # nothing comes after the last token
            left, right = read[..., : self.context], read[..., self.context :]
            left = nn.functional.pad(left, (0, 0, 1, 0))[:, :-1]
            right = nn.functional.pad(right, (0, 0, 0, 1))[:, 1:]
            return max_pool(self.dense(torch.cat([left, tokens, right], dim=2)).tanh(), mask)


def run(ahead: nn.RNNBase, back: nn.RNNBase | None, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return (b, t, size) outputs of one or two directions side by side."""
    found, _ = ahead(tokens)
    if back is None:
        return found
    mirrored = mirror(mask)
    other, _ = back(gather_tokens(tokens, mirrored))
    return torch.cat([found, gather_tokens(other, mirrored)], dim=2)


def mirror(mask: Tensor) -> Tensor:
    """Return (b, t) positions that reverse the real tokens of each row and keep padding in place."""
    places = torch.arange(mask.shape[1], device=mask.device)
    turned = mask.sum(dim=1, keepdim=True) - 1 - places
    return torch.where(turned >= 0, turned, places)


def gather_tokens(hidden: Tensor, places: Tensor) -> Tensor:
    """Return (b, t, h) vectors, each row's in the order of (b, t) positions."""
    return hidden.gather(1, places.unsqueeze(2).expand(-1, -1, hidden.shape[2]))
