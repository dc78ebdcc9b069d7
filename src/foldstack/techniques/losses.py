"""Losses. Each takes soft targets and row weights; what each computes is in training/losses.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldstack.settings import Settings, Share
from foldstack.techniques.common import NonNegative, Positive, UnitShare

ClassWeights = Literal["none", "inverse", "effective"]
Average = Literal["auto", "micro", "macro"]


class CrossEntropy(Settings):
    """The default, except in regression.

    label_smoothing: share of each target that is spread evenly (Szegedy et al. 2016).
    class_weights: from the run's own training rows, by inverse frequency or effective number (Cui
        et al. 2019).
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0
    class_weights: ClassWeights = "none"


class SoftF1(Settings):
    """1 − soft F1 over the batch (Bénédict et al. 2022).

    share: of soft F1 in the loss; the rest is cross-entropy.
    average: over several labels.
    """

    name: Literal["soft_f1"]
    share: UnitShare = 1.0
    average: Average = "auto"


class Focal(Settings):
    """Cross-entropy in which easy rows count less (Lin et al. 2017).

    gamma: how much less easy rows count.
    class_weights: as for cross_entropy.
    """

    name: Literal["focal"]
    gamma: Positive = 2.0
    class_weights: ClassWeights = "none"


class Dice(Settings):
    """Self-adjusting dice loss (Li et al. 2020).

    alpha: how much less easy rows count; the loss is least at a probability of 1 / (1 + alpha).
    smooth: added to numerator and denominator.
    """

    name: Literal["dice"]
    alpha: NonNegative = 0.6
    smooth: Positive = 1.0


class GHM(Settings):
    """Rows weighted against how many have a gradient of the same length (Li et al. 2019).

    bins: of the gradient's length, from 0 to 1.
    """

    name: Literal["ghm"]
    bins: Annotated[int, Field(ge=2)] = 10


class LogitAdjusted(Settings):
    """Cross-entropy with log priors added to the logits in training (Menon et al. 2021).

    tau: factor on the log priors, which come from the run's own training rows.
    """

    name: Literal["logit_adjusted"]
    tau: Positive = 1.0


class MultilabelCrossEntropy(Settings):
    """Every positive label above every negative one (ZLPR, Su et al. 2022)."""

    name: Literal["multilabel_ce"]


class Asymmetric(Settings):
    """Focal loss with separate settings for positives and negatives (Ridnik et al. 2021).

    gamma_positive: focusing of positives.
    gamma_negative: focusing of negatives.
    margin: subtracted from the probability of negatives.
    """

    name: Literal["asymmetric"]
    gamma_positive: NonNegative = 0.0
    gamma_negative: NonNegative = 4.0
    margin: Share = 0.05


class SquaredError(Settings):
    """The default in regression."""

    name: Literal["mse"] = "mse"


class Huber(Settings):
    """Squared error, linear beyond delta.

    delta: in standard deviations of the target.
    """

    name: Literal["huber"]
    delta: Positive = 1.0


class ScaledCrossEntropy(Settings):
    """Cross-entropy on targets scaled to 0 … 1 between the least and the greatest of the training
    rows."""

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
    """Supervised contrastive loss on the pooled vectors (Khosla et al. 2020; Gunel et al. 2021).

    weight: of this loss beside the task's.
    temperature: of the similarities.
    """

    weight: Positive = 0.1
    temperature: Positive = 0.1


# Computed over all rows of an update at once.
BATCH_LOSSES = frozenset({"soft_f1", "ghm"})
