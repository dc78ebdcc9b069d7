"""Losses of bi-encoders; their implementations are in training/pair_criteria.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from foldstack.settings import Positive
from foldstack.techniques.registry import Technique


class PairLoss(Technique):
    """The loss that trains the vectors u and v of a pair's two sentences.

    implementation: `(settings, training.pair_criteria.PairBatch) -> ` a scalar, the update's loss.

    Traits:
        kinds: the kinds of competition that it applies to.
        scores_vectors: it learns a linear layer over (u, v, |u − v|), whose outputs are the model's;
            without, the cosine of u and v predicts.
    """

    kinds: ClassVar[tuple[str, ...]] = ("binary", "regression")
    scores_vectors: ClassVar[bool] = False


class Cosent(PairLoss):
    """Every pair of a batch with a higher target has a higher cosine than each with a lower one (Su
    2022, CoSENT).

    scale: factor on the differences of cosines.
    """

    implementation: ClassVar[str] = "foldstack.training.pair_criteria:cosent"
    name: Literal["cosent"] = "cosent"
    scale: Positive = 20.0


class CosineError(PairLoss):
    """Squared error of the cosine, to the target scaled to 0 … 1 (Reimers and Gurevych 2019)."""

    implementation: ClassVar[str] = "foldstack.training.pair_criteria:cosine_error"
    name: Literal["cosine_mse"]


class PairContrastive(PairLoss):
    """The cosine distance of a positive pair is squared, and so is what that of a negative one lacks to
    the margin (Hadsell et al. 2006).

    margin: distance beyond which a negative pair is not moved; the cosine distance is 0 … 2.
    """

    implementation: ClassVar[str] = "foldstack.training.pair_criteria:contrastive"
    kinds: ClassVar[tuple[str, ...]] = ("binary",)
    name: Literal["contrastive"]
    margin: Positive = 0.5


class MultipleNegatives(PairLoss):
    """The second sentence of a positive pair is told from all other second sentences of the batch, those
    of negative pairs included (Henderson et al. 2017).

    A sentence that is known to belong to the first one is no negative. With targets scaled to 0 … 1,
    pairs from .5 on are positive.

    scale: factor on the cosines.
    """

    implementation: ClassVar[str] = "foldstack.training.pair_criteria:multiple_negatives"
    name: Literal["multiple_negatives"]
    scale: Positive = 20.0


class PairCrossEntropy(PairLoss):
    """Cross-entropy of a linear layer over (u, v, |u − v|) (Reimers and Gurevych 2019)."""

    implementation: ClassVar[str] = "foldstack.training.pair_criteria:pair_cross_entropy"
    kinds: ClassVar[tuple[str, ...]] = ("binary", "multiclass", "multilabel")
    scores_vectors: ClassVar[bool] = True
    name: Literal["softmax"]
