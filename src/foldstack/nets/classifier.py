"""A backbone, a pooling, a linear head: token ids in, raw outputs out."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """(b, t, h) token vectors and their (b, t) mask to (b, h): the mean over real tokens."""
    mask = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


# RoBERTa and its kin number positions from after the padding index.
OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "longformer", "mpnet"})


class Classifier(nn.Module):
    """Mean pooling (Reimers and Gurevych 2019) and a linear layer, initialised as the backbone is.

    dropout_samples: in training, so many masks on the pooled vectors, each with outputs of its own
    (multi-sample dropout, Inoue 2019). as_difference: the head has two outputs, and the second less
    the first is the raw output: softmax over two classes as a sigmoid.
    """

    def __init__(
        self,
        backbone: nn.Module,
        outputs: int,
        dropout: float,
        *,
        dropout_samples: int = 1,
        as_difference: bool = False,
    ):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.dropout_samples, self.as_difference = dropout_samples, as_difference
        self.head = nn.Linear(backbone.config.hidden_size, outputs + as_difference)
        nn.init.normal_(self.head.weight, std=getattr(backbone.config, "initializer_range", 0.02))
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        *,
        pooled: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(b, t) token ids, mask and, where the texts have them, types to (b, outputs) raw outputs.

        In training (k b, outputs), one block of b rows for each of k dropout masks. pooled: the
        (b, h) vectors too.
        """
        options = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        if self.backbone.config.model_type == "longformer":
            # The first token sees the whole text and is seen by it (Beltagy et al. 2020).
            options["global_attention_mask"] = torch.zeros_like(attention_mask)
            options["global_attention_mask"][:, 0] = 1
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **options)[0]
        vectors = mean_pool(hidden, attention_mask)
        masks = self.dropout_samples if self.training else 1
        raw = torch.cat([self.head(self.dropout(vectors)) for _ in range(masks)])
        if self.as_difference:
            raw = raw[:, 1:] - raw[:, :1]
        return (raw, vectors) if pooled else raw


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
