"""The objective of an update: the loss of the network's outputs, and the terms added to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from foldstack.nets.mixup import Mixup
from foldstack.techniques import Consistency, Distillation, LoopSettings
from foldstack.training.criteria import (
    Criterion,
    RowWise,
    confident,
    consistency,
    cross_entropy,
    divergence,
    known_cross_entropy,
    make_criterion,
    supervised_contrastive,
)

KNOWN = RowWise(known_cross_entropy)


@dataclass(frozen=True)
class TrainingObjective:
    """The criterion, R-Drop (Wu et al. 2021) and a supervised contrastive term (Gunel et al. 2021).

    Row losses are divided by the total weight of the update, so that micro-batches add up to it.
    distil: how rows with teachers are learned.
    """

    criterion: Criterion
    settings: LoopSettings
    link: str
    distil: Distillation | None = None

    @classmethod
    def of(
        cls,
        settings: LoopSettings,
        targets: Tensor,
        weights: Tensor,
        link: str,
        distil: Distillation | None = None,
    ) -> TrainingObjective:
        """Return the objective of a run.

        Args:
            settings: of the loop.
            targets: (n, outputs) of the training rows.
            weights: (n,) of the training rows.
            link: from logits to probabilities.
            distil: how rows with teachers are learned.
        """
        criterion = make_criterion(settings.loss, link, targets, weights)
        return cls(criterion, settings, link, distil)


@dataclass(frozen=True)
class UnlabelledPart:
    """Unlabelled rows beside a micro-batch: inputs (u, t) of their texts and of changed texts.

    counted: (u,) 1, or 0 for a row in place of none. total: the number of rows of the update.
    reached: (2,) each pass adds the number of predictions that reach the confidence, and of all.
    """

    settings: Consistency
    texts: dict[str, Tensor]
    changed: dict[str, Tensor]
    counted: Tensor
    total: float
    reached: Tensor | None = None


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch: the network, its inputs (b, t), soft targets (b, outputs) and weights (b,).

    auxiliary: (b, a) auxiliary targets in 0 … 1, NaN if unknown, for a network whose further
    outputs predict them. taught: (b, outputs) probabilities of teachers at the temperature of the
    objective's `distil`, NaN in rows without one.

    Each call is a new forward pass with the network's current weights.
    """

    objective: TrainingObjective
    net: nn.Module
    inputs: dict[str, Tensor]
    targets: Tensor
    weights: Tensor
    total_weight: Tensor  # of the update
    mixup: Mixup | None = None  # the same in all passes
    auxiliary: Tensor | None = None
    unlabelled: UnlabelledPart | None = None
    taught: Tensor | None = None

    def outputs(self) -> Tensor:
        """Return (k b, outputs) logits of k dropout masks in the head."""
        return self._pass()[0]

    def loss(self) -> Tensor:
        """Return this micro-batch's part of the update's loss, a scalar."""
        s = self.objective.settings
        passes = [self._pass() for _ in range(2 if s.rdrop else 1)]
        loss = sum(
            self._supervised(task, auxiliary) + self._contrast(pooled) + self._added(terms)
            for task, auxiliary, pooled, terms in passes
        )
        if s.rdrop:  # the mean of two losses, as in the paper's code
            loss = loss / 2 + s.rdrop * self.divergence(passes[0][0], passes[1][0])
        if self.unlabelled is not None:
            loss = loss + self.unlabelled.settings.weight * self.consistency()
        return loss

    def divergence(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the divergence of two passes' logits, rows weighted as in the loss; a scalar."""
        _, weights, total_weight = self._for(a, self.targets)
        return (divergence(a, b, self.objective.link) * weights).sum() / total_weight

    def consistency(self) -> Tensor:
        """Return the mean consistency term of the unlabelled rows (Xie et al. 2020), a scalar.

        As in the authors' code, the texts are read with dropout, and rows that are not confident count
        0 in the mean, so that micro-batches add up to the update.
        """
        u, outputs = self.unlabelled, self.targets.shape[1]
        with torch.no_grad():
            logits, *_ = self.net(**u.texts, pooled=True)
        original = logits[:, :outputs].float().unflatten(0, (-1, len(u.counted))).mean(dim=0)
        logits, *_ = self.net(**u.changed, pooled=True)
        changed = logits[:, :outputs].float()
        k = len(changed) // len(original)  # dropout masks in the head
        s = u.settings
        if u.reached is not None:
            sure = confident(original, self.objective.link, s.confidence).float().mean(dim=1)
            u.reached.add_(torch.stack([(sure * u.counted).sum(), u.counted.sum()]))
        losses = consistency(
            original.repeat(k, 1),
            changed,
            self.objective.link,
            temperature=s.temperature,
            confidence=s.confidence,
        )
        return (losses * u.counted.repeat(k)).sum() / (k * u.total)

    def _pass(self) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Return the logits of target and auxiliary, the pooled vectors, and the network's own terms."""
        options = {} if self.mixup is None else {"mixup": self.mixup}
        logits, pooled, *terms = self.net(**self.inputs, pooled=True, **options)
        task, auxiliary = logits.float().tensor_split([self.targets.shape[1]], dim=1)
        return task, auxiliary, pooled.float(), terms

    def _supervised(self, logits: Tensor, auxiliary: Tensor) -> Tensor:
        share = self.objective.settings.auxiliary
        if share < 1:
            loss = self._of_task(logits)
        if share == 0:
            return loss
        further = KNOWN(auxiliary, *self._for(auxiliary, self.auxiliary))
        return further if share == 1 else (1 - share) * loss + share * further

    def _of_task(self, logits: Tensor) -> Tensor:
        """Return the loss of the targets, and of teachers by their share (Hinton et al. 2015).

        A row without a teacher learns its targets in its place. Each part is linear in the weights of
        its rows, so that mix-up mixes rows with and without one.
        """
        criterion, distil = self.objective.criterion, self.objective.distil
        loss = criterion(logits, *self._for(logits, self.targets))
        if self.taught is None:
            return loss
        known, temperature = ~self.taught.isnan().any(dim=1), distil.temperature
        own = criterion(logits, *self._for(logits, self.targets, self.weights * ~known))
        soft = self._for(logits, self.taught.nan_to_num(), self.weights * known)
        learned = RowWise(partial(cross_entropy, self.objective.link))(logits / temperature, *soft)
        return (1 - distil.share) * loss + distil.share * (own + temperature**2 * learned)

    def _contrast(self, pooled: Tensor) -> Tensor | float:
        s = self.objective.settings.contrastive
        if s is None:
            return 0.0
        return s.weight * supervised_contrastive(pooled, self.targets, self.weights, s.temperature)

    def _added(self, terms: list[Tensor]) -> Tensor | float:
        """Return the sum of (b,) terms, rows weighted as in the loss; mix-up does not reach them."""
        if not terms:
            return 0.0
        return sum((self.weights * term).sum() for term in terms) / self.total_weight

    def _for(
        self, logits: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return targets, weights and total weight for the k dropout masks; the loss is their mean.

        weights: (b,) instead of the micro-batch's own.
        """
        weights = self.weights if weights is None else weights
        if self.mixup is not None:
            targets, weights = self.mixup.targets(targets, weights)
        k = len(logits) // len(targets)
        return targets.repeat(k, 1), weights.repeat(k), self.total_weight * k
