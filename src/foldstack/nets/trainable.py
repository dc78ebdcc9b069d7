"""The protocol of a network that the training loop trains."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from foldstack.techniques.network_parts import NetworkPart


class NamedLayers(NamedTuple):
    """Where each parameter lies in a network of `count` layers.

    depths: of each named parameter; 0: what comes before the first layer, i + 1: layer i, count + 1:
    what follows the last. head: the names of those that are no part of the backbone.
    """

    depths: dict[str, int]
    head: frozenset[str]
    count: int


class Trainable(nn.Module):
    """A network that `training.loop` trains.

    Its forward takes what `Examples.tokens.batch` returns as keywords, and `pooled=True`, with which it
    returns logits (k b, outputs and auxiliary ones) of k ≥ 1 dropout masks, and (b, size) pooled
    vectors; without it the (b, outputs) logits alone. With `NetworkPart.MIXABLE` among its parts it
    takes `mixup=`, a `nets.mixup.Mixup`, too.

    parts: those that it has; a setting that requires another is refused before the training.
    embeds_time_first: its word embeddings are of (t, b) tokens.
    """

    parts: frozenset[NetworkPart] = frozenset({NetworkPart.POOLED})
    embeds_time_first = False

    @property
    def body_name(self) -> str:
        """Its name in messages."""
        return type(self).__name__

    def word_embeddings(self) -> nn.Module | None:
        """Return the module from (b, t) ids to (b, t, h) vectors, with a `weight`; None without one.

        A network with one is given the `attention_mask` (b, t) of its tokens.
        """
        return None

    def named_layers(self) -> NamedLayers:
        """Return the depths of its parameters, if it has `NetworkPart.LAYERS`."""
        raise NotImplementedError
