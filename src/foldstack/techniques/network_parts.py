"""Parts of a network that settings may require."""

from __future__ import annotations

from enum import StrEnum


class NetworkPart(StrEnum):
    """A part that not every network has; `nets.trainable.Trainable` defines its use."""

    POOLED = "pooled vectors"
    MIXABLE = "pooled vectors that can be mixed"
    AUXILIARY = "auxiliary outputs"
    LAYERS = "named layers"
    BACKBONE = "a backbone"
    FROZEN_VECTORS = "the vectors of a frozen backbone"
