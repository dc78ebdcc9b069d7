"""Losses of soft targets and row weights; their implementations are in training/criteria.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foldstack.settings import NonNegative, Positive, Settings, Share
from foldstack.techniques.common import Temperature, UnitShare
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
        kinds: the kinds of competition that it applies to.
        whole_batch: it is computed over all rows of an update at once.
        bounded: a sigmoid is applied to the outputs before regression targets are unscaled.
        adds_log_priors: it adds the log of each class's share to the outputs.
        least_batch: rows per update if only the head is trained and the stage sets no `batch_size`.
    """

    kinds: ClassVar[tuple[str, ...]] = CLASSES
    whole_batch: ClassVar[bool] = False
    bounded: ClassVar[bool] = False
    adds_log_priors: ClassVar[bool] = False
    least_batch: ClassVar[int] = 0


class CrossEntropy(Loss):
    """The default, except in regression.

    label_smoothing: share of each target that is spread evenly (Szegedy et al. 2016).
    class_weights: from the run's own training rows, by inverse frequency or effective number (Cui
        et al. 2019).
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:cross_entropy_criterion"
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0
    class_weights: ClassWeights = "none"


class SoftF1(Loss):
    """1 − soft F1 over the batch (Bénédict et al. 2022).

    share: of soft F1 in the loss; the rest is cross-entropy.
    average: over several labels.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:soft_f1_criterion"
    whole_batch: ClassVar[bool] = True
    least_batch: ClassVar[int] = 1024
    name: Literal["soft_f1"]
    share: UnitShare = 1.0
    average: Average = "auto"


class PairwiseAUC(Loss):
    """Logistic loss of the difference of every positive and negative of the batch, which is
    consistent with the area under the ROC curve (Gao and Zhou 2015).

    share: of the pairs in the loss; the rest is cross-entropy. With 1 only the ranking is learned.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:pairwise_auc_criterion"
    kinds: ClassVar[tuple[str, ...]] = YES_NO
    whole_batch: ClassVar[bool] = True
    name: Literal["pairwise_auc"]
    share: UnitShare = 0.5


class Focal(Loss):
    """Cross-entropy in which easy rows count less (Lin et al. 2017).

    gamma: how much less easy rows count.
    class_weights: as for cross_entropy.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:focal_criterion"
    name: Literal["focal"]
    gamma: Positive = 2.0
    class_weights: ClassWeights = "none"


class Dice(Loss):
    """Self-adjusting dice loss (Li et al. 2020).

    alpha: how much less easy rows count; the loss is least at a probability of 1 / (1 + alpha).
    smooth: added to numerator and denominator.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:dice_criterion"
    name: Literal["dice"]
    alpha: NonNegative = 0.6
    smooth: Positive = 1.0


class GHM(Loss):
    """Rows weighted against how many have a gradient of the same length (Li et al. 2019).

    bins: of the gradient's length, from 0 to 1.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:ghm_criterion"
    whole_batch: ClassVar[bool] = True
    name: Literal["ghm"]
    bins: Annotated[int, Field(ge=2)] = 10


class LogitAdjusted(Loss):
    """Cross-entropy with log priors added to the logits in training (Menon et al. 2021).

    tau: factor on the log priors, which come from the run's own training rows.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:logit_adjusted_criterion"
    adds_log_priors: ClassVar[bool] = True
    name: Literal["logit_adjusted"]
    tau: Positive = 1.0


class MultilabelCrossEntropy(Loss):
    """Every positive label above every negative one (ZLPR, Su et al. 2022)."""

    implementation: ClassVar[str] = "foldstack.training.criteria:multilabel_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("multilabel",)
    name: Literal["multilabel_ce"]


class Asymmetric(Loss):
    """Focal loss with separate settings for positives and negatives (Ridnik et al. 2021).

    gamma_positive: focusing of positives.
    gamma_negative: focusing of negatives.
    margin: subtracted from the probability of negatives.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:asymmetric_criterion"
    kinds: ClassVar[tuple[str, ...]] = YES_NO
    name: Literal["asymmetric"]
    gamma_positive: NonNegative = 0.0
    gamma_negative: NonNegative = 4.0
    margin: Share = 0.05


class SquaredError(Loss):
    """The default in regression."""

    implementation: ClassVar[str] = "foldstack.training.criteria:squared_error_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    name: Literal["mse"] = "mse"


class Huber(Loss):
    """Squared error, linear beyond delta.

    delta: in standard deviations of the target.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:huber_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    name: Literal["huber"]
    delta: Positive = 1.0


class ScaledCrossEntropy(Loss):
    """Cross-entropy on targets scaled to 0 … 1 between the least and the greatest of the training
    rows."""

    implementation: ClassVar[str] = "foldstack.training.criteria:scaled_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    bounded: ClassVar[bool] = True
    name: Literal["scaled_bce"]


class Correlation(Loss):
    """1 − Pearson's correlation over the batch, the mean over targets.

    share: of the correlation in the loss; the rest is the squared error. With 1 neither mean nor
        scale is learned.
    """

    implementation: ClassVar[str] = "foldstack.training.criteria:correlation_criterion"
    kinds: ClassVar[tuple[str, ...]] = ("regression",)
    whole_batch: ClassVar[bool] = True
    name: Literal["correlation"]
    share: UnitShare = 0.5


class Contrastive(Settings):
    """Supervised contrastive loss on the pooled vectors (Khosla et al. 2020; Gunel et al. 2021).

    weight: of this loss beside the task's.
    temperature: of the similarities.
    """

    weight: Positive = 0.1
    temperature: Temperature = 0.1
