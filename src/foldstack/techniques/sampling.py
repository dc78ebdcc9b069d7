"""Which training rows an epoch learns from, see training/sampling.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import Positive


class Power(Settings):
    """As many rows as there are, of a class of n rows in proportion to n^exponent (0: all alike)."""

    name: Literal["power"]
    exponent: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Oversample(Settings):
    """Every class as often as the largest."""

    name: Literal["oversample"]


class Undersample(Settings):
    """Every class as often as the smallest, by other rows in each epoch."""

    name: Literal["undersample"]


class Hard(Settings):
    """As many rows as there are, each in proportion to loss^exponent under an earlier model's run.

    model: its name; the run is that of the same seed which left the same folds out.
    """

    name: Literal["hard"]
    model: str
    exponent: Positive = 1.0


class Smote(Settings):
    """Every class as often as the largest, by points between neighbours of the same class.

    Of a frozen backbone's pooled vectors, so for heads that learn no pooling.
    """

    name: Literal["smote"]
    neighbours: PositiveInt = 5


Sampling = Power | Oversample | Undersample | Hard | Smote
