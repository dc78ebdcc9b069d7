"""A backbone, a pooling, a linear head: token ids in, logits out."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from foldstack.nets.layers import blocks, depths
from foldstack.nets.mixup import Mixup
from foldstack.nets.poolings import check_first_token, make_pooling
from foldstack.nets.trainable import NamedLayers, Trainable
from foldstack.techniques import Head, PlainHead
from foldstack.techniques.network_parts import NetworkPart

DEFAULT_HEAD = PlainHead()  # the mean over tokens

# RoBERTa and its kin number positions from after the padding index.
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"})


class Classifier(Trainable):
    """A pooling (see `heads`) and a linear layer, initialised as the backbone is.

    head: which pooling; the mean over tokens unless it is given. features: the width of the feature
    columns that are joined to each pooled vector. dropout_samples: in training, the number of masks on
    the pooled vectors, each with outputs of its own (multi-sample dropout, Inoue 2019). as_difference:
    the head has two outputs, and the second less the first is the logit: softmax over two classes as
    a sigmoid. auxiliary: further outputs, in training only.

    Raises InputError where the head does not fit the backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        outputs: int,
        dropout: float,
        *,
        head: Head = DEFAULT_HEAD,
        features: int = 0,
        dropout_samples: int = 1,
        as_difference: bool = False,
        auxiliary: int = 0,
    ):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.dropout_samples, self.as_difference = dropout_samples, as_difference
        self.pooling = make_pooling(head, backbone.config, outputs + as_difference)
        check_first_token(self.pooling, backbone, head.name)
        width, std = (
            self.pooling.size + features,
            getattr(backbone.config, "initializer_range", 0.02),
        )
        self.head = _linear(width, outputs + as_difference, std)
        # Drawn last, so that the rest is as it is without.
        self.auxiliary = _linear(width, auxiliary, std) if auxiliary else None

    @property
    def parts(self) -> frozenset[NetworkPart]:
        lacking = {NetworkPart.FROZEN_VECTORS}
        if self.auxiliary is None:
            lacking.add(NetworkPart.AUXILIARY)
        return frozenset(NetworkPart) - lacking

    @property
    def body_name(self) -> str:
        return type(self.backbone).__name__

    @property
    def embeds_time_first(self) -> bool:
        return self.backbone.config.model_type == "xlnet"  # alone of all

    def word_embeddings(self) -> nn.Module | None:
        try:
            found = self.backbone.get_input_embeddings()
        except (NotImplementedError, AttributeError):  # what the library raises if it finds none
            return None
        return found if isinstance(getattr(found, "weight", None), nn.Parameter) else None

    def named_layers(self) -> NamedLayers:
        found = depths(self)
        head = frozenset(name for name in found if not name.startswith("backbone."))
        return NamedLayers(found, head, len(blocks(self.backbone)))

    @torch.no_grad()
    def begin_at(self, raw: Tensor) -> None:
        """Set the biases so that a vector of zeros gives these (outputs,) logits."""
        self.head.bias.copy_(torch.cat([-raw / 2, raw / 2]) if self.as_difference else raw)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        features: Tensor | None = None,
        *,
        pooled: bool = False,
        mixup: Mixup | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(b, t) token ids, mask and, where the texts have them, types to (b, outputs) logits.

        features: (b, f), where the model joins them. In training (k b, outputs and auxiliary ones), one
        block of b rows for each of k dropout masks. pooled: the (b, size) vectors too, without the
        features; of a head with a vector an output, these in a row. mixup: of the vectors and features,
        after which the outputs are those of mixed rows.
        """
        states = self.read(input_ids, attention_mask, token_type_ids)
        return self.decide(states, attention_mask, features, pooled=pooled, mixup=mixup)

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """(b, layers, t, h): what the head reads of the backbone, its last hidden states."""
        options = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if self.backbone.config.model_type == "longformer":
            # The first token sees the whole text and is seen by it (Beltagy et al. 2020).
            options["global_attention_mask"] = torch.zeros_like(attention_mask)
            options["global_attention_mask"][:, 0] = 1
        layers = self.pooling.layers
        if layers > 1:
            options["output_hidden_states"] = True
        out = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **options)
        if layers == 1:
            return out[0].unsqueeze(1)
        # The last one as the backbone gives it: after its final norm, where it has one.
        return torch.stack([*out.hidden_states[-layers:-1], out[0]], dim=1)

    def decide(
        self,
        states: Tensor,
        attention_mask: Tensor,
        features: Tensor | None = None,
        *,
        pooled: bool = False,
        mixup: Mixup | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what `forward` does, from what `read` has returned."""
        vectors = self.pooling(states, attention_mask)
        return self.score(vectors, features, pooled=pooled, mixup=mixup)

    def score(
        self,
        vectors: Tensor,
        features: Tensor | None = None,
        *,
        pooled: bool = False,
        mixup: Mixup | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what `forward` does, from the pooled vectors."""
        read = vectors
        if mixup is not None:
            read = mixup.vectors(vectors)
            features = None if features is None else mixup.vectors(features)
        masks = self.dropout_samples if self.training else 1
        raw = torch.cat([self._outputs(self.dropout(read), features) for _ in range(masks)])
        return (raw, vectors.flatten(1)) if pooled else raw

    def _outputs(self, vectors: Tensor, features: Tensor | None) -> Tensor:
        """(b, outputs) of (b, size) vectors, or of (b, outputs, size), where each output has its own.

        Auxiliary outputs, which follow in training, then read the mean of those.
        """
        weight = self.head.weight
        # Not in the precision of the backbone: outputs in bf16 are so coarse that rows tie.
        with torch.autocast(weight.device.type, enabled=False):
            vectors = vectors.to(weight.dtype)
            if features is not None:
                wide = features.to(vectors).view(len(features), *[1] * (vectors.ndim - 2), -1)
                vectors = torch.cat([vectors, wide.expand(*vectors.shape[:-1], -1)], dim=-1)
            if vectors.ndim == 2:
                raw = self.head(vectors)
            else:
                raw = torch.einsum("bos,os->bo", vectors, weight) + self.head.bias
            if self.as_difference:
                raw = raw[:, 1:] - raw[:, :1]
            if self.auxiliary is None or not self.training:
                return raw
            whole = vectors if vectors.ndim == 2 else vectors.mean(dim=1)
            return torch.cat([raw, self.auxiliary(whole)], dim=1)

    def attention(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor | None:
        """(b, t) weights that the head gives the tokens, for `labels` (b, outputs, t).

        They are zero on padding and sum to 1. None where the head learns no weights.
        """
        states = self.read(input_ids, attention_mask, token_type_ids)
        return self.pooling.attention(states, attention_mask)


def _linear(width: int, outputs: int, std: float) -> nn.Linear:
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def positions(backbone: nn.Module, tokenizer) -> int:
    """The longest input, in tokens with special ones, that the backbone has positions for."""
    config = backbone.config
    limit = getattr(config, "max_position_embeddings", None) or -1
    # XLNet's and DeBERTa v3's are relative and without end.
    if limit < 0 or getattr(config, "position_biased_input", True) is False:
        return tokenizer.model_max_length
    offset = config.pad_token_id + 1 if config.model_type in OFFSET_POSITIONS else 0
    return min(limit - offset, tokenizer.model_max_length)


def takes_types(backbone: nn.Module) -> bool:
    """Whether the backbone tells the two texts of a pair apart by token types.

    RoBERTa has one type only, DeBERTa v3 none; XLNet compares types and has no vocabulary of them.
    """
    config = backbone.config
    several = (getattr(config, "type_vocab_size", 0) or 0) > 1 or config.model_type == "xlnet"
    return several and "token_type_ids" in inspect.signature(backbone.forward).parameters
