"""Losses. Each takes soft targets and row weights; what each computes is in training/criteria.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foldstack.settings import Settings, Share
from foldstack.techniques.common import NonNegative, Positive, UnitShare
from foldstack.techniques.registry import Technique

ClassWeights = Literal["none", "inverse", "effective"]
Average = Literal["auto", "micro", "macro"]


YES_NO = ("binary", "multilabel")
CLASSES = (*YES_NO, "multiclass")


class Loss(Technique):
    """The function that is minimised.

    implementation: `(settings, link, targets, weights) -> training.criteria.Criterion`, with the
    targets (n, outputs) and weights (n,) of the run's own training rows.

    Traits:
        kinds: the kinds of competition that it is for.
        whole_batch: it is computed over all rows of an update at once.
        bounded: the outputs pass through a sigmoid before they are regression targets again.
        adds_log_priors: it adds the log of each class's share to the outputs.
        least_batch: rows per update if only the head is trained and no `batch_size` is set there.
    """

    kinds: ClassVar[tuple[str, ...]] = CLASSES
    whole_batch: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    adds_log_priors: ClassVar[bool] = False
    least_batch: ClassVar[int] = 0


class CrossEntropy(Loss):
    """The loss `auto`, except in regression.

    class_weights: from the run's own training rows, by inverse frequency or effective number.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:cross_entropy_criterion"
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0
    class_weights: ClassWeights = "none"


class SoftF1(Loss):
    """share: of the soft F1; the rest of the loss is cross-entropy. average: of several labels."""

    implementation: ClassVar[str] = "foldstack.training.criteria:soft_f1_criterion"
    whole_batch: ClassVar[bool] = True
    least_batch: ClassVar[int] = 1024
    name: Literal["soft_f1"]
    share: UnitShare = 1.0
    average: Average = "auto"


class Focal(Loss):
    implementation: ClassVar[str] = "foldstack.training.criteria:focal_criterion"
    name: Literal["focal"]
    gamma: Positive = 2.0
    class_weights: ClassWeights = "none"


class Dice(Loss):
    """alpha: how much easy rows lose their say; smooth: added above and below the fraction."""

    implementation: ClassVar[str] = "foldstack.training.criteria:dice_criterion"
    name: Literal["dice"]
    alpha: NonNegative = 0.6
    smooth: Positive = 1.0


class GHM(Loss):
    """bins: of the gradient's length, from 0 to 1."""

    implementation: ClassVar[str] = "foldstack.training.criteria:ghm_criterion"
    kinds: ClassVar[tuple[str, ...]] = YES_NO
    whole_batch: ClassVar[bool] = True
    name: Literal["ghm"]
    bins: Annotated[int, Field(ge=2)] = 10


class LogitAdjusted(Loss):
    """tau: how much of the log prior of the run's own training rows is added to the outputs."""

    implementation: ClassVar[str] = "foldstack.training.criteria:logit_adjusted_criterion"
    adds_log_priors: ClassVar[bool] = True
    name: Literal["logit_adjusted"]
    tau: Positive = 1.0


class MultilabelCrossEntropy(Loss):
    implementation: ClassVar[str] = "foldstack.training.criteria:multilabel_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("multilabel",)
    name: Literal["multilabel_ce"]


class Asymmetric(Loss):
    """gamma_positive, gamma_negative: focusing; margin: taken from the probability of negatives."""

    implementation: ClassVar[str] = "foldstack.training.criteria:asymmetric_criterion"
    kinds: ClassVar[tuple[str, ...]] = YES_NO
    name: Literal["asymmetric"]
    gamma_positive: NonNegative = 0.0
    gamma_negative: NonNegative = 4.0
    margin: Share = 0.05


class SquaredError(Loss):
    """The loss `auto` in regression."""

    implementation: ClassVar[str] = "foldstack.training.criteria:squared_error_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    name: Literal["mse"] = "mse"


class Huber(Loss):
    """delta: in standard deviations of the target."""

    implementation: ClassVar[str] = "foldstack.training.criteria:huber_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    name: Literal["huber"]
    delta: Positive = 1.0


class ScaledCrossEntropy(Loss):
    """Targets scaled to 0 … 1 between the training rows' least and greatest, cross-entropy on them."""

    implementation: ClassVar[str] = "foldstack.training.criteria:scaled_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    bounded: ClassVar[bool] = True
    name: Literal["scaled_bce"]


class Contrastive(Settings):
    """Supervised contrastive loss on the pooled vectors, added with this weight."""

    weight: Positive = 0.1
    temperature: Positive = 0.1
