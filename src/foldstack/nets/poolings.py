"""Heads: how a text's token vectors become the vector that the last linear layer decides by.

Each pooling reads the last `layers` hidden states, (b, layers, t, h), and the (b, t) mask of real
tokens, of which each row has one at least and its padding on the right; padding changes nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from foldstack import techniques
from foldstack.errors import InputError

SMALLEST = 1e-6  # what GeM takes for anything below it


def make_pooling(head: techniques.Head, config: PretrainedConfig, outputs: int) -> Pooling:
    """Return the pooling that the settings name, for a backbone of this config.

    Raises InputError where the backbone has too few layers or an unfitting width.
    """
    head.check_backbone(config)
    return head.load()(head, config, outputs)


@torch.no_grad()
def check_first_token(pooling: Pooling, backbone: nn.Module, name: str) -> None:
    """InputError where the pooling reads the first token and the backbone is causal.

    Attention of some decoders is set to both directions, and code of a checkpoint's own may do
    anything, so that a backbone is asked: does the first token's vector depend on the second token?
    """
    kind, config = backbone.config.model_type, backbone.config
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if not pooling.reads_cls or pooling.cls_last or encoder:
        return
    training = backbone.training
    backbone.eval()
    ids = torch.ones(2, 16, dtype=torch.long)  # Canine reads no fewer
    ids[1, 1] = 2
    first, second = backbone(input_ids=ids, attention_mask=torch.ones_like(ids))[0][:, 0]
    backbone.train(training)
    if torch.allclose(first, second, rtol=1e-5, atol=1e-7):
        raise InputError(
            f"head '{name}' reads the first token, which in a causal backbone ({kind}) has seen none "
            "of the others: set `head: mean` or another that reads every token"
        )


class Pooling(nn.Module):
    """From hidden states to a vector a row.

    size: the width of the vector; layers: how many of the last hidden states it reads; fixed: nothing
    in it is learned, so that a frozen backbone's vectors need computing once only; reads_cls: the
    [CLS] token's vector stands for the text.
    """

    fixed = False
    layers = 1
    reads_cls = False

    def __init__(self, head: techniques.Head, config: PretrainedConfig, outputs: int):
        super().__init__()
        self.size = config.hidden_size
        self.cls_last = config.model_type == "xlnet"  # every other architecture has [CLS] first

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(b, layers, t, h) hidden states and their (b, t) mask to (b, size)."""
        raise NotImplementedError

    def attention(self, states: Tensor, mask: Tensor) -> Tensor | None:
        """(b, t) weights of the tokens, zero on padding, a row's sum 1; None where it learns none."""
        return None

    def cls(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(b, …, t, h) token vectors to the [CLS] token's, (b, …, h)."""
        if not self.cls_last:
            return hidden[..., 0, :]
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, ..., mask.sum(dim=1) - 1, :]


# Nothing to learn


class ClsPooling(Pooling):
    """The [CLS] token's vector (Devlin et al. 2019)."""

    fixed = True
    reads_cls = True

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.cls(states[:, -1], mask)


class MeanPooling(Pooling):
    """The mean over real tokens (Reimers and Gurevych 2019)."""

    fixed = True

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return mean_pool(states[:, -1], mask)


class MaxPooling(Pooling):
    """The largest value of each feature over real tokens (Collobert et al. 2011)."""

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
    reads_cls = True

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
    """A vector for each output, by its own attention (LAAT, Vu et al. 2020; cf. LEAM, Wang et al. 2018).

    The rows of the last layer of `scores` are the outputs' embeddings, which the tokens are compared
    with: softmax(U tanh(W h + b)). The vectors are (b, outputs, size), the weights (b, outputs, t).
    """

    def __init__(self, head: techniques.AttentionHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.scores = additive_scores(config.hidden_size, head.width, outputs)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        weights = self.attention(states, mask)
        return weights @ states[:, -1]

    def attention(self, states: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(self.scores(states[:, -1]).transpose(1, 2), mask.unsqueeze(1))


class ClsAttentionPooling(Pooling):
    """Mean ‖ max ‖ what the [CLS] vector attends to over the sequence (Vaswani et al. 2017).

    attention: the mean over the attention's heads.
    """

    reads_cls = True

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

    The mix begins as the plain mean. Their factor γ is left to the linear layer that follows.
    """

    def __init__(self, head: techniques.LayersHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.layers = head.layers
        self.mix = nn.Parameter(torch.zeros(head.layers))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        mixed = torch.einsum("l,blth->bth", self.mix.softmax(dim=0), states)
        return mean_pool(mixed, mask)


class GemPooling(Pooling):
    """Generalised mean (Radenović et al. 2019): (mean of x^p)^(1/p), one p for all features, learned.

    As in its use on images, whose features are positive, x below 1e-6 counts as 1e-6: negative values
    of a feature are lost. p is learned by its logarithm, which keeps it positive; powers are computed
    as logarithms, which never overflow.
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


# Networks over the sequence


class RecurrentPooling(Pooling):
    """Mean ‖ max over the outputs of a bidirectional LSTM (Hochreiter and Schmidhuber 1997) or GRU.

    Cho et al. 2014 for the GRU. The backward direction reads each row's real tokens mirrored, so that
    it begins at the last of them; packed sequences do the same, but require their lengths on the CPU.
    """

    kind: type[nn.RNNBase]

    def __init__(self, head: techniques.RecurrentHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.size = 4 * head.width
        self.ahead = self.kind(config.hidden_size, head.width, batch_first=True)
        self.back = self.kind(config.hidden_size, head.width, batch_first=True)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        # On a GPU autocast would have fp16, also where it was asked for bf16: gradients vanish in it.
        with torch.autocast(states.device.type, enabled=False):
            tokens = states[:, -1].to(self.ahead.weight_ih_l0.dtype)
            mirrored = mirror(mask)
            ahead, _ = self.ahead(tokens)
            back, _ = self.back(at_places(tokens, mirrored))
            outputs = torch.cat([ahead, at_places(back, mirrored)], dim=2)
            return mean_max_pool(outputs, mask)


class LstmPooling(RecurrentPooling):
    kind = nn.LSTM


class GruPooling(RecurrentPooling):
    kind = nn.GRU


class CnnPooling(Pooling):
    """Convolutions of several widths, ReLU, max over time (Kim 2014); he-normal (He et al. 2015).

    A window lies within the real tokens; a text shorter than it has one, filled up with zeros.
    """

    def __init__(self, head: techniques.CnnHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        self.widths = head.widths
        self.size = head.filters * len(head.widths)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(config.hidden_size, head.filters, width) for width in head.widths
        )
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        tokens = (states[:, -1] * mask.unsqueeze(-1)).transpose(1, 2)
        tokens = nn.functional.pad(tokens, (0, max(self.widths) - 1))
        lengths = mask.sum(dim=1, keepdim=True)
        return torch.cat([self._largest(c, tokens, lengths) for c in self.convolutions], dim=1)

    @staticmethod
    def _largest(convolution: nn.Conv1d, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(b, filters) over the windows of (b, h, t) tokens, of which `lengths` (b, 1) are real."""
        found = convolution(tokens).relu()
        last = (lengths - convolution.kernel_size[0]).clamp(min=0)
        beyond = torch.arange(found.shape[2], device=found.device) > last
        return found.masked_fill(beyond.unsqueeze(1), 0).amax(dim=2)  # nothing is below 0


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """(b, t, h) token vectors and their (b, t) mask to (b, h): the mean over real tokens."""
    mask = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """(b, t, h) token vectors and their (b, t) mask to (b, h): the maximum over real tokens."""
    return hidden.masked_fill(~mask.bool().unsqueeze(-1), -torch.inf).amax(dim=1)


def mean_max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """(b, 2h): `mean_pool` ‖ `max_pool`."""
    return torch.cat([mean_pool(hidden, mask), max_pool(hidden, mask)], dim=1)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """(…, t) scores to weights, zero where the mask is."""
    return scores.masked_fill(~mask.bool(), -torch.inf).softmax(dim=-1)


def mirror(mask: Tensor) -> Tensor:
    """(b, t) where each place's token goes when the real ones change their order; padding stays."""
    places = torch.arange(mask.shape[1], device=mask.device)
    turned = mask.sum(dim=1, keepdim=True) - 1 - places
    return torch.where(turned >= 0, turned, places)


def at_places(hidden: Tensor, places: Tensor) -> Tensor:
    """(b, t, h) vectors, each row's in the order of (b, t) places."""
    return hidden.gather(1, places.unsqueeze(2).expand(-1, -1, hidden.shape[2]))


def additive_scores(size: int, width: int, queries: int) -> nn.Sequential:
    """(…, size) vectors to (…, queries) scores through `width` hyperbolic tangents."""
    return nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, queries, bias=False))
