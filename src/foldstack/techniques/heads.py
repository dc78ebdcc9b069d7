"""Heads; their implementations are in nets/poolings.py."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from foldstack.errors import InputError
from foldstack.techniques.common import Positive
from foldstack.techniques.registry import Technique


class Head(Technique):
    """How the vectors of a text's tokens become one vector.

    implementation: `(settings, backbone's config, outputs) -> nets.poolings.Pooling`.

    Traits:
        fixed: its pooling has no weights, so that a frozen backbone's pooled vectors are computed
            once.
    """

    fixed: ClassVar[bool] = False

    def check_backbone(self, config: Any) -> None:
        """Raise InputError if a backbone with this config lacks what the head requires."""


class PlainHead(Head):
    """The [CLS] vector; the last token's; the mean or maximum over tokens; both of these."""

    implementation: ClassVar[dict[str, str]] = {
        "cls": "foldstack.nets.poolings:ClsPooling",
        "last": "foldstack.nets.poolings:LastPooling",
        "mean": "foldstack.nets.poolings:MeanPooling",
        "max": "foldstack.nets.poolings:MaxPooling",
        "mean_max": "foldstack.nets.poolings:MeanMaxPooling",
    }
    fixed: ClassVar[bool] = True
    name: Literal["cls", "last", "mean", "max", "mean_max"] = "mean"


class AttentionHead(Head):
    """Tokens weighted by a learned query: one for all outputs (`attention`), or one per output
    (`labels`).

    width: of the hidden layer that scores tokens.
    """

    implementation: ClassVar[dict[str, str]] = {
        "attention": "foldstack.nets.poolings:AttentionPooling",
        "labels": "foldstack.nets.poolings:LabelsPooling",
    }
    name: Literal["attention", "labels"]
    width: PositiveInt = 128


class ClsAttentionHead(Head):
    """Mean, maximum, and what [CLS] attends to, side by side.

    heads: of the attention from [CLS] to the sequence.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:ClsAttentionPooling"
    name: Literal["cls_attention"]
    heads: PositiveInt = 1

    def check_backbone(self, config: Any) -> None:
        width = config.hidden_size
        if width % self.heads:
            raise InputError(
                f"head.heads is {self.heads}, which does not divide the backbone's width of {width}: "
                "set it to 1 or another divisor"
            )


class _OfLayers(Head):
    layers: PositiveInt = 4

    def check_backbone(self, config: Any) -> None:
        layers = config.num_hidden_layers
        if self.layers > layers:
            raise InputError(
                f"head.layers is {self.layers}, but the backbone has {layers} "
                f"layer{'s' if layers > 1 else ''}: set it to {layers} or less"
            )


class LayersHead(_OfLayers):
    """A learned mix of the last layers, then the mean over tokens.

    layers: number of last layers.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:LayersPooling"
    name: Literal["layers"]


class ConcatHead(_OfLayers):
    """The [CLS] vectors of the last layers, side by side.

    layers: number of last layers.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:ConcatPooling"
    fixed: ClassVar[bool] = True
    name: Literal["concat"]


class GemHead(Head):
    """Generalised mean with a learned exponent.

    p: initial exponent; 1: the mean; the larger, the closer to the maximum.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:GemPooling"
    name: Literal["gem"]
    p: Positive = 3.0


class RecurrentHead(Head):
    """A bidirectional network over the sequence; mean and maximum of its outputs.

    width: of each of the two directions.
    """

    implementation: ClassVar[dict[str, str]] = {
        "lstm": "foldstack.nets.poolings:LstmPooling",
        "gru": "foldstack.nets.poolings:GruPooling",
    }
    name: Literal["lstm", "gru"]
    width: PositiveInt = 128


class CnnHead(Head):
    """Convolutions over the sequence; their maximum over time.

    widths: of the windows, in tokens.
    filters: of each width.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:CnnPooling"
    name: Literal["cnn"]
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (3, 4, 5)
    filters: PositiveInt = 100
