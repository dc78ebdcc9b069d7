"""Poolings: from the vectors of a text's tokens to the vector that the last linear layer reads.

Each pooling reads the last `layers` hidden states, (b, layers, t, h), and the (b, t) attention
mask. Each row has at least one real token; padding, on the right as `text.tokens` has it, does not
change the result. For a head that `reads_sentences`, the mask is the number of a token's sentence,
from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from foldstack import techniques
from foldstack.errors import InputError
from foldstack.nets.direction import is_causal

SMALLEST = 1e-6  # GeM clamps smaller values to it


def make_pooling(head: techniques.Head, config: PretrainedConfig, outputs: int) -> Pooling:
    """Return the pooling that the settings name, for a backbone of this config.

    Raises InputError if the backbone has too few layers or an incompatible width.
    """
    head.check_backbone(config)
    return head.load()(head, config, outputs)


def check_first_token(pooling: Pooling, backbone: nn.Module, name: str) -> None:
    """Raise InputError if the pooling reads the first token and the backbone is causal."""
    if pooling.reads_cls and not pooling.cls_last and is_causal(backbone):
        raise InputError(
            f"head '{name}' reads the first token, which in a causal backbone "
            f"({backbone.config.model_type}) has seen none of the others: set `head: last` or `head: "
            "mean`, or another that reads every token"
        )


class Pooling(nn.Module):
    """A module from hidden states to one vector per row.

    size: width of the vector. layers: number of last hidden states that it reads. fixed: it has no
    weights, so that a frozen backbone's vectors are computed once.
    """

    fixed = False
    layers = 1

    def __init__(self, head: techniques.Head, config: PretrainedConfig, outputs: int):
        super().__init__()
        self.size = config.hidden_size
        self.reads_cls = head.reads_cls
        self.cls_last = config.model_type == "xlnet"  # every other architecture has [CLS] first

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return (b, size) vectors of (b, layers, t, h) hidden states with their (b, t) mask."""
        raise NotImplementedError

    def attention(self, states: Tensor, mask: Tensor) -> Tensor | None:
        """Return (b, t) attention weights, zero on padding, summing to 1; None if it learns none."""
        return None

    def cls(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the [CLS] token's vector, (b, …, h), of (b, …, t, h) token vectors."""
        return last_token(hidden, mask) if self.cls_last else hidden[..., 0, :]


# Without weights


class ClsPooling(Pooling):
    """The [CLS] token's vector (Devlin et al. 2019)."""

    fixed = True

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.cls(states[:, -1], mask)


class LastPooling(Pooling):
    """The last real token's vector, which in a causal backbone has seen all others.

    Radford et al. 2018, Improving Language Understanding by Generative Pre-Training.
    """

    fixed = True

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return last_token(states[:, -1], mask)


class MeanPooling(Pooling):
    """The mean over real tokens (Reimers and Gurevych 2019)."""

    fixed = True

    def __init__(self, head: techniques.Head, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.is_given = getattr(config, "averages", False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.is_given:
            return states[:, -1, 0]
        return mean_pool(states[:, -1], mask)


class MaxPooling(Pooling):
    """The maximum of each feature over real tokens (Collobert et al. 2011)."""

    fixed = True

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return max_pool(states[:, -1], mask)


class MeanMaxPooling(Pooling):
    """Mean ‖ max (concat pooling, Howard and Ruder 2018)."""

    fixed = True

    def __init__(self, head: techniques.PlainHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.size = 2 * config.hidden_size

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return mean_max_pool(states[:, -1], mask)


class ConcatPooling(Pooling):
    """The [CLS] vectors of the last layers, the topmost last (Devlin et al. 2019, Sun et al. 2019)."""

    fixed = True

    def __init__(self, head: techniques.LayersHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.layers = head.layers
        self.size = head.layers * config.hidden_size

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.cls(states, mask).flatten(1)


# Attention


class AttentionPooling(Pooling):
    """Additive attention: weights softmax(uᵀ tanh(W h + b)) (Yang et al. 2016, Lin et al. 2017)."""

    def __init__(self, head: techniques.AttentionHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.scores = additive_scores(config.hidden_size, head.width, 1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        weights = self.attention(states, mask)
        return (weights.unsqueeze(1) @ states[:, -1]).squeeze(1)

    def attention(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(self.scores(states[:, -1]).squeeze(2), mask)


class LabelsPooling(Pooling):
    """One vector per output, by its own attention (LAAT, Vu et al. 2020; cf. LEAM, Wang et al. 2018).

    The rows of the last layer of `scores` are embeddings of the outputs, which the tokens are
    compared with: softmax(U tanh(W h + b)). The vectors are (b, outputs, size), the weights (b,
    outputs, t).
    """

    def __init__(self, head: techniques.LabelsHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.scores = additive_scores(config.hidden_size, head.width, outputs)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        weights = self.attention(states, mask)
        return weights @ states[:, -1]

    def attention(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(self.scores(states[:, -1]).transpose(1, 2), mask.unsqueeze(1))


class ClsAttentionPooling(Pooling):
    """Mean ‖ max ‖ attention with the [CLS] vector as the query (Vaswani et al. 2017).

    attention: mean of the weights over the attention heads.
    """

    def __init__(self, head: techniques.ClsAttentionHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.size = 3 * config.hidden_size
        self.attend = nn.MultiheadAttention(config.hidden_size, head.heads, batch_first=True)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        attended, _ = self._attended(states, mask)
        return torch.cat([mean_max_pool(states[:, -1], mask), attended.squeeze(1)], dim=1)

    def attention(self, states: Tensor, mask: Tensor) -> Tensor:
        return self._attended(states, mask)[1].squeeze(1)

    def _attended(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        tokens = states[:, -1]
        query = self.cls(tokens, mask).unsqueeze(1)
        return self.attend(query, tokens, tokens, key_padding_mask=~mask.bool())


# Other means


class LayersPooling(Pooling):
    """The last layers mixed by softmax(w) (Peters et al. 2018), then the mean over real tokens.

    Initially the mix is the plain mean. The scale γ of the paper is left to the linear layer that
    follows.
    """

    def __init__(self, head: techniques.LayersHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.layers = head.layers
        self.mix = nn.Parameter(torch.zeros(head.layers))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        mixed = torch.einsum("l,blth->bth", self.mix.softmax(dim=0), states)
        return mean_pool(mixed, mask)


class GemPooling(Pooling):
    """Generalised mean (Radenović et al. 2019), (mean of x^p)^(1/p), one learned p for all features.

    As in its use on images, whose features are positive, x below 1e-6 is clamped to 1e-6: negative
    values are lost. log p is learned, so that p stays positive; powers are computed as logarithms,
    which do not overflow.
    """

    def __init__(self, head: techniques.GemHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.log_p = nn.Parameter(torch.tensor(math.log(head.p)))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        hidden = states[:, -1]
        p = self.log_p.exp()
        powers = p * hidden.clamp(min=SMALLEST).log()
        powers = powers.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf)
        counts = mask.sum(dim=1, keepdim=True).to(powers)
        return ((powers.logsumexp(dim=1) - counts.log()) / p).exp()


class DensePooling(Pooling):
    """Dense layers with ReLU over another pooling's vectors, each with dropout before it."""

    def __init__(self, inner: Pooling, widths: Sequence[int], dropout: float):
        nn.Module.__init__(self)
        self.inner, self.size = inner, widths[-1]
        self.layers, self.reads_cls, self.cls_last = inner.layers, inner.reads_cls, inner.cls_last
        self.dense = nn.Sequential(
            *(
                layer
                for given, width in pairwise([inner.size, *widths])
                for layer in (nn.Dropout(dropout), nn.Linear(given, width), nn.ReLU())
            )
        )

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.dense(self.inner(states, mask))

    def attention(self, states: Tensor, mask: Tensor) -> Tensor | None:
        return self.inner.attention(states, mask)


def last_token(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return (b, …, h): the last real token's vector of (b, …, t, h), by the (b, t) mask."""
    rows = torch.arange(len(hidden), device=hidden.device)
    after = mask.flip(1).long().argmax(dim=1)  # places of padding behind it; some are before it
    return hidden[rows, ..., mask.shape[1] - 1 - after, :]


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return (b, h): the mean of (b, t, h) token vectors over real tokens, by their (b, t) mask."""
    mask = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return (b, h): the maximum of (b, t, h) token vectors over real tokens, by their (b, t) mask."""
    return hidden.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf).amax(dim=1)


def mean_max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return (b, 2h): `mean_pool` ‖ `max_pool`."""
    return torch.cat([mean_pool(hidden, mask), max_pool(hidden, mask)], dim=1)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax of (…, t) scores, zero where the mask is zero."""
    return scores.masked_fill(~mask.bool(), -torch.inf).softmax(dim=-1)


def additive_scores(size: int, width: int, queries: int) -> nn.Sequential:
    """Return the network of additive attention, from (…, size) vectors to (…, queries) scores.

    width: number of tanh units.
    """
    return nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, queries, bias=False))
