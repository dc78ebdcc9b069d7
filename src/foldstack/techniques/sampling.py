"""Which training rows an epoch learns from, see training/sampling.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import Positive


class Power(Settings):
    """As many rows as there are; a class of n rows is drawn in proportion to n^exponent.

    exponent: 0: all classes alike.
    """

    name: Literal["power"]
    exponent: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Oversample(Settings):
    """Every class as often as the largest."""

    name: Literal["oversample"]


class Undersample(Settings):
    """Every class as often as the smallest, by other rows in each epoch."""

    name: Literal["undersample"]


class Hard(Settings):
    """As many rows as there are, each in proportion to loss^exponent under another model's run.

    model: its run of the same seed with the same folds left out gives the losses.
    exponent: 0 would be all rows alike.
    """

    name: Literal["hard"]
    model: str
    exponent: Positive = 1.0


class Smote(Settings):
    """Every class as often as the largest, by points between neighbours of the same class, among
    pooled vectors of a frozen backbone; for heads whose pooling learns nothing.

    neighbours: number of nearest rows of the same class to draw from.
    """

    name: Literal["smote"]
    neighbours: PositiveInt = 5


Sampling = Power | Oversample | Undersample | Hard | Smote
