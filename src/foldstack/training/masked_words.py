"""Task-adaptive pretraining: a backbone learns to predict masked tokens of texts without labels.

Gururangan et al. 2020, Don't Stop Pretraining: Adapt Language Models to Domains and Tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foldstack.nets.trainable import Trainable
from foldstack.nets.vocabulary import TrimmedEmbedding
from foldstack.nets.word_head import WordHead
from foldstack.techniques import LoopSettings, Pretraining, TrainingSettings
from foldstack.text.masking import IGNORE_INDEX, Masked
from foldstack.training.criteria import RowWise
from foldstack.training.loop import Examples

WARMUP = 0.06  # of the updates


class MaskedWords(Trainable):
    """A backbone with an MLM head whose decoder is tied to the word embeddings.

    If the embeddings are `trimmed`, the prediction is among the words that are kept.
    """

    def __init__(self, backbone: nn.Module, head: WordHead):
        super().__init__()
        self.backbone, self.vectors = backbone, head.vectors
        embedding = backbone.get_input_embeddings()
        some = isinstance(embedding, TrimmedEmbedding)
        self.bias = nn.Parameter(head.bias[embedding.kept] if some else head.bias.clone())
        self._given, self._kept = head.bias, embedding.kept if some else slice(None)

    @property
    def head(self) -> WordHead:
        """The head as it is now; words that are not kept have the bias that they were given."""
        bias = self._given.to(self.bias, copy=True)
        bias[self._kept] = self.bias.detach()
        return WordHead(self.vectors, bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        token_type_ids: Tensor | None = None,
        *,
        pooled: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Return (b, 1) mean cross-entropy per row over its masked tokens, 0 if it has none; twice.

        `loop.train` expects logits and pooled vectors of a network, so both are this loss.

        Args:
            input_ids: (b, t) token ids.
            attention_mask: (b, t).
            labels: (b, t) token ids, IGNORE_INDEX for tokens that are not predicted.
            token_type_ids: (b, t), if the backbone has token types.
            pooled: ignored.
        """
        options = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **options)[0]
        masked_at = labels != IGNORE_INDEX
        embedding = self.backbone.get_input_embeddings()
        weight, wanted = embedding.weight, labels[masked_at]
        if isinstance(embedding, TrimmedEmbedding):  # whose last row is not a word
            weight, wanted = weight[:-1], embedding.index[wanted]
        scores = F.linear(self.vectors(states[masked_at]), weight).float() + self.bias
        losses = F.cross_entropy(scores, wanted, reduction="none")
        rows = masked_at.nonzero()[:, 0]
        sums = losses.new_zeros(len(labels)).index_add(0, rows, losses)
        means = (sums / masked_at.sum(dim=1).clamp(min=1)).unsqueeze(1)
        return means, means


# The outputs are losses; a row is weighted by its masked tokens, so the loss is their mean.
CRITERION = RowWise(lambda logits, targets: logits[:, 0])


def examples_of(masked: Masked) -> Examples:
    """Return examples without targets, a row weighted by its number of masked tokens."""
    weights = torch.from_numpy(masked.predicted).float()
    return Examples(masked, torch.zeros(len(weights), 1), weights, "identity")


def settings_of(pretraining: Pretraining, training: TrainingSettings) -> LoopSettings:
    """Return the loop's settings; precision and micro-batches are those of `training`."""
    return LoopSettings(
        epochs=pretraining.epochs,
        batch_size=pretraining.batch_size,
        lr=pretraining.lr,
        warmup=WARMUP,
        precision=training.precision,
        micro_batch_size=training.micro_batch_size,
    )
