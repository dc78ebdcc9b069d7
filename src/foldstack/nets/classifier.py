"""A backbone, a pooling and a linear head: from token ids to logits."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from foldstack.nets.hidden_states import HiddenMatch, hidden_states
from foldstack.nets.huffman import HuffmanTree
from foldstack.nets.layers import blocks, depths
from foldstack.nets.mixup import Mixup
from foldstack.nets.poolings import DensePooling, check_first_token, make_pooling
from foldstack.nets.trainable import NamedLayers, Trainable
from foldstack.techniques import Head, MeanHead
from foldstack.techniques.network_parts import NetworkPart

DEFAULT_HEAD = MeanHead()  # the mean over tokens

# RoBERTa and its variants number positions from the padding index + 1.
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"})


class Classifier(Trainable):
    """A backbone, a pooling and a linear layer that is initialised as the backbone's are.

    head: the pooling; default: mean. features: width of the feature columns that are concatenated
    to each pooled vector. embedded: number of the last of them, whose product with a learned matrix of
    this many columns, embedding, is concatenated instead. dropout_samples: number of dropout masks on
    the pooled vectors in training, each with its own logits (multi-sample dropout, Inoue 2019).
    as_difference: the head has two outputs, and their difference is the logit: softmax over two
    classes expressed as a sigmoid. auxiliary: number of further outputs, in training only. dense:
    widths of dense layers between the pooled vector and the head. tree: the linear layer gives the
    logits of its nodes, and the log probabilities of classes are the outputs.

    matched: set in training if the backbone's hidden states are matched with those of another. teacher:
    set in training if another network learns beside this one.

    Raises InputError if the head is incompatible with the backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        outputs: int,
        dropout: float,
        *,
        head: Head = DEFAULT_HEAD,
        features: int = 0,
        embedded: int = 0,
        embedding: int = 0,
        dropout_samples: int = 1,
        as_difference: bool = False,
        auxiliary: int = 0,
        dense: Sequence[int] = (),
        tree: HuffmanTree | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.dropout_samples, self.as_difference = dropout_samples, as_difference
        self.matched: HiddenMatch | None = None
        self.teacher: nn.Module | None = None
        self.pooling = make_pooling(head, backbone.config, outputs + as_difference)
        check_first_token(self.pooling, backbone, head.name)
        self.reads_sentences = head.reads_sentences
        if dense:
            self.pooling = DensePooling(self.pooling, dense, dropout)
        width = self.pooling.size + features + (embedding - embedded if embedded else 0)
        std = getattr(backbone.config, "initializer_range", 0.02)
        self.tree = tree
        scored = outputs + as_difference - (tree is not None)
        self.head = linear(width, scored, std)
        # Initialised last, so that the other weights are the same without it.
        self.auxiliary = linear(width, auxiliary, std) if auxiliary else None
        self.embedding = nn.Linear(embedded, embedding, bias=False) if embedded else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight)

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
        return self.backbone.config.model_type == "xlnet"  # the only one

    def word_embeddings(self) -> nn.Module | None:
        try:
            found = self.backbone.get_input_embeddings()
        except (NotImplementedError, AttributeError):  # what the library raises if it finds none
            return None
        return found if isinstance(getattr(found, "weight", None), nn.Parameter) else None

    def named_layers(self) -> NamedLayers:
        found = depths(self)
        inner = ("backbone.", "teacher.whole.backbone.")
        head = frozenset(name for name in found if not name.startswith(inner))
        return NamedLayers(found, head, len(blocks(self.backbone)))

    @torch.no_grad()
    def set_bias(self, logits: Tensor) -> None:
        """Set the biases so that a zero vector gives these (outputs,) logits."""
        if self.tree is not None:
            logits = self.tree.node_logits(logits)
        self.head.bias.copy_(torch.cat([-logits / 2, logits / 2]) if self.as_difference else logits)

    @torch.no_grad()
    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Set the head to (labels, size) weights and (labels,) biases; one output is a difference."""
        if self.head.out_features == 1:
            weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
        self.head.weight.copy_(weight)
        self.head.bias.copy_(bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        features: Tensor | None = None,
        *,
        pooled: bool = False,
        mixup: Mixup | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Return (b, outputs) logits.

        Args:
            input_ids: (b, t) token ids.
            attention_mask: (b, t).
            token_type_ids: (b, t), if the backbone has token types.
            features: (b, f), if the model has feature columns.
            pooled: return the pooled vectors too.
            mixup: of the pooled vectors and features; the logits are those of mixed rows.

        Returns:
            Logits; in training (k b, outputs and auxiliary ones), one block of b rows for each of k
                dropout masks. With `pooled` also the (b, size) vectors, without features; if there
                is one vector per output, these are concatenated. If there is a teacher, its logits
                follow as those of k more masks. If hidden states are matched or there is a teacher,
                (b,) terms of the loss follow.
        """
        mask = self.mask(input_ids, attention_mask)
        match, teacher = self.matched, self.teacher
        if not pooled or (match is None and teacher is None):
            states = self.read(input_ids, attention_mask, token_type_ids)
            return self.decide(states, mask, features, pooled=pooled, mixup=mixup)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        inputs["token_type_ids"] = token_type_ids
        own = self.pooling.layers
        states = hidden_states(self.backbone, own if match is None else match.layers, **inputs)
        terms = [] if match is None else [match.distance(states, inputs)]
        logits, vectors = self.decide(states[:, -own:], mask, features, pooled=True, mixup=mixup)
        if teacher is not None:
            logits, term = teacher(logits, **inputs, features=features, mixup=mixup)
            terms.append(term)
        return logits, vectors, *terms

    def read(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Return (b, layers, t, h): those last hidden states of the backbone that the head reads."""
        read = (input_ids, attention_mask, token_type_ids)
        return hidden_states(self.backbone, self.pooling.layers, *read)

    def mask(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the (b, t) mask that the head reads, see `nets.poolings`."""
        if not self.reads_sentences:
            return attention_mask
        return self.backbone.sentences(input_ids, attention_mask)

    def decide(
        self,
        states: Tensor,
        mask: Tensor,
        features: Tensor | None = None,
        *,
        pooled: bool = False,
        mixup: Mixup | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the same as `forward`, from the hidden states.

        Args:
            states: (b, layers, t, h), as `read` returned them.
            mask: (b, t), as `mask` returned it.
            features: see `forward`.
            pooled: see `forward`.
            mixup: see `forward`.
        """
        vectors = self.pooling(states, mask)
        return self.score(vectors, features, pooled=pooled, mixup=mixup)

    def score(
        self,
        vectors: Tensor,
        features: Tensor | None = None,
        *,
        pooled: bool = False,
        mixup: Mixup | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the same as `forward`, from the pooled vectors.

        Args:
            vectors: (b, size), or (b, outputs, size) with one vector per output.
            features: see `forward`.
            pooled: see `forward`.
            mixup: see `forward`.
        """
        read = vectors
        if mixup is not None:
            read = mixup.vectors(vectors)
            features = None if features is None else mixup.vectors(features)
        masks = self.dropout_samples if self.training else 1
        logits = torch.cat([self._outputs(self.dropout(read), features) for _ in range(masks)])
        return (logits, vectors.flatten(1)) if pooled else logits

    def _outputs(self, vectors: Tensor, features: Tensor | None) -> Tensor:
        """Return (b, outputs) logits of (b, size) vectors, or of (b, outputs, size), one per output.

        Auxiliary outputs follow in training; with one vector per output they read the mean of the
        vectors.
        """
        weight = self.head.weight
        # Not in the backbone's precision: bf16 logits are so coarse that rows tie.
        with torch.autocast(weight.device.type, enabled=False):
            vectors = vectors.to(weight.dtype)
            if features is not None:
                wide = self._embedded(features.to(vectors))
                wide = wide.view(len(features), *[1] * (vectors.ndim - 2), -1)
                vectors = torch.cat([vectors, wide.expand(*vectors.shape[:-1], -1)], dim=-1)
            if vectors.ndim == 2:
                logits = self.head(vectors)
            else:
                logits = torch.einsum("bos,os->bo", vectors, weight) + self.head.bias
            if self.tree is not None:
                logits = self.tree(logits)
            if self.as_difference:
                logits = logits[:, 1:] - logits[:, :1]
            if self.auxiliary is None or not self.training:
                return logits
            whole = vectors if vectors.ndim == 2 else vectors.mean(dim=1)
            return torch.cat([logits, self.auxiliary(whole)], dim=1)

    def _embedded(self, features: Tensor) -> Tensor:
        """Return (b, f) features with the embedding in the place of the columns that are embedded."""
        if self.embedding is None:
            return features
        plain, shares = features.tensor_split([-self.embedding.in_features], dim=1)
        return torch.cat([plain, self.embedding(shares)], dim=1)

    def attention(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor | None:
        """Return (b, t) attention weights of the head, (b, outputs, t) for `labels`.

        They are zero on padding and sum to 1. None if the head learns no weights.
        """
        states = self.read(input_ids, attention_mask, token_type_ids)
        return self.pooling.attention(states, self.mask(input_ids, attention_mask))


def linear(width: int, outputs: int, std: float) -> nn.Linear:
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def positions(backbone: nn.Module, tokenizer) -> int:
    """Return the maximum number of tokens, special ones included, by the backbone's positions."""
    config = backbone.config
    limit = getattr(config, "max_position_embeddings", None) or -1
    # XLNet's and DeBERTa v3's positions are relative and unlimited.
    if limit < 0 or getattr(config, "position_biased_input", True) is False:
        return tokenizer.model_max_length
    offset = config.pad_token_id + 1 if config.model_type in OFFSET_POSITIONS else 0
    return min(limit - offset, tokenizer.model_max_length)


def takes_types(backbone: nn.Module) -> bool:
    """Whether the backbone separates the two texts of a pair by token types.

    RoBERTa has one type only, DeBERTa v3 none; XLNet compares types and has no vocabulary of them.
    """
    config = backbone.config
    several = (getattr(config, "type_vocab_size", 0) or 0) > 1 or config.model_type == "xlnet"
    return several and "token_type_ids" in inspect.signature(backbone.forward).parameters
