"""Settings of low-rank adapters, which are trained in place of a backbone's weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import PositiveInt

from foldstack.settings import OneOrMore, Positive, Settings, Share
from foldstack.techniques.common import AUTO, OrAuto


class LoraSettings(Settings):
    """Low-rank adapters beside frozen weights (LoRA, Hu et al. 2022): W becomes W + s B A, with B
    (outputs, r), A (r, inputs) and s = alpha / r; B is 0 at first. Only adapters and head are trained.

    r: rank of the adapters.
    alpha: numerator of their scale s.
    dropout: on the input of the adapters.
    targets: linear layers that have adapters, by the end of their names (`[query, value]`,
        `attention.output.dense`); auto: all in the backbone's layers, as in QLoRA (Dettmers et al.
        2023).
    kind: lora; dora trains a magnitude per output too and lets W + s B A give its direction only
        (Liu et al. 2024); rslora has s = alpha / √r (Kalajdzievski 2023); pissa starts from the r
        largest singular values of W and freezes the rest (Meng et al. 2024), for which alpha is
        usually r and dropout 0.
    train_norms: train the weights of the backbone's norms too.
    """

    r: PositiveInt = 16
    alpha: Positive = 32.0
    dropout: Share = 0.05
    targets: Annotated[OneOrMore[str], OrAuto()] = AUTO
    kind: Literal["lora", "dora", "rslora", "pissa"] = "lora"
    train_norms: bool = False

    def fits(self, other: LoraSettings) -> bool:
        """Whether adapters of the other settings can be loaded into those of these."""
        own = {"dropout": other.dropout}  # which is in training only
        return self.model_copy(update=own) == other
