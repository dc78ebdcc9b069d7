"""Losses. Each takes soft targets and row weights; what each computes is in training/losses.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldstack.settings import Settings, Share
from foldstack.techniques.common import NonNegative, Positive, UnitShare

ClassWeights = Literal["none", "inverse", "effective"]
Average = Literal["auto", "micro", "macro"]


class CrossEntropy(Settings):
    """What `auto` stands for, but in regression.

    class_weights: from the run's own training rows, by inverse frequency or effective number.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0
    class_weights: ClassWeights = "none"


class SoftF1(Settings):
    """share: of the soft F1; the rest of the loss is cross-entropy. average: of several labels."""

    name: Literal["soft_f1"]
    share: UnitShare = 1.0
    average: Average = "auto"


class Focal(Settings):
    name: Literal["focal"]
    gamma: Positive = 2.0
    class_weights: ClassWeights = "none"


class Dice(Settings):
    """alpha: how much easy rows lose their say; smooth: added above and below the fraction."""

    name: Literal["dice"]
    alpha: NonNegative = 0.6
    smooth: Positive = 1.0


class GHM(Settings):
    """bins: of the gradient's length, from 0 to 1."""

    name: Literal["ghm"]
    bins: Annotated[int, Field(ge=2)] = 10


class LogitAdjusted(Settings):
    """tau: how much of the log prior of the run's own training rows is added to the outputs."""

    name: Literal["logit_adjusted"]
    tau: Positive = 1.0


class MultilabelCrossEntropy(Settings):
    name: Literal["multilabel_ce"]


class Asymmetric(Settings):
    """gamma_positive, gamma_negative: focusing; margin: taken from the probability of negatives."""

    name: Literal["asymmetric"]
    gamma_positive: NonNegative = 0.0
    gamma_negative: NonNegative = 4.0
    margin: Share = 0.05


class SquaredError(Settings):
    """What `auto` stands for in regression."""

    name: Literal["mse"] = "mse"


class Huber(Settings):
    """delta: in standard deviations of the target."""

    name: Literal["huber"]
    delta: Positive = 1.0


class ScaledCrossEntropy(Settings):
    """Targets scaled to 0 … 1 between the training rows' least and greatest, cross-entropy on them."""

    name: Literal["scaled_bce"]


Loss = (
    CrossEntropy
    | SoftF1
    | Focal
    | Dice
    | GHM
    | LogitAdjusted
    | MultilabelCrossEntropy
    | Asymmetric
    | SquaredError
    | Huber
    | ScaledCrossEntropy
)


YES_NO = ("binary", "multilabel")
CLASSES = (*YES_NO, "multiclass")
# The kinds of competition that each loss is for.
LOSS_KINDS = {
    "cross_entropy": CLASSES,
    "soft_f1": CLASSES,
    "focal": CLASSES,
    "dice": CLASSES,
    "ghm": YES_NO,
    "logit_adjusted": CLASSES,
    "multilabel_ce": ("multilabel",),
    "asymmetric": YES_NO,
    "mse": ("regression",),
    "huber": ("regression",),
    "scaled_bce": ("regression",),
}


class Contrastive(Settings):
    """Supervised contrastive loss on the pooled vectors, added with this weight."""

    weight: Positive = 0.1
    temperature: Positive = 0.1


# Computed over all rows of an update at once.
BATCH_LOSSES = frozenset({"soft_f1", "ghm"})
