"""How the learning rate goes, see training/optim.py."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import UnitShare


class Linear(Settings):
    """Falls linearly to 0 after the warm-up."""

    name: Literal["linear"] = "linear"


class Cosine(Settings):
    """Falls along half a cosine to 0 after the warm-up."""

    name: Literal["cosine"]


class Constant(Settings):
    """Stays after the warm-up."""

    name: Literal["constant"]


class Step(Settings):
    """Multiplied by `factor` after every `every` epochs.

    factor: on the rate.
    every: epochs between two cuts.
    """

    name: Literal["step"]
    factor: UnitShare = 0.1
    every: PositiveInt = 1


class Plateau(Settings):
    """Multiplied by `factor` after `patience` epochs without a better score on the rows of
    `select`.

    factor: on the rate.
    patience: epochs without a better score before a cut.
    """

    name: Literal["plateau"]
    factor: UnitShare = 0.5
    patience: PositiveInt = 1


Schedule = Linear | Cosine | Constant | Step | Plateau
