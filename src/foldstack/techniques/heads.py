"""Heads. What each computes is in nets/heads.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import Positive


class PlainHead(Settings):
    name: Literal["cls", "mean", "max", "mean_max"] = "mean"


class AttentionHead(Settings):
    """width: of the hidden layer that scores tokens. labels: an attention for each output."""

    name: Literal["attention", "labels"]
    width: PositiveInt = 128


class ClsAttentionHead(Settings):
    """heads: of the attention from the [CLS] vector to the sequence."""

    name: Literal["cls_attention"]
    heads: PositiveInt = 1


class LayersHead(Settings):
    """layers: how many of the last ones are mixed (layers) or put side by side (concat)."""

    name: Literal["layers", "concat"]
    layers: PositiveInt = 4


class GemHead(Settings):
    """p: where the learned exponent begins (1: the mean; the larger, the more like the maximum)."""

    name: Literal["gem"]
    p: Positive = 3.0


class RecurrentHead(Settings):
    """width: of each of the two directions."""

    name: Literal["lstm", "gru"]
    width: PositiveInt = 128


class CnnHead(Settings):
    """widths: of the windows, in tokens; filters: of each width."""

    name: Literal["cnn"]
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (3, 4, 5)
    filters: PositiveInt = 100


Head = PlainHead | AttentionHead | ClsAttentionHead | LayersHead | GemHead | RecurrentHead | CnnHead

# Heads whose pooling learns nothing.
FIXED_HEADS = ("cls", "mean", "max", "mean_max", "concat")
