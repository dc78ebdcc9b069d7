"""Heads; their implementations are in nets/poolings.py."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from foldstack.errors import InputError
from foldstack.settings import at_least_one, one_in_a_list
from foldstack.techniques.registry import Technique


class Head(Technique):
    """How the vectors of a text's tokens become one vector.

    implementation: `(settings, backbone's config, outputs) -> nets.poolings.Pooling`.

    Traits:
        fixed: its pooling has no weights, so that a frozen backbone's pooled vectors are computed
            once.
        reads_cls: it reads the vector of the [CLS] token.
        reads_sentences: its mask numbers the sentences of a text.
        averages: it reads the mean over tokens alone.
        reads_last: it reads the last token's vector.
        per_output: each output has a vector of its own.
    """

    fixed: ClassVar[bool] = False
    reads_cls: ClassVar[bool] = False
    reads_sentences: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    reads_last: ClassVar[bool] = False
    per_output: ClassVar[bool] = False

    def check_backbone(self, config: Any) -> None:
        """Raise InputError if a backbone with this config lacks what the head requires."""


class MeanHead(Head):
    """The mean over tokens."""

    implementation: ClassVar[str] = "foldstack.nets.poolings:MeanPooling"
    fixed: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    name: Literal["mean"] = "mean"


class PlainHead(Head):
    """The maximum over tokens; the mean and the maximum."""

    implementation: ClassVar[dict[str, str]] = {
        "max": "foldstack.nets.poolings:MaxPooling",
        "mean_max": "foldstack.nets.poolings:MeanMaxPooling",
    }
    fixed: ClassVar[bool] = True
    name: Literal["max", "mean_max"]


class LastHead(Head):
    """The last token's vector, which in a causal backbone has seen all others."""

    implementation: ClassVar[str] = "foldstack.nets.poolings:LastPooling"
    fixed: ClassVar[bool] = True
    reads_last: ClassVar[bool] = True
    name: Literal["last"]


class ClsHead(Head):
    """The [CLS] vector."""

    implementation: ClassVar[str] = "foldstack.nets.poolings:ClsPooling"
    fixed: ClassVar[bool] = True
    reads_cls: ClassVar[bool] = True
    name: Literal["cls"]


class AttentionHead(Head):
    """Tokens weighted by a learned query.

    width: of the hidden layer that scores tokens.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:AttentionPooling"
    name: Literal["attention"]
    width: PositiveInt = 128


class LabelsHead(Head):
    """Tokens weighted by a learned query per output.

    width: of the hidden layer that scores tokens.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:LabelsPooling"
    per_output: ClassVar[bool] = True
    name: Literal["labels"]
    width: PositiveInt = 128


class ClsAttentionHead(Head):
    """Mean, maximum, and what [CLS] attends to, side by side.

    heads: of the attention from [CLS] to the sequence.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:ClsAttentionPooling"
    reads_cls: ClassVar[bool] = True
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
    reads_cls: ClassVar[bool] = True
    name: Literal["concat"]


class GemHead(Head):
    """Generalised mean with a learned exponent.

    p: initial exponent; 1: the mean; the larger, the closer to the maximum.
    """

    implementation: ClassVar[str] = "foldstack.nets.poolings:GemPooling"
    name: Literal["gem"]
    p: Annotated[float, Field(ge=0.1, le=100)] = 3.0


class RecurrentHead(Head):
    """A recurrent network over the sequence, and what is read of its outputs.

    width: of each direction.
    layers: networks, each over the outputs of the one before.
    directions: both, or from the beginning to the end only.
    read: mean_max: mean and maximum of the outputs over tokens; mean; max; last: where each
        direction ends; attention: weighted by a learned query (Yang et al. 2016).
    """

    implementation: ClassVar[dict[str, str]] = {
        "lstm": "foldstack.nets.recurrent:LstmPooling",
        "gru": "foldstack.nets.recurrent:GruPooling",
    }
    name: Literal["lstm", "gru"]
    width: PositiveInt = 128
    layers: PositiveInt = 1
    directions: Literal["both", "forward"] = "both"
    read: Literal["mean_max", "mean", "max", "last", "attention"] = "mean_max"


class RcnnHead(Head):
    """Each token between what a recurrent network has read before and after it; the maximum over
    tokens (Lai et al. 2015, Recurrent Convolutional Neural Networks).

    context: width of the network of each direction.
    width: of the dense layer over a token and its two contexts.
    """

    implementation: ClassVar[str] = "foldstack.nets.recurrent:RcnnPooling"
    name: Literal["rcnn"]
    context: PositiveInt = 100
    width: PositiveInt = 100


class HanHead(Head):
    """Words weighted by attention make sentences, sentences weighted by attention the text, each
    after a bidirectional GRU (Yang et al. 2016, Hierarchical Attention Networks).

    width: of each direction of both networks.
    """

    implementation: ClassVar[str] = "foldstack.nets.hierarchical:HanPooling"
    reads_sentences: ClassVar[bool] = True
    name: Literal["han"]
    width: PositiveInt = 50


class CnnHead(Head):
    """Convolutions over the sequence, and what is read of each filter (Kim 2014).

    widths: of the windows, in tokens.
    filters: of each width.
    dilation: tokens from one of a window to the next.
    activation: of the filters.
    read: max: each filter's maximum; mean; top: its `top` largest values, in the order of the text
        (Kalchbrenner et al. 2014).
    top: number of values for `read: top`.
    """

    implementation: ClassVar[str] = "foldstack.nets.convolutions:CnnPooling"
    name: Literal["cnn"]
    widths: Annotated[
        tuple[PositiveInt, ...], BeforeValidator(one_in_a_list), AfterValidator(at_least_one)
    ] = (3, 4, 5)
    filters: PositiveInt = 100
    dilation: PositiveInt = 1
    activation: Literal["relu", "tanh", "identity"] = "relu"
    read: Literal["max", "mean", "top"] = "max"
    top: PositiveInt = 3

    @model_validator(mode="after")
    def _reads_the_top(self) -> CnnHead:
        if self.read != "top" and self.top != type(self).model_fields["top"].default:
            raise ValueError(f"`top` changes nothing if read is {self.read}: leave it out")
        return self


class DpcnnHead(Head):
    """Deep pyramid convolutions (Johnson and Zhang 2017): pairs of convolutions with a shortcut, the
    length halved before each pair but the first; then the maximum over what is left.

    filters: of every convolution.
    blocks: number of pairs.
    """

    implementation: ClassVar[str] = "foldstack.nets.convolutions:DpcnnPooling"
    name: Literal["dpcnn"]
    filters: PositiveInt = 250
    blocks: PositiveInt = 4


class CharCnnHead(Head):
    """The stack of convolutions that Zhang et al. 2015 (Character-level Convolutional Networks) have
    over characters: widths 7, 7, 3, 3, 3, 3, the length divided by 3 after the first, the second and
    the last. Then the maximum over what is left, since texts differ in length.

    filters: of every convolution.
    """

    implementation: ClassVar[str] = "foldstack.nets.convolutions:CharCnnPooling"
    name: Literal["charcnn"]
    filters: PositiveInt = 256


class EncoderHead(Head):
    """A transformer from scratch (Vaswani et al. 2017) with sinusoidal positions; mean over tokens.

    layers, heads: of the encoder.
    width: of its dense layers.
    """

    implementation: ClassVar[str] = "foldstack.nets.encoder_head:EncoderPooling"
    name: Literal["encoder"]
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    width: PositiveInt = 512

    def check_backbone(self, config: Any) -> None:
        if config.hidden_size % self.heads:
            raise InputError(
                f"head.heads is {self.heads}, which does not divide the width of "
                f"{config.hidden_size}: set it to a divisor"
            )
