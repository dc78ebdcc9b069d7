"""Averages of weights, see training/weight_averaging.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foldstack.settings import Share
from foldstack.techniques.registry import Technique


class Averaging(Technique):
    """The weights that a run predicts with, if not the last or best ones.

    implementation: `(settings, network) -> training.weight_averaging.WeightAverage`.

    Traits:
        looks_at_scores: it requires a score after each epoch, so `select: inner` or `fold`.
        takes_last_epochs: it averages the last epochs whatever their scores, so `select: last`.
        mixes_epochs: the weights of all epochs are kept, and mixed when the training has ended.
    """

    looks_at_scores: ClassVar[bool] = False
    takes_last_epochs: ClassVar[bool] = False
    mixes_epochs: ClassVar[bool] = False


class EMA(Averaging):
    """Exponential moving average of the weights, with the decay warmed up: min(decay, (1 + t) / (10
    + t)).

    decay: of the average.
    """

    implementation: ClassVar[str] = "foldstack.training.weight_averaging:EMAverage"
    name: Literal["ema"]
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class SWA(Averaging):
    """Mean of the weights after each of the last epochs (Izmailov et al. 2018).

    start: share of the epochs after which averaging begins.
    """

    implementation: ClassVar[str] = "foldstack.training.weight_averaging:SWAverage"
    takes_last_epochs: ClassVar[bool] = True
    name: Literal["swa"]
    start: Share = 0.5


class Soup(Averaging):
    """Mean of epochs' weights, the best first; each is kept if the score on the rows of `select`
    rises (Wortsman et al. 2022)."""

    implementation: ClassVar[str] = "foldstack.training.weight_averaging:NoAverage"
    looks_at_scores: ClassVar[bool] = True
    mixes_epochs: ClassVar[bool] = True
    name: Literal["soup"]
