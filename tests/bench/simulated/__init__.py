"""Made-up competitions whose truth is known: does an estimate have a bias, and does its interval cover?

Each module's KINDS holds kinds of competition: functions from a seed to draws, by what is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Draw:
    """An estimate with its 95 % interval, and the truth that it estimates; larger is better."""

    estimate: float
    truth: float
    low: float
    high: float
    standard_error: float

    @property
    def covers(self) -> bool:
        return self.low <= self.truth <= self.high


@dataclass(frozen=True)
class Summary:
    """The draws of one kind.

    Attributes:
        draws: their number.
        truth: its mean.
        bias, bias_error: the mean of estimate less truth, and its standard error.
        stated: the mean stated standard error.
        covered: the share of intervals that cover the truth.
    """

    draws: int
    truth: float
    bias: float
    bias_error: float
    stated: float
    covered: float

    @property
    def relative_bias(self) -> tuple[float, float]:
        """The 95 % interval of the bias, in stated standard errors."""
        half = 1.96 * self.bias_error
        return (self.bias - half) / self.stated, (self.bias + half) / self.stated

    @property
    def holds(self) -> bool:
        """Whether the bias is within a quarter of a standard error and coverage 92 to 97.5 %."""
        low, high = self.relative_bias
        return low >= -0.25 and high <= 0.25 and 0.92 <= self.covered <= 0.975


def summarise(draws: list[Draw]) -> Summary:
    errors = np.array([draw.estimate - draw.truth for draw in draws])
    return Summary(
        len(draws),
        float(np.mean([draw.truth for draw in draws])),
        float(errors.mean()),
        float(errors.std(ddof=1) / np.sqrt(len(draws))),
        float(np.mean([draw.standard_error for draw in draws])),
        float(np.mean([draw.covers for draw in draws])),
    )
