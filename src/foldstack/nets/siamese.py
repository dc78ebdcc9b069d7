"""The network of a bi-encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from foldstack.nets.classifier import Classifier, linear
from foldstack.nets.trainable import Trainable
from foldstack.techniques import Head, PairLoss
from foldstack.techniques.network_parts import NetworkPart
from foldstack.training.pair_criteria import PairBatch


class BiEncoder(Classifier):
    """A backbone and a pooling, which give each sentence of a pair a vector.

    A pair's score is the cosine of its vectors, or the outputs of a linear layer over (u, v, |u − v|),
    as `pair_loss` says. link: from these outputs to probabilities.
    """

    def __init__(
        self,
        backbone: nn.Module,
        outputs: int,
        dropout: float,
        *,
        head: Head,
        pair_loss: PairLoss,
        link: str,
    ):
        super().__init__(backbone, outputs, dropout, head=head)
        self.pair_loss, self.link = pair_loss, link
        self.loss = pair_loss.load()
        std = getattr(backbone.config, "initializer_range", 0.02)
        over = pair_loss.scores_vectors
        self.head = linear(3 * self.pooling.size, outputs, std) if over else None

    @property
    def parts(self) -> frozenset[NetworkPart]:
        return super().parts - {NetworkPart.MIXABLE}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        sentences: Tensor | None = None,
        *,
        pooled: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return (b, outputs) scores of pairs; in training the loss in each of (b, 1) rows.

        Args:
            input_ids: (2 b, t), the first sentences of all pairs before the second ones.
            attention_mask: (2 b, t).
            token_type_ids: (2 b, t), if the backbone has token types.
            targets: (b, outputs) in 0 … 1.
            weights: (b,).
            sentences: (2 b,) numbers of the sentences.
            pooled: return the (b, 2 h) vectors too.
        """
        vectors = self.vectors(input_ids, attention_mask, token_type_ids)
        u, v = vectors.chunk(2)
        with torch.autocast(vectors.device.type, enabled=False):
            scores = self.scores(u, v)
            if self.training:
                logits = scores if self.head is not None else None
                given = PairBatch(u, v, targets, weights, sentences, logits, self.link)
                scores = self.loss(self.pair_loss, given).expand(len(u), 1)
        return (scores, torch.cat([u, v], dim=1)) if pooled else scores

    def vectors(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Return (b, h) float32 vectors of token sequences."""
        states = self.read(input_ids, attention_mask, token_type_ids)
        return self.pooling(states, self.mask(input_ids, attention_mask)).float()

    def scores(self, u: Tensor, v: Tensor) -> Tensor:
        """Return (b, 1) cosines, or the linear layer's (b, outputs), of (b, h) vectors."""
        if self.head is None:
            return F.cosine_similarity(u, v).unsqueeze(1)
        return self.head(self.dropout(torch.cat([u, v, (u - v).abs()], dim=1)))


class Sentences(Trainable):
    """A bi-encoder as the network from a sentence's tokens to its vector, for prediction."""

    def __init__(self, encoder: BiEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return (b, h) vectors."""
        return self.encoder.vectors(inputs.pop("input_ids"), **inputs)
