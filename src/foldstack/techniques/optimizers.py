"""Optimisers, see training/optim.py; a setting is the name of one."""

from __future__ import annotations

from typing import ClassVar, Literal

from foldstack.techniques.registry import Technique


class Optimizer(Technique):
    """The update rule.

    implementation: `(parameter groups, rate) -> torch.optim.Optimizer`.

    Traits:
        by_matrix: a step depends on the whole matrix, or weight decay is not AdamW's, so that the word
            embeddings must not be trimmed to the words that occur.
        rowwise: a step leaves rows of a matrix as they are whose gradient is zero, so that gradients
            of embeddings can be sparse.
        shards: it takes weights that processes share out.
    """

    by_matrix: ClassVar[bool] = False
    shards: ClassVar[bool] = False
    rowwise: ClassVar[bool] = False


class AdamW(Optimizer):
    """Loshchilov and Hutter 2019."""

    implementation: ClassVar[str] = "foldstack.training.optim:adamw"
    shards: ClassVar[bool] = True
    name: Literal["adamw"] = "adamw"


class Adafactor(Optimizer):
    """Shazeer and Stern 2018: sums over rows and columns instead of two numbers per weight."""

    implementation: ClassVar[str] = "foldstack.training.optim:adafactor"
    by_matrix: ClassVar[bool] = True
    name: Literal["adafactor"] = "adafactor"


class Adagrad(Optimizer):
    """Duchi et al. 2011: each weight's rate falls with the sum of its squared gradients, so that rare
    words keep a high one."""

    implementation: ClassVar[str] = "foldstack.training.optim:adagrad"
    by_matrix: ClassVar[bool] = True
    rowwise: ClassVar[bool] = True
    name: Literal["adagrad"] = "adagrad"
