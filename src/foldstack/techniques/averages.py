"""Averages of weights, see training/averages.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldstack.settings import Settings, Share


class EMA(Settings):
    """Exponential moving average of the weights, warmed up: min(decay, (1 + t) / (10 + t))."""

    name: Literal["ema"]
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class SWA(Settings):
    """The mean of the weights after each epoch from share `start` of the training on."""

    name: Literal["swa"]
    start: Share = 0.5


class Soup(Settings):
    """Epochs' weights, the best first, each kept in the mean if the score where `select` looks rises."""

    name: Literal["soup"]


Averaging = EMA | SWA | Soup
