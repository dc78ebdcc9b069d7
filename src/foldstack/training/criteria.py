"""Losses for soft targets and weighted rows, and terms added to them.

A row-wise loss is a plain function `(logits (b, outputs), targets (b, outputs)) -> (b,)`; `RowWise`
weights and sums its rows, so that micro-batches add up to the whole batch. A loss of the whole
batch is a `Criterion` of its own. All losses and gradients are finite for logits of any size.
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

BETA = 0.999  # of the effective number of samples
TINY = 1e-6  # minimum base of a power; the gradient is infinite at 0
ABSENT = 1e-6  # an outcome with a smaller share of the rows counts as absent
CONSTANT = 1e-3  # standard deviation of a batch, in the target's, below which it counts as constant
PAIRS = 1 << 22  # differences of logits that are held at a time
FAR = -1e30  # log of probability 0; unlike -inf it keeps gradients finite


class Criterion(Protocol):
    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        """Return this micro-batch's part of the update's loss, a scalar.

        Args:
            logits: (b, outputs).
            targets: (b, outputs).
            weights: (b,).
            total_weight: scalar, the total weight of the update's rows; with several processes the
                mean of theirs, so that gradients averaged over processes are those of the whole
                batch.
        """


def make_criterion(
    loss: techniques.Loss | None, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    """Return the criterion that the settings name.

    Args:
        loss: settings; None is cross-entropy, or squared error for link `identity`.
        link: from logits to probabilities.
        targets: (n, outputs) of the run's own training rows only, for class weights and priors.
        weights: (n,) of these rows.
    """
    if loss is None:
        loss = techniques.SquaredError() if link == "identity" else techniques.CrossEntropy()
    return loss.load()(loss, link, targets, weights)


@dataclass(frozen=True)
class RowWise:
    """The weighted sum of row losses over the total weight of the update."""

    loss: RowLoss

    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        return (weights * self.loss(logits, targets)).sum() / total_weight


# Row-wise losses


def _outcomes(logits: Tensor, targets: Tensor, link: str) -> tuple[Tensor, Tensor]:
    """Return (b, k, m) log probabilities and targets of m choices among k outcomes.

    softmax is one choice among all classes; sigmoid is one binary choice per output.
    """
    if link == "softmax":
        return F.log_softmax(logits, dim=1).unsqueeze(2), targets.unsqueeze(2)
    log_p = torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=1)
    return log_p, torch.stack([targets, 1 - targets], dim=1)


def probabilities(logits: Tensor, link: str) -> Tensor:
    return logits.softmax(dim=1) if link == "softmax" else logits.sigmoid()


def _power(base: Tensor, exponent: float) -> Tensor:
    return base.clamp(min=TINY).pow(exponent)


def _like(balance: Tensor | float, logits: Tensor) -> Tensor | float:
    """Return the balance on the device of the logits; a plain number unchanged."""
    return balance.to(logits) if isinstance(balance, Tensor) else balance


def cross_entropy(
    link: str,
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    balance: Tensor | float = 1.0,
) -> Tensor:
    """Return (b,) cross-entropy: summed over classes (softmax), averaged over outputs (sigmoid).

    Args:
        link: softmax or sigmoid; sigmoid with targets scaled to 0 … 1 is the regression loss
            `scaled_bce`.
        logits: (b, outputs).
        targets: (b, outputs).
        smoothing: share of each target that is spread evenly over its outcomes (Szegedy et al.
            2016, Rethinking the Inception architecture).
        balance: (k, m) `class_weights`.
    """
    log_p, wanted = _outcomes(logits, targets, link)
    wanted = (1 - smoothing) * wanted + smoothing / wanted.shape[1]
    return -(_like(balance, logits) * wanted * log_p).sum(dim=1).mean(dim=1)


def focal(
    link: str, logits: Tensor, targets: Tensor, *, gamma: float, balance: Tensor | float = 1.0
) -> Tensor:
    """Return (b,) focal loss, Σ t |t − p|^gamma (−log p) over outcomes, output mean (sigmoid).

    For hard targets that is (1 − p)^gamma (−log p) of the true outcome (Lin et al. 2017, Focal loss
    for dense object detection). For soft binary targets it is the quality focal loss |y − p|^gamma
    BCE (Li et al. 2020, Generalized focal loss), minimal at p = y; for soft classes it is
    analogous.

    Args:
        link: softmax or sigmoid.
        logits: (b, outputs).
        targets: (b, outputs).
        gamma: exponent of the focus.
        balance: (k, m) `class_weights`, the paper's alpha.
    """
    log_p, wanted = _outcomes(logits, targets, link)
    focus = _power((wanted - log_p.exp()).abs(), gamma)
    return -(_like(balance, logits) * wanted * focus * log_p).sum(dim=1).mean(dim=1)


def dice(link: str, logits: Tensor, targets: Tensor, *, alpha: float, smooth: float) -> Tensor:
    """Return (b,) self-adjusting dice loss: summed over classes (softmax), output mean (sigmoid).

    1 − (2 q y + smooth) / (q + y + smooth) with q = (1 − p)^alpha p (Li et al. 2020, Dice loss for
    data-imbalanced NLP tasks), differentiated through both factors of q, as the authors do. q is
    maximal at p = 1 / (1 + alpha): the loss rewards no confidence beyond that, and the gradient of
    a negative beyond it has the wrong sign.

    Args:
        link: softmax or sigmoid.
        logits: (b, outputs).
        targets: (b, outputs).
        alpha: exponent of 1 − p.
        smooth: added to numerator and denominator.
    """
    p = probabilities(logits, link)
    q = _power(1 - p, alpha) * p
    losses = 1 - (2 * q * targets + smooth) / (q + targets + smooth)
    return losses.sum(dim=1) if link == "softmax" else losses.mean(dim=1)


def logit_adjusted(link: str, logits: Tensor, targets: Tensor, *, offset: Tensor) -> Tensor:
    """Return (b,) cross-entropy of logits + offset; the logits alone are used for prediction.

    Args:
        link: softmax or sigmoid.
        logits: (b, outputs).
        targets: (b, outputs).
        offset: (outputs,) tau times `log_priors` (Menon et al. 2021, Long-tail learning via logit
            adjustment).
    """
    return cross_entropy(link, logits + offset.to(logits), targets)


def known_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return (b,) binary cross-entropy, averaged over the outputs with a known target; 0 without any.

    targets: (b, outputs) in 0 … 1, NaN if unknown.
    """
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
    return (known * losses).sum(dim=1) / known.sum(dim=1).clamp(min=1)


def multilabel_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return (b,) log(1 + Σ t e^−s) + log(1 + Σ (1 − t) e^s): positives above 0, negatives below.

    Su et al. 2022, ZLPR: a novel loss for multi-label classification, with its soft labels. Its
    threshold of 0 is probability .5 of the sigmoid link, which it does not calibrate.
    """
    zero = torch.zeros_like(logits[:, :1])
    positive = torch.cat([zero, targets.log() - logits], dim=1).logsumexp(dim=1)
    negative = torch.cat([zero, (1 - targets).log() + logits], dim=1).logsumexp(dim=1)
    return positive + negative


def asymmetric(
    gamma_positive: float, gamma_negative: float, margin: float, logits: Tensor, targets: Tensor
) -> Tensor:
    """Return (b,) −y (1 − p)^gamma_positive log p − (1 − y) q^gamma_negative log(1 − q), output mean.

    q = max(p − margin, 0) (Ridnik et al. 2021, Asymmetric loss for multi-label classification). The
    gradient includes the focusing factors, as in the paper.

    Args:
        gamma_positive: focusing of positives.
        gamma_negative: focusing of negatives.
        margin: subtracted from the probability of negatives.
        logits: (b, outputs).
        targets: (b, outputs).
    """
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    log_margin = logits.new_full((), math.log(margin) if margin else -math.inf)
    log_shifted = torch.logaddexp(log_no, log_margin).clamp(max=0)  # log(1 − q)
    positive = _power(log_no.exp(), gamma_positive) * log_yes
    negative = _power(-torch.expm1(log_shifted), gamma_negative) * log_shifted
    return -(targets * positive + (1 - targets) * negative).mean(dim=1)


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """Return (b,) squared error, averaged over outputs."""
    return F.mse_loss(logits, targets, reduction="none").mean(dim=1)


def huber(delta: float, logits: Tensor, targets: Tensor) -> Tensor:
    """Return (b,) Huber loss of the errors d, averaged over outputs.

    d² / 2 up to delta, delta (d − delta / 2) beyond. Huber 1964, Robust estimation of a location
    parameter.
    """
    return F.huber_loss(logits, targets, reduction="none", delta=delta).mean(dim=1)


# Statistics of the run's own training rows


def _outcome_weights(targets: Tensor, weights: Tensor, link: str) -> Tensor:
    """Return (k, m) total row weight of each outcome: (classes, 1), or (2, outputs), positive first."""
    targets, weights = targets.double(), weights.double()
    yes = weights @ targets
    return yes.unsqueeze(1) if link == "softmax" else torch.stack([yes, weights.sum() - yes])


def class_weights(
    method: techniques.ClassWeights, targets: Tensor, weights: Tensor, link: str
) -> Tensor:
    """Return (k, m) weights of the outcomes, whose mean over the training rows is 1.

    A class without rows, which only smoothed targets contain, has weight 1.

    Args:
        method: inverse: n / (K n_k), of the K classes with rows, where n_k is the sum of weights;
            effective: proportional to (1 − beta) / (1 − beta^n_k) with beta .999 (Cui et al. 2019,
            Class-balanced loss based on effective number of samples).
        targets: (n, outputs) of the training rows.
        weights: (n,).
        link: softmax or sigmoid.
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
    """Return the minimum positive weight, which rows of zero weight do not change."""
    above = weights[weights > 0].double()
    return above.min() if len(above) else above.new_ones(())


def log_priors(targets: Tensor, weights: Tensor, link: str) -> Tensor:
    """Return (outputs,) log share of each class (softmax), or log odds of each label (sigmoid).

    A class without rows counts as one row of the minimum weight.
    """
    counts, least = _outcome_weights(targets, weights, link), _least(weights)
    logs = counts.clamp(min=least).log() - counts.sum(dim=0).clamp(min=least).log()
    return logs[:, 0] if link == "softmax" else logs[0] - logs[1]


# Losses of the whole batch


def sum_over_processes(local: Tensor) -> Tensor:
    """Return the sum over all processes; the gradient of the local part is multiplied by their number.

    Gradients that are then averaged over processes, as DistributedDataParallel does, are those of
    the whole batch. The backward pass needs no second reduction.
    """
    processes = _processes()
    if processes == 1:
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    return total + processes * (local - local.detach())


def _processes() -> int:
    """Return the number of processes in the group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _of_all_processes(local: Tensor) -> Tensor:
    """Return the rows of all processes, without gradient.

    If processes have unequal numbers of rows, rows of zeros fill them up.
    """
    processes, local = _processes(), local.detach()
    if processes == 1:
        return local
    most = torch.tensor(len(local), device=local.device)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    filled = local.new_zeros(int(most), *local.shape[1:])
    filled[: len(local)] = local
    parts = [torch.empty_like(filled) for _ in range(processes)]
    dist.all_gather(parts, filled)
    return torch.cat(parts)


@dataclass(frozen=True)
class SoftF1Criterion:
    """1 − 2 Σ w p y / Σ w (p + y) over the batch, weighted by `share`; the rest is cross-entropy.

    F1 of expected counts (Bénédict et al. 2022, sigmoidF1). For several outputs or classes, micro
    adds their sums; macro (auto) is the mean over the outputs with a positive in the batch, or over
    all if there is none. If the positives weigh less than one row, the difference is added to
    numerator and denominator: a batch without positives gives Σ w p / (row_weight + Σ w p),
    continuously, with a gradient that lowers p; the plain formula is 1 there and has no gradient.

    row_weight: the minimum weight of a training row, so that one positive row gives the plain
    formula.
    """

    link: str
    share: float
    average: techniques.Average
    row_weight: float

    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        p = probabilities(logits, self.link)
        loss = self._loss(*sum_over_processes(weights @ torch.stack([p * targets, p, targets])))
        if self.share == 1:
            return loss
        rest = RowWise(partial(cross_entropy, self.link))
        return self.share * loss + (1 - self.share) * rest(logits, targets, weights, total_weight)

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
class PairwiseAUCCriterion:
    """The mean of log(1 + e^−(s⁺ − s⁻)) over pairs of a positive and a negative, weighted by `share`;
    the rest is cross-entropy.

    The loss is consistent with the area under the ROC curve (Gao and Zhou 2015, On the consistency
    of AUC pairwise optimization; the same as RankNet's, Burges et al. 2005). A pair of rows i and k
    has weight w_i t_i w_k (1 − t_k). If the positives or the negatives of a label weigh less than
    one row, the label counts less by that ratio, so that it fades with its pairs. Several labels
    are averaged by how much they count; a batch without pairs gives 0 without gradient.

    row_weight: the minimum weight of a training row.
    """

    share: float
    row_weight: float

    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        value, slopes = self._pairs(logits.detach(), targets, weights[:, None])
        # The gradient in closed form: autograd would hold (b, b, outputs) differences.
        loss = _processes() * (value + (slopes * (logits - logits.detach())).sum())
        if self.share == 1:
            return loss
        rest = RowWise(partial(cross_entropy, "sigmoid"))
        return self.share * loss + (1 - self.share) * rest(logits, targets, weights, total_weight)

    def _pairs(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return this process's part of the loss, and its (b, outputs) derivatives of the whole loss."""
        own = torch.stack([logits, weights * targets, weights * (1 - targets)])
        rows = _of_all_processes(own.transpose(0, 1)).transpose(0, 1)
        sums = rows[1:].sum(dim=1).clamp(min=self.row_weight)
        own, rows = (torch.cat([x[:1], x[1:] / sums[:, None]]) for x in (own, rows))
        counted = rows[1:].sum(dim=1).prod(dim=0).sum().clamp(min=1)
        step = max(1, PAIRS // max(1, own.shape[1] * rows.shape[1]))
        parts = [
            _logistic_pairs(*each)
            for each in zip(own.split(step, dim=2), rows.split(step, dim=2), strict=True)
        ]
        values, slopes = zip(*parts, strict=True)
        return sum(values) / counted, torch.cat(slopes, dim=1) / counted


def _logistic_pairs(own: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the pairs whose positive is an own row, and the derivatives by own logits.

    Args:
        own: (3, b, outputs) logits, weights as a positive and as a negative.
        rows: (3, n, outputs) of all rows.
    """
    (logits, positive, negative), (others, positives, negatives) = own, rows
    above = logits[:, None] - others
    value = positive * (negatives * F.softplus(-above)).sum(dim=1)
    slopes = negative * (positives * above.sigmoid()).sum(dim=1)
    slopes -= positive * (negatives * (-above).sigmoid()).sum(dim=1)
    return value.sum(), slopes


@dataclass(frozen=True)
class CorrelationCriterion:
    """1 − Pearson's correlation over the batch, mean over outputs, weighted by `share`; the rest is
    the squared error.

    Logits or targets with a standard deviation below CONSTANT count as having that one: the
    correlation of constants is 0.
    """

    share: float

    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        loss = self._loss(torch.stack([logits, targets]), weights / (total_weight * _processes()))
        if self.share == 1:
            return loss
        rest = RowWise(squared_error)(logits, targets, weights, total_weight)
        return self.share * loss + (1 - self.share) * rest

    def _loss(self, both: Tensor, share: Tensor) -> Tensor:
        """Return the loss of (2, b, outputs) logits and targets, and (b,) shares of the weight."""
        # The moments about a mean do not change with it, so it needs no gradient.
        means = sum_over_processes((share[:, None] * both.detach()).sum(dim=1))
        x, y = both - means[:, None]
        moments = share @ torch.stack([x * y, x.square(), y.square()])
        covariance, *variances = sum_over_processes(moments)
        deviations = [v.clamp(min=CONSTANT**2).sqrt() for v in variances]
        return 1 - (covariance / deviations[0] / deviations[1]).mean()


@dataclass(frozen=True)
class GHMCriterion:
    """Gradient harmonising: the mean over bins of the mean cross-entropy in each.

    GHM-C (Li, Liu and Wang 2019, Gradient harmonized single-stage detector): each row and output is
    divided by the weight in its bin of |p − y|, one of `bins` equal parts of 0 … 1, and by the
    number of non-empty bins, as in the authors' code. Densities are this batch's, without a running
    mean, and constant in the gradient. For softmax, ½ Σ |p − y| over the classes takes the place of
    |p − y|: 1 − p of the true class, and |p − y| for two classes.
    """

    link: str
    bins: int

    def __call__(
        self, logits: Tensor, targets: Tensor, weights: Tensor, total_weight: Tensor
    ) -> Tensor:
        log_p, wanted = _outcomes(logits, targets, self.link)
        losses = -(wanted * log_p).sum(dim=1)
        bin_of = (self._steepness(logits.detach(), targets) * self.bins).long()
        bin_of = bin_of.clamp(0, self.bins - 1).flatten()
        # A product: the order of a scattered sum, and so its last bits, varies on a GPU.
        inside = (bin_of[:, None] == torch.arange(self.bins, device=logits.device)).to(logits)
        each = weights[:, None].expand_as(losses)
        parts = torch.stack([(each * losses).flatten(), each.flatten()])
        loss_in, weight_in = sum_over_processes(parts @ inside)
        filled = weight_in > 0
        means = loss_in / torch.where(filled, weight_in, 1)
        return means.sum() / filled.sum().clamp(min=1)

    def _steepness(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the length of the gradient, (b, 1) of a choice among classes or (b, outputs)."""
        apart = (probabilities(logits, self.link) - targets).abs()
        return apart.sum(dim=1, keepdim=True) / 2 if self.link == "softmax" else apart


# Additional terms


def divergence(a: Tensor, b: Tensor, link: str) -> Tensor:
    """Return (b,) symmetric divergence of two (b, outputs) logits: 0, without gradient, if equal.

    ½ KL(a‖b) + ½ KL(b‖a) = ½ Σ (p_a − p_b)(log p_a − log p_b) (R-Drop, Wu et al. 2021, Regularized
    dropout for neural networks); binary and averaged over outputs for sigmoid. identity: the
    squared difference, averaged over outputs.
    """
    if link == "identity":
        return squared_error(a, b)
    apart = probabilities(a, link) - probabilities(b, link)
    if link == "softmax":
        return 0.5 * (apart * (F.log_softmax(a, dim=1) - F.log_softmax(b, dim=1))).sum(dim=1)
    return 0.5 * (apart * (a - b)).mean(dim=1)  # the sum over both outcomes, in logits


def consistency(
    original: Tensor, changed: Tensor, link: str, *, temperature: float, confidence: float
) -> Tensor:
    """Return (b,) KL(p of the original, sharpened ‖ p of the changed text) where the original is sure.

    Unsupervised Data Augmentation (Xie et al. 2020): the predictions of the original have the
    temperature and no gradient; a choice whose most probable outcome has, at temperature 1, less than
    the confidence counts 0. softmax is one choice; sigmoid is one per output, whose mean is returned.

    Args:
        original: (b, outputs) logits.
        changed: (b, outputs) logits.
        link: softmax or sigmoid.
        temperature: divisor of the original's logits.
        confidence: least probability.
    """
    original = original.detach()
    sharp = original / temperature
    log_wanted, wanted = _outcomes(sharp, probabilities(sharp, link), link)
    log_changed, _ = _outcomes(changed, changed, link)
    apart = (wanted * (log_wanted - log_changed)).sum(dim=1)
    return (confident(original, link, confidence) * apart).mean(dim=1)


def confident(logits: Tensor, link: str, confidence: float) -> Tensor:
    """Return (b, m) whether the most probable outcome of each choice has at least this probability."""
    log_p, _ = _outcomes(logits, logits, link)
    return log_p.exp().amax(dim=1) >= confidence


def supervised_contrastive(
    vectors: Tensor, targets: Tensor, weights: Tensor, temperature: float
) -> Tensor:
    """Return the supervised contrastive loss (Khosla et al. 2020, L_out), a scalar.

    Two rows are positives of each other to the degree that their targets agree, see `agreement`. A
    row counts to the degree of its best positive; one without any is left out. The loss is the
    weighted mean over the rows, and 0 without gradient if none counts. A row of zero weight is
    nobody's positive or negative. Rows of other processes are not compared. Not for regression.

    Args:
        vectors: (b, h), normalised to length 1 here.
        targets: (b, outputs).
        weights: (b,).
        temperature: divisor of the similarities.
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
    """Return (b, b) agreement of rows' targets in 0 … 1: Σ min / Σ max, the Jaccard similarity.

    One-hot: 1 for the same class, else 0. Several 0/1 labels: of the sets of labels; two empty sets
    agree. One 0/1 column: as two classes. Soft targets lie between.
    """
    if targets.shape[1] == 1:
        targets = torch.cat([targets, 1 - targets], dim=1)
    size = targets.sum(dim=1)
    both = size[:, None] + size
    apart = torch.cdist(targets, targets, p=1)
    return torch.where(both > 0, (both - apart) / (both + apart), 1).clamp(min=0)


# Implementations of the losses in `techniques.losses`, whose family defines the signature


def cross_entropy_criterion(
    loss: techniques.CrossEntropy, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    """Return cross-entropy with label smoothing and class weights.

    Args: see `make_criterion`.
    """
    balance = class_weights(loss.class_weights, targets, weights, link)
    smoothing = loss.label_smoothing
    return RowWise(partial(cross_entropy, link, smoothing=smoothing, balance=balance))


def focal_criterion(
    loss: techniques.Focal, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    """Return focal loss with class weights.

    Args: see `make_criterion`.
    """
    balance = class_weights(loss.class_weights, targets, weights, link)
    return RowWise(partial(focal, link, gamma=loss.gamma, balance=balance))


def dice_criterion(loss: techniques.Dice, link: str, *rows: Tensor) -> Criterion:
    return RowWise(partial(dice, link, alpha=loss.alpha, smooth=loss.smooth))


def logit_adjusted_criterion(
    loss: techniques.LogitAdjusted, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    """Return cross-entropy of logits adjusted by the priors of the training rows.

    Args: see `make_criterion`.
    """
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
    """Return the soft F1 loss.

    Args: see `make_criterion`.
    """
    return SoftF1Criterion(link, loss.share, loss.average, _least(weights).item())


def ghm_criterion(loss: techniques.GHM, link: str, *rows: Tensor) -> Criterion:
    return GHMCriterion(link, loss.bins)


def pairwise_auc_criterion(
    loss: techniques.PairwiseAUC, link: str, targets: Tensor, weights: Tensor
) -> Criterion:
    """Return the pairwise surrogate of the area under the ROC curve.

    Args: see `make_criterion`.
    """
    return PairwiseAUCCriterion(loss.share, _least(weights).item())


def correlation_criterion(loss: techniques.Correlation, link: str, *rows: Tensor) -> Criterion:
    return CorrelationCriterion(loss.share)
