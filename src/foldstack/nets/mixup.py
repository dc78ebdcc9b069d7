"""Mix-up of the pooled vectors of a batch (Zhang et al. 2018; Guo et al. 2019; Sun et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from foldstack.nets.device import to_device


@dataclass(frozen=True)
class Mixup:
    """The partner that each of b rows is mixed with, and the weight of the row itself.

    partner: (b,) row numbers, a permutation; own: λ, a scalar.
    """

    partner: Tensor
    own: Tensor

    @classmethod
    def draw(cls, rows: int, alpha: float, device: torch.device) -> Mixup:
        """Sample λ ~ Beta(alpha, alpha), one for the batch, from torch's CPU generator."""
        own = torch.distributions.Beta(alpha, alpha).sample()
        return cls(to_device(torch.randperm(rows), device), to_device(own, device))

    def vectors(self, pooled: Tensor) -> Tensor:
        """Return (b, …) vectors, each mixed with its partner's."""
        return self.own * pooled + (1 - self.own) * pooled[self.partner]

    def targets(self, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return (b, outputs) soft targets and (b,) weights of the mixed rows; the weights' sum stays.

        A loss that is linear in its targets, such as cross-entropy, becomes λ w L(t) + (1 - λ) w'
        L(t') with the partner's w' and t', so that a row of zero weight contributes nothing.
        """
        mixed = self.vectors(weights)
        both = self.vectors(targets * weights[:, None]) / mixed.clamp(min=1e-12)[:, None]
        return torch.where(mixed[:, None] > 0, both, targets), mixed
