"""Dropout on a CPU, where torch samples masks number by number: a twentieth of a step or more.

Here a mask takes 16 random bits per number, from a generator that is seeded by torch's, so that
torch's seed determines it. The dropped share is p rounded to a multiple of 2^-16, and the input is
divided by exactly the share that is kept: its expectation is unchanged. An accelerator uses torch's
dropout.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.random import SFC64
from torch import Tensor, nn

from foldstack.nets.device import is_asynchronous

LEVELS = 1 << 16  # values of 16 bits


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) of any tensor."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and 0 < self.p < 1) or is_asynchronous(x):
            return super().forward(x)
        kept = draw_kept(seeded(), x.shape, self.p, x.dtype)
        return (x * kept).mul_(1 / kept_share(self.p))  # bf16 cannot represent the factor


def seeded() -> SFC64:
    """Return a generator seeded by torch's; it makes eight random bytes in a nanosecond or two."""
    return SFC64(int(torch.randint(2**62, ())))


def kept_share(p: float) -> float:
    """Return 1 - p, rounded to a multiple of 2^-16."""
    return 1 - _cut(p) / LEVELS


def draw_kept(generator: SFC64, shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """Return a mask of ones, and zeros with probability p each.

    Args:
        generator: source of the random bits.
        shape: of the mask.
        p: probability of a zero, rounded to a multiple of 2^-16.
        dtype: of the mask.
    """
    n = math.prod(shape)
    words = generator.random_raw(-(-n // 4)).astype("<u8", copy=False)
    bits = torch.from_numpy(words.view(np.int16)[:n]).view(shape)
    kept = torch.empty(shape, dtype=dtype)
    return torch.ge(bits, _cut(p) - LEVELS // 2, out=kept)


def _cut(p: float) -> int:
    return min(round(p * LEVELS), LEVELS - 1)
