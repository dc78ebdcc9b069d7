"""Heads. What each computes is in nets/heads.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import Positive


class PlainHead(Settings):
    """The [CLS] vector; the mean or maximum over tokens; both."""

    name: Literal["cls", "mean", "max", "mean_max"] = "mean"


class AttentionHead(Settings):
    """Tokens weighted by a learned query: one for all outputs (`attention`), or one per output
    (`labels`).

    width: of the hidden layer that scores tokens.
    """

    name: Literal["attention", "labels"]
    width: PositiveInt = 128


class ClsAttentionHead(Settings):
    """Mean, maximum, and what [CLS] attends to, side by side.

    heads: of the attention from [CLS] to the sequence.
    """

    name: Literal["cls_attention"]
    heads: PositiveInt = 1


class LayersHead(Settings):
    """A learned mix of the last layers, then the mean (`layers`); their [CLS] vectors side by side
    (`concat`).

    layers: number of last layers.
    """

    name: Literal["layers", "concat"]
    layers: PositiveInt = 4


class GemHead(Settings):
    """Generalised mean with a learned exponent.

    p: initial exponent; 1: the mean; the larger, the closer to the maximum.
    """

    name: Literal["gem"]
    p: Positive = 3.0


class RecurrentHead(Settings):
    """A bidirectional network over the sequence; mean and maximum of its outputs.

    width: of each of the two directions.
    """

    name: Literal["lstm", "gru"]
    width: PositiveInt = 128


class CnnHead(Settings):
    """Convolutions over the sequence; their maximum over time.

    widths: of the windows, in tokens.
    filters: of each width.
    """

    name: Literal["cnn"]
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (3, 4, 5)
    filters: PositiveInt = 100


Head = PlainHead | AttentionHead | ClsAttentionHead | LayersHead | GemHead | RecurrentHead | CnnHead

# Heads whose pooling learns nothing.
FIXED_HEADS = ("cls", "mean", "max", "mean_max", "concat")
