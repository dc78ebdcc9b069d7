"""Losses of a batch of sentence pairs by the vectors of their sentences."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from foldstack import techniques
from foldstack.training.criteria import FAR, RowWise, cross_entropy

POSITIVE = 0.5  # targets from here on are of positive pairs
# The outputs of a bi-encoder in training are losses.
CRITERION = RowWise(lambda logits, targets: logits[:, 0])


@dataclass(frozen=True)
class PairBatch:
    """A batch of pairs.

    Attributes:
        u, v: (b, h) vectors of the first and of the second sentences.
        targets: (b, outputs), in 0 … 1.
        weights: (b,).
        sentences: (2 b,) numbers of the sentences, the first ones of all pairs before the second ones.
        logits: (b, outputs) of the linear layer; None without one.
        link: from logits to probabilities.
    """

    u: Tensor
    v: Tensor
    targets: Tensor
    weights: Tensor
    sentences: Tensor
    logits: Tensor | None
    link: str

    @property
    def cosines(self) -> Tensor:
        """(b,)"""
        return F.cosine_similarity(self.u, self.v)

    def mean(self, losses: Tensor) -> Tensor:
        """Return the weighted mean of (b,) losses."""
        return (self.weights * losses).sum() / self.weights.sum().clamp(min=1e-12)


def cosent(loss: techniques.Cosent, pairs: PairBatch) -> Tensor:
    """Return log(1 + Σ exp(scale (cos_j − cos_i))) over all i, j with a higher target of i.

    Each term is weighted by the product of both rows' weights.
    """
    scores, targets = loss.scale * pairs.cosines, pairs.targets[:, 0]
    logs = pairs.weights.log().clamp(min=FAR)
    terms = scores[None, :] - scores[:, None] + logs[None, :] + logs[:, None]
    terms = terms.masked_fill(targets[:, None] <= targets[None, :], FAR)
    return torch.cat([terms.new_zeros(1), terms.flatten()]).logsumexp(dim=0)


def cosine_error(loss: techniques.CosineError, pairs: PairBatch) -> Tensor:
    """Return the mean of (cos − target)²."""
    return pairs.mean((pairs.cosines - pairs.targets[:, 0]).square())


def contrastive(loss: techniques.PairContrastive, pairs: PairBatch) -> Tensor:
    """Return the mean of ½ (y d² + (1 − y) max(margin − d, 0)²), d = 1 − cos."""
    y, distances = pairs.targets[:, 0], 1 - pairs.cosines
    lacking = (loss.margin - distances).clamp(min=0)
    return pairs.mean(0.5 * (y * distances.square() + (1 - y) * lacking.square()))


def multiple_negatives(loss: techniques.MultipleNegatives, pairs: PairBatch) -> Tensor:
    """Return the mean over positive pairs of −log softmax of scale cos(u_i, v_j) at j = i.

    0 without gradient if the batch has no positive pair.
    """
    positive = pairs.targets[:, 0] >= POSITIVE
    scores = loss.scale * F.normalize(pairs.u, dim=1) @ F.normalize(pairs.v, dim=1).T
    first, second = pairs.sentences.chunk(2)
    own = torch.eye(len(first), dtype=torch.bool, device=first.device)
    belongs = (second[:, None] == second) | ((first[:, None] == first) & positive)
    absent = (pairs.weights <= 0)[None, :]
    scores = scores.masked_fill((belongs | absent) & ~own, FAR)
    losses = scores.logsumexp(dim=1) - scores.diagonal()
    weights = pairs.weights * positive
    return (weights * losses).sum() / weights.sum().clamp(min=1e-12)


def pair_cross_entropy(loss: techniques.PairCrossEntropy, pairs: PairBatch) -> Tensor:
    """Return the mean cross-entropy of the linear layer's outputs."""
    return pairs.mean(cross_entropy(pairs.link, pairs.logits, pairs.targets))
