"""Learning-rate schedules, see training/optim.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from foldstack.techniques.common import UnitShare
from foldstack.techniques.registry import Technique


class Schedule(Technique):
    """Change of the learning rate after the warm-up.

    implementation: `(settings, training.optim.Place) -> factor on the rate`, a pure function.

    Traits:
        looks_at_scores: it requires a score after each epoch, so `select: inner` or `fold`.
    """

    looks_at_scores: ClassVar[bool] = False


class LinearSchedule(Schedule):
    """Falls linearly to 0 after the warm-up."""

    implementation: ClassVar[str] = "foldstack.training.optim:linear_factor"
    name: Literal["linear"] = "linear"


class Cosine(Schedule):
    """Falls along half a cosine to 0 after the warm-up."""

    implementation: ClassVar[str] = "foldstack.training.optim:cosine_factor"
    name: Literal["cosine"]


class ConstantSchedule(Schedule):
    """Stays after the warm-up."""

    implementation: ClassVar[str] = "foldstack.training.optim:constant_factor"
    name: Literal["constant"]


class Step(Schedule):
    """Multiplied by `factor` after every `every` epochs.

    factor: on the rate.
    every: epochs between two cuts.
    """

    implementation: ClassVar[str] = "foldstack.training.optim:step_factor"
    name: Literal["step"]
    factor: UnitShare = 0.1
    every: PositiveInt = 1


class Plateau(Schedule):
    """Multiplied by `factor` after `patience` epochs without a better score on the rows of
    `select`.

    factor: on the rate.
    patience: epochs without a better score before a cut.
    """

    implementation: ClassVar[str] = "foldstack.training.optim:plateau_factor"
    looks_at_scores: ClassVar[bool] = True
    name: Literal["plateau"]
    factor: UnitShare = 0.5
    patience: PositiveInt = 1
