"""The protocol of a network that the training loop trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from foldstack.nets.shared_out import shared_as
from foldstack.techniques.network_parts import NetworkPart


class NamedLayers(NamedTuple):
    """The depth of each parameter in a network of `count` layers.

    depths: of each named parameter; 0: before the first layer, i + 1: layer i, count + 1: after the
    last. head: names of the parameters outside the backbone.
    """

    depths: dict[str, int]
    head: frozenset[str]
    count: int


class Trainable(nn.Module):
    """A network that `training.loop` trains.

    Its forward takes what `Examples.tokens.batch` returns as keywords. With `pooled=True` it
    returns logits (k b, outputs and auxiliary ones) of k ≥ 1 dropout masks, and (b, size) pooled
    vectors, and may return (b,) terms that are added to the rows' losses; without it, the (b,
    outputs) logits only. If `NetworkPart.MIXABLE` is among its parts,
    it also takes `mixup=`, a `nets.mixup.Mixup`.

    parts: the parts that it has; a setting that requires another is rejected before training.
    embeds_time_first: its word embeddings are given (t, b) tokens.
    changing: names of those weights of its backbone that training may change, if not all: the others
    are in no checkpoint, and their word embeddings may be perturbed although they are frozen.
    """

    parts: frozenset[NetworkPart] = frozenset({NetworkPart.POOLED})
    embeds_time_first = False
    changing: frozenset[str] | None = None

    @property
    def body_name(self) -> str:
        """The network's name in messages."""
        return type(self).__name__

    def word_embeddings(self) -> nn.Module | None:
        """Return the module from (b, t) ids to (b, t, h) vectors, with a `weight`; None without one.

        A network that has one is given the `attention_mask` (b, t) of its tokens.
        """
        return None

    def learned(self) -> dict[str, Tensor]:
        """Return the state dict without weights that training never changes."""
        state, changing = self.state_dict(), self.changing
        if changing is None:
            return state
        return {k: v for k, v in state.items() if not k.startswith("backbone.") or k in changing}

    def load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `learned` returned; raise RuntimeError if one is missing or unknown."""
        own = self.learned()
        other = set(tensors) ^ set(own)
        if other:
            raise RuntimeError(f"weights are missing or unknown: {', '.join(sorted(other))}")
        self.load_state_dict({k: shared_as(own[k], v) for k, v in tensors.items()}, strict=False)

    def named_layers(self) -> NamedLayers:
        """Return the depths of its parameters, if it has `NetworkPart.LAYERS`."""
        raise NotImplementedError
