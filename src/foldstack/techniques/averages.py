"""Averages of weights, see training/averages.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foldstack.settings import Settings, Share


class EMA(Settings):
    """Exponential moving average of the weights, with the decay warmed up: min(decay, (1 + t) / (10
    + t)).

    decay: of the average.
    """

    name: Literal["ema"]
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class SWA(Settings):
    """Mean of the weights after each of the last epochs (Izmailov et al. 2018).

    start: share of the epochs after which averaging begins.
    """

    name: Literal["swa"]
    start: Share = 0.5


class Soup(Settings):
    """Mean of epochs' weights, the best first; each is kept if the score on the rows of `select`
    rises (Wortsman et al. 2022)."""

    name: Literal["soup"]


Averaging = EMA | SWA | Soup
