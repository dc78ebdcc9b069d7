"""How the learning rate goes, see training/optim.py."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import UnitShare


class Linear(Settings):
    name: Literal["linear"] = "linear"


class Cosine(Settings):
    name: Literal["cosine"]


class Constant(Settings):
    name: Literal["constant"]


class Step(Settings):
    """The rate times `factor` after every `every` epochs."""

    name: Literal["step"]
    factor: UnitShare = 0.1
    every: PositiveInt = 1


class Plateau(Settings):
    """The rate times `factor` after `patience` epochs without a better score where `select` looks."""

    name: Literal["plateau"]
    factor: UnitShare = 0.5
    patience: PositiveInt = 1


Schedule = Linear | Cosine | Constant | Step | Plateau
