"""The objective of an update: the loss of the network's outputs, and what is added to it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from foldstack.nets.mixup import Mixup
from foldstack.techniques import LoopSettings
from foldstack.training.criteria import (
    Criterion,
    RowWise,
    divergence,
    known_cross_entropy,
    make_criterion,
    supervised_contrastive,
)

KNOWN = RowWise(known_cross_entropy)


@dataclass(frozen=True)
class TrainingObjective:
    """The criterion; R-Drop (Wu et al. 2021) and a supervised contrastive term (Gunel et al. 2021).

    Losses of rows are divided by the whole update's weight, so that micro-batches add up to it.
    """

    criterion: Criterion
    settings: LoopSettings
    link: str

    @classmethod
    def of(
        cls, settings: LoopSettings, targets: Tensor, weights: Tensor, link: str
    ) -> TrainingObjective:
        """For a run with these (n, outputs) training targets and (n,) weights."""
        return cls(make_criterion(settings.loss, link, targets, weights), settings, link)


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch: the network, its inputs (b, t), soft targets (b, outputs) and weights (b,).

    auxiliary: (b, a) further targets in 0 … 1, nan where unknown, for a network that has outputs for
    them behind the others.

    Each call is a new pass through the network, with whatever its weights are just then.
    """

    objective: TrainingObjective
    net: nn.Module
    inputs: dict[str, Tensor]
    targets: Tensor
    weights: Tensor
    total_weight: Tensor  # of the whole update
    mixup: Mixup | None = None  # the same in all passes
    auxiliary: Tensor | None = None

    def outputs(self) -> Tensor:
        """Return (k b, outputs) logits of k dropout masks in the head."""
        return self._pass()[0]

    def loss(self) -> Tensor:
        """This part's share of the update's loss, a scalar."""
        s = self.objective.settings
        passes = [self._pass() for _ in range(2 if s.rdrop else 1)]
        loss = sum(self._supervised(*each) + self._contrast(pooled) for *each, pooled in passes)
        if s.rdrop:  # the mean of two losses, as in the paper's code
            loss = loss / 2 + s.rdrop * self.divergence(passes[0][0], passes[1][0])
        return loss

    def divergence(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the divergence of two passes' logits, the rows weighed as in the loss; a scalar."""
        _, weights, total_weight = self._for(a, self.targets)
        return (divergence(a, b, self.objective.link) * weights).sum() / total_weight

    def _pass(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits for the targets, for the auxiliary ones, and the pooled vectors."""
        options = {} if self.mixup is None else {"mixup": self.mixup}
        raw, pooled = self.net(**self.inputs, pooled=True, **options)
        task, auxiliary = raw.float().tensor_split([self.targets.shape[1]], dim=1)
        return task, auxiliary, pooled.float()

    def _supervised(self, raw: Tensor, auxiliary: Tensor) -> Tensor:
        share = self.objective.settings.auxiliary
        if share < 1:
            loss = self.objective.criterion(raw, *self._for(raw, self.targets))
        if share == 0:
            return loss
        further = KNOWN(auxiliary, *self._for(auxiliary, self.auxiliary))
        return further if share == 1 else (1 - share) * loss + share * further

    def _contrast(self, pooled: Tensor) -> Tensor | float:
        s = self.objective.settings.contrastive
        if s is None:
            return 0.0
        return s.weight * supervised_contrastive(pooled, self.targets, self.weights, s.temperature)

    def _for(self, raw: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets, weights and total weight for outputs of k masks: the loss is their mean."""
        weights = self.weights
        if self.mixup is not None:
            targets, weights = self.mixup.targets(targets, weights)
        k = len(raw) // len(targets)
        return targets.repeat(k, 1), weights.repeat(k), self.total_weight * k
