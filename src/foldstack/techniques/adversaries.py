"""Adversaries. What each perturbs is in training/adversaries.py."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from foldstack.settings import Settings
from foldstack.techniques.common import NonNegative, Positive

WORD_EMBEDDINGS = "word_embeddings"


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as e:
        raise ValueError(f"it is no regular expression: {e}") from None
    return value


Pattern = Annotated[str, AfterValidator(_regular_expression)]


class FGM(Settings):
    """epsilon: length of the step. parameters: `word_embeddings`, or a regular expression of names."""

    name: Literal["fgm"]
    epsilon: Positive = 1.0
    parameters: Pattern = WORD_EMBEDDINGS


class PGD(Settings):
    """steps of length alpha, projected into a ball of radius epsilon."""

    name: Literal["pgd"]
    epsilon: Positive = 1.0
    alpha: Positive = 0.3
    steps: PositiveInt = 3
    parameters: Pattern = WORD_EMBEDDINGS


class FreeLB(Settings):
    """steps of length lr from a random start of length init, at most max_norm away, on embeddings."""

    name: Literal["freelb"]
    steps: PositiveInt = 3
    lr: Positive = 0.1
    init: NonNegative = 0.02
    max_norm: Positive = 0.5


class AWP(Settings):
    """Relative steps on the weights named by `parameters`, from epoch `start` (0: the first) on."""

    name: Literal["awp"]
    lr: Positive = 1e-4
    epsilon: Positive = 0.01
    start: NonNegative = 1.0
    parameters: Pattern = ".*"


class VAT(Settings):
    """weight of the divergence between outputs with and without the worst small noise of `epsilon`."""

    name: Literal["vat"]
    epsilon: Positive = 1.0
    xi: Positive = 1e-3
    weight: Positive = 1.0


Adversary = FGM | PGD | FreeLB | AWP | VAT
