"""Losses for soft targets and weighted rows, and what is added to them.

A row-wise loss is a plain function `(raw (b, outputs), targets (b, outputs)) -> (b,)`; `RowWise` weighs
and adds its rows, so that micro-batches add up to the whole batch. A loss of the whole batch is a
`Criterion` of its own. All stay finite, with finite gradients, for logits of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from foldstack import techniques

RowLoss = Callable[[Tensor, Tensor], Tensor]

BETA = 0.999  # of the effective number of rows
TINY = 1e-6  # the least base of a power, whose gradient would else be infinite at 0
ABSENT = 1e-6  # an outcome with a smaller share of the rows counts as having none
FAR = -1e30  # a log probability of nothing, which unlike -inf leaves gradients finite


class Criterion(Protocol):
    def __call__(
        self, raw: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        """This micro-batch's share of the update's loss, a scalar.

        raw, targets: (b, outputs); weights: (b,). total_weight: a scalar, the weight of all rows of
        the update; with several processes the mean of theirs, so that gradients averaged over the
        processes are those of the whole batch.
        """


def make_criterion(
    loss: techniques.Loss | None, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    """The criterion of these settings; None is cross-entropy, or squared error for link `identity`.

    targets (n, outputs), weights (n,): those of the run's own training rows, and of no others, since
    class weights and priors are computed from them.
    """
    if loss is None:
        loss = techniques.SquaredError() if link == "identity" else techniques.CrossEntropy()
    return loss.load()(loss, link, targets, weights)


@dataclass(frozen=True)
class RowWise:
    """The weighted sum of the rows' losses over the update's total weight."""

    loss: RowLoss

    def __call__(
        self, raw: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        return (weights * self.loss(raw, targets)).sum() / total_weight


# Row-wise losses


def _outcomes(raw: Tensor, targets: Tensor, link: str) -> tuple[Tensor, Tensor]:
    """(b, k, m) log probabilities and targets of m choices, each among k outcomes.

    softmax is one choice among all classes; sigmoid is one for each output, of yes and no.
    """
    if link == "softmax":
        return F.log_softmax(raw, dim=1).unsqueeze(2), targets.unsqueeze(2)
    log_p = torch.stack([F.logsigmoid(raw), F.logsigmoid(-raw)], dim=1)
    return log_p, torch.stack([targets, 1 - targets], dim=1)


def probabilities(raw: Tensor, link: str) -> Tensor:
    return raw.softmax(dim=1) if link == "softmax" else raw.sigmoid()


def _power(base: Tensor, exponent: float) -> Tensor:
    return base.clamp(min=TINY).pow(exponent)


def _like(balance: Tensor | float, raw: Tensor) -> Tensor | float:
    """On the device of the outputs; a plain number need not go there."""
    return balance.to(raw) if isinstance(balance, Tensor) else balance


def cross_entropy(
    link: str,
    raw: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    balance: Tensor | float = 1.0,
) -> Tensor:
    """(b,) cross-entropy: summed over classes (softmax), the mean over outputs (sigmoid).

    smoothing: that share of each target is spread evenly over the classes, or over yes and no
    (Szegedy et al. 2016, Rethinking the Inception architecture). balance: (k, m) `class_weights`.
    With link `sigmoid` and targets scaled into 0 … 1, it is the regression loss `scaled_bce`.
    """
    log_p, wanted = _outcomes(raw, targets, link)
    wanted = (1 - smoothing) * wanted + smoothing / wanted.shape[1]
    return -(_like(balance, raw) * wanted * log_p).sum(dim=1).mean(dim=1)


def focal(
    link: str, raw: Tensor, targets: Tensor, *, gamma: float, balance: Tensor | float = 1.0
) -> Tensor:
    """(b,) focal loss, Σ t |t − p|^gamma (−log p) over outcomes, the mean over outputs (sigmoid).

    For hard targets that is (1 − p)^gamma (−log p) of the true outcome (Lin et al. 2017, Focal loss
    for dense object detection); for soft ones of yes and no it is the quality focal loss
    |y − p|^gamma BCE (Li et al. 2020, Generalized focal loss), least at p = y, and for soft classes
    its like. balance: (k, m) `class_weights`, the paper's alpha.
    """
    log_p, wanted = _outcomes(raw, targets, link)
    focus = _power((wanted - log_p.exp()).abs(), gamma)
    return -(_like(balance, raw) * wanted * focus * log_p).sum(dim=1).mean(dim=1)


def dice(link: str, raw: Tensor, targets: Tensor, *, alpha: float, smooth: float) -> Tensor:
    """(b,) self-adjusting dice loss: summed over classes (softmax), the mean over outputs (sigmoid).

    1 − (2 q y + smooth) / (q + y + smooth) with q = (1 − p)^alpha p (Li et al. 2020, Dice loss for
    data-imbalanced NLP tasks), differentiated through both factors of q, as the authors do. q is
    largest at p = 1 / (1 + alpha): the loss asks for no more certainty than that, and pulls a
    negative beyond it the wrong way.
    """
    p = probabilities(raw, link)
    q = _power(1 - p, alpha) * p
    losses = 1 - (2 * q * targets + smooth) / (q + targets + smooth)
    return losses.sum(dim=1) if link == "softmax" else losses.mean(dim=1)


def logit_adjusted(link: str, raw: Tensor, targets: Tensor, *, offset: Tensor) -> Tensor:
    """(b,) cross-entropy of raw + offset, where raw alone is what is predicted with.

    offset: (outputs,) tau times `log_priors` (Menon et al. 2021, Long-tail learning via logit
    adjustment).
    """
    return cross_entropy(link, raw + offset.to(raw), targets)


def known_cross_entropy(raw: Tensor, targets: Tensor) -> Tensor:
    """(b,) cross-entropy of yes or no, the mean over the outputs whose targets are known; 0 without any.

    targets: (b, outputs) in 0 … 1, nan where unknown.
    """
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(raw, targets.nan_to_num(), reduction="none")
    return (known * losses).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def multilabel_cross_entropy(raw: Tensor, targets: Tensor) -> Tensor:
    """(b,) log(1 + Σ t e^−s) + log(1 + Σ (1 − t) e^s): every positive above 0, every negative below.

    Su et al. 2022, ZLPR: a novel loss for multi-label classification, with its soft labels. Its
    threshold of 0 is the probability .5 of the sigmoid link, which is not calibrated by it.
    """
    zero = torch.zeros_like(raw[:, :1])
    positive = torch.cat([zero, targets.log() - raw], dim=1).logsumexp(dim=1)
    negative = torch.cat([zero, (1 - targets).log() + raw], dim=1).logsumexp(dim=1)
    return positive + negative


def asymmetric(
    gamma_positive: float, gamma_negative: float, margin: float, raw: Tensor, targets: Tensor
) -> Tensor:
    """(b,) −y (1 − p)^gamma_positive log p − (1 − y) q^gamma_negative log(1 − q), the mean over outputs.

    q = max(p − margin, 0) (Ridnik et al. 2021, Asymmetric loss for multi-label classification). The
    gradient goes through the focusing factors too, as in the paper.
    """
    log_yes, log_no = F.logsigmoid(raw), F.logsigmoid(-raw)
    log_margin = raw.new_full((), math.log(margin) if margin else -math.inf)
    log_shifted = torch.logaddexp(log_no, log_margin).clamp(max=0)  # log(1 − q)
    positive = _power(log_no.exp(), gamma_positive) * log_yes
    negative = _power(-torch.expm1(log_shifted), gamma_negative) * log_shifted
    return -(targets * positive + (1 - targets) * negative).mean(dim=1)


def squared_error(raw: Tensor, targets: Tensor) -> Tensor:
    """(b,) the mean over outputs."""
    return F.mse_loss(raw, targets, reduction="none").mean(dim=1)


def huber(delta: float, raw: Tensor, targets: Tensor) -> Tensor:
    """(b,) d² / 2 of the errors up to delta, delta (d − delta / 2) beyond; the mean over outputs.

    Huber 1964, Robust estimation of a location parameter.
    """
    return F.huber_loss(raw, targets, reduction="none", delta=delta).mean(dim=1)


# What some of them take from the run's own training rows


def _outcome_weights(targets: Tensor, weights: Tensor, link: str) -> Tensor:
    """(k, m) summed row weight of each outcome: (classes, 1), or (yes and no, outputs)."""
    targets, weights = targets.double(), weights.double()
    yes = weights @ targets
    return yes.unsqueeze(1) if link == "softmax" else torch.stack([yes, weights.sum() - yes])


def class_weights(
    method: techniques.ClassWeights, targets: Tensor, weights: Tensor, link: str
) -> Tensor:
    """(k, m) weights of the outcomes whose mean over the training rows is 1.

    inverse: n / (K n_k), of the K classes that have rows; n_k is the sum of weights. effective: in
    proportion to (1 − beta) / (1 − beta^n_k) with beta .999 (Cui et al. 2019, Class-balanced loss
    based on effective number of samples). A class without rows, which only smoothed targets name, has
    weight 1.
    """
    counts = _outcome_weights(targets, weights, link)
    if method == "none":
        return torch.ones_like(counts)
    total = counts.sum(dim=0)
    present = counts > ABSENT * total
    rows = counts if method == "inverse" else torch.expm1(counts * math.log(BETA)) / (BETA - 1)
    wanted = torch.where(present, 1 / rows, 0)
    mean = (counts * wanted).sum(dim=0) / total
    return torch.where(present, wanted / mean, 1)


def _least(weights: Tensor) -> Tensor:
    """The least weight above 0, which does not change with rows of weight 0 or twice the weight."""
    above = weights[weights > 0].double()
    return above.min() if len(above) else above.new_ones(())


def log_priors(targets: Tensor, weights: Tensor, link: str) -> Tensor:
    """(outputs,) log share of each class (softmax), or log odds of each label (sigmoid).

    A class without rows counts as having one, of the least weight.
    """
    counts, least = _outcome_weights(targets, weights, link), _least(weights)
    logs = counts.clamp(min=least).log() - counts.sum(dim=0).clamp(min=least).log()
    return logs[:, 0] if link == "softmax" else logs[0] - logs[1]


# Losses of the whole batch


def sum_over_processes(local: Tensor) -> Tensor:
    """The sum over all processes; its gradient reaches this one's part times their number.

    Gradients that are then averaged over processes, as DistributedDataParallel does, are those of
    the whole batch. The backward pass needs no second reduction.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return total + dist.get_world_size() * (local - local.detach())


@dataclass(frozen=True)
class SoftF1Criterion:
    """1 − 2 Σ w p y / Σ w (p + y) over the batch, `share` of it, the rest cross-entropy.

    F1 of expected counts (Bénédict et al. 2022, sigmoidF1). Several outputs or classes: micro adds
    their sums; macro (auto) is the mean over the outputs that have a positive in the batch, or over
    all where none has. Where the positives weigh less than one row, what lacks is added above and
    below the fraction, so that a batch without any gives Σ w p / (row_weight + Σ w p): no jump on the
    way there, and a gradient that pulls p down, where the plain formula is 1 and teaches nothing.
    row_weight: the least weight of a training row, so that any positive row makes it the formula.
    """

    link: str
    share: float
    average: techniques.Average
    row_weight: float

    def __call__(
        self, raw: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        p = probabilities(raw, self.link)
        loss = self._loss(*sum_over_processes(weights @ torch.stack([p * targets, p, targets])))
        if self.share == 1:
            return loss
        rest = RowWise(partial(cross_entropy, self.link))
        return self.share * loss + (1 - self.share) * rest(raw, targets, weights, total_weight)

    def _loss(self, found: Tensor, predicted: Tensor, positives: Tensor) -> Tensor:
        """Return the loss of (outputs,) sums Σ w p y, Σ w p and Σ w y."""
        if self.average == "micro":
            found, predicted, positives = (x.sum()[None] for x in (found, predicted, positives))
        lacking = (self.row_weight - positives).clamp(min=0)
        f1 = (2 * found + lacking) / (predicted + positives + lacking)
        some = positives > 0
        counted = (some | ~some.any()).to(f1)
        return 1 - (counted * f1).sum() / counted.sum()


@dataclass(frozen=True)
class GHMCriterion:
    """Gradient harmonising, for yes or no: the mean over bins of the mean cross-entropy in each.

    GHM-C (Li, Liu and Wang 2019, Gradient harmonized single-stage detector): each row and output is
    divided by how much weight has a gradient |p − y| in the same of `bins` equal parts of 0 … 1, and
    by the number of parts that have any, as in the authors' code. Densities are this batch's, without
    a running mean, and constant to the gradient.
    """

    bins: int

    def __call__(
        self, raw: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(raw, targets, reduction="none")
        steepness = (raw.detach().sigmoid() - targets).abs()
        bin_of = (steepness * self.bins).long().clamp(0, self.bins - 1).flatten()
        # A product, not a scattered sum, whose order and so last bits a GPU does not fix.
        inside = (bin_of[:, None] == torch.arange(self.bins, device=raw.device)).to(raw)
        each = weights[:, None].expand_as(raw)
        parts = torch.stack([(each * losses).flatten(), each.flatten()])
        loss_in, weight_in = sum_over_processes(parts @ inside)
        filled = weight_in > 0
        means = loss_in / torch.where(filled, weight_in, 1)
        return means.sum() / filled.sum().clamp(min=1)


# Additions


def divergence(a: Tensor, b: Tensor, link: str) -> Tensor:
    """(b,) symmetric divergence of two (b, outputs) logits: 0, and no gradient, where equal.

    ½ KL(a‖b) + ½ KL(b‖a) = ½ Σ (p_a − p_b)(log p_a − log p_b) (R-Drop, Wu et al. 2021, Regularized
    dropout for neural networks), of yes and no for sigmoid, there the mean over outputs. identity:
    the squared difference, the mean over outputs.
    """
    if link == "identity":
        return squared_error(a, b)
    apart = probabilities(a, link) - probabilities(b, link)
    if link == "softmax":
        return 0.5 * (apart * (F.log_softmax(a, dim=1) - F.log_softmax(b, dim=1))).sum(dim=1)
    return 0.5 * (apart * (a - b)).mean(dim=1)  # yes and no together leave the logits


def supervised_contrastive(
    vectors: Tensor, targets: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, L_out) of (b, h) vectors, a scalar.

    Vectors are scaled to length 1 here. Two rows are positives of each other to the degree that
    their (b, outputs) targets agree, see `agreement`; a row counts as far as its best positive agrees,
    and one without any is left out. The mean over the others, by their (b,) weights; 0 without
    gradient where there are none. A row of weight 0 is nobody's positive or negative. Rows of other
    processes are not compared. Not for regression.
    """
    vectors = F.normalize(vectors, dim=1)
    self_pair = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    logits = vectors @ vectors.T / temperature
    others = (logits + weights.log()).masked_fill(self_pair, FAR)
    log_p = (logits - others.logsumexp(dim=1, keepdim=True)).masked_fill(self_pair, 0)

    agree = agreement(targets).masked_fill(self_pair, 0)
    degree = (agree * (weights > 0)).amax(dim=1)
    shares = F.normalize(agree * weights, p=1, dim=1)
    losses = -degree * (shares * log_p).sum(dim=1)
    total = (weights * (degree > 0)).sum()
    return (weights * losses).sum() / torch.where(total > 0, total, 1)


def agreement(targets: Tensor) -> Tensor:
    """(b, b) how far rows' targets agree, 0 … 1: Σ min / Σ max, the Jaccard similarity.

    One-hot: 1 for the same class, else 0. Several 0/1 labels: of the sets of labels, and two empty
    sets agree. One 0/1 column: as the two classes that it means. Soft targets lie between.
    """
    if targets.shape[1] == 1:
        targets = torch.cat([targets, 1 - targets], dim=1)
    size = targets.sum(dim=1)
    both = size[:, None] + size
    apart = torch.cdist(targets, targets, p=1)
    return torch.where(both > 0, (both - apart) / (both + apart), 1).clamp(min=0)


# The criterion of each technique, of its settings and the run's own training rows


def cross_entropy_criterion(
    loss: techniques.CrossEntropy, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    balance = class_weights(loss.class_weights, targets, weights, link)
    smoothing = loss.label_smoothing
    return RowWise(partial(cross_entropy, link, smoothing=smoothing, balance=balance))


def focal_criterion(
    loss: techniques.Focal, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    balance = class_weights(loss.class_weights, targets, weights, link)
    return RowWise(partial(focal, link, gamma=loss.gamma, balance=balance))


def dice_criterion(loss: techniques.Dice, link: str, *rows: Tensor) -> Criterion:
    return RowWise(partial(dice, link, alpha=loss.alpha, smooth=loss.smooth))


def logit_adjusted_criterion(
    loss: techniques.LogitAdjusted, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    offset = loss.tau * log_priors(targets, weights, link)
    return RowWise(partial(logit_adjusted, link, offset=offset))


def multilabel_criterion(loss: techniques.Loss, link: str, *rows: Tensor) -> Criterion:
    return RowWise(multilabel_cross_entropy)


def asymmetric_criterion(loss: techniques.Asymmetric, link: str, *rows: Tensor) -> Criterion:
    settings = loss.gamma_positive, loss.gamma_negative, loss.margin
    return RowWise(partial(asymmetric, *settings))


def squared_error_criterion(loss: techniques.Loss, link: str, *rows: Tensor) -> Criterion:
    return RowWise(squared_error)


def huber_criterion(loss: techniques.Huber, link: str, *rows: Tensor) -> Criterion:
    return RowWise(partial(huber, loss.delta))


def scaled_criterion(loss: techniques.Loss, link: str, *rows: Tensor) -> Criterion:
    return RowWise(partial(cross_entropy, "sigmoid"))


def soft_f1_criterion(
    loss: techniques.SoftF1, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    return SoftF1Criterion(link, loss.share, loss.average, _least(weights).item())


def ghm_criterion(loss: techniques.GHM, link: str, *rows: Tensor) -> Criterion:
    return GHMCriterion(loss.bins)
