"""Adversaries; their implementations are in training/attacks.py."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, PositiveInt

from foldstack.settings import NonNegative, Positive
from foldstack.techniques.registry import Technique

WORD_EMBEDDINGS = "word_embeddings"


def _regular_expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as e:
        raise ValueError(f"it is no regular expression: {e}") from None
    return value


Pattern = Annotated[str, AfterValidator(_regular_expression)]


class Adversary(Technique):
    """A perturbation of weights or word vectors in training.

    implementation: `(settings, network) -> training.attacks.Attack`.

    Traits:
        through_backbone: it requires gradients of the backbone, so that a frozen backbone excludes
            it.
        of_the_task: it uses the outputs for the target, which `auxiliary: 1` does not train.
        by_matrix: the length of a step depends on the whole matrix, so that the word embeddings
            must not be trimmed to the words that occur.
        on_vectors: it adds noise to the word vectors of the labelled rows, so that no other rows are
            read beside them.
    """

    through_backbone: ClassVar[bool] = True
    of_the_task: ClassVar[bool] = False
    by_matrix: ClassVar[bool] = False
    on_vectors: ClassVar[bool] = False


class FGM(Adversary):
    """One step up the gradient; both gradients count (Miyato et al. 2017).

    epsilon: length of the step.
    parameters: `word_embeddings`, or a regular expression of parameter names.
    """

    implementation: ClassVar[str] = "foldstack.training.attacks:FGMAttack"
    name: Literal["fgm"]
    epsilon: Positive = 1.0
    parameters: Pattern = WORD_EMBEDDINGS


class PGD(Adversary):
    """Several steps, projected into a ball (Madry et al. 2018).

    epsilon: radius of the ball.
    alpha: length of a step.
    steps: number of steps.
    parameters: `word_embeddings`, or a regular expression of parameter names.
    """

    implementation: ClassVar[str] = "foldstack.training.attacks:PGDAttack"
    name: Literal["pgd"]
    epsilon: Positive = 1.0
    alpha: Positive = 0.3
    steps: PositiveInt = 3
    parameters: Pattern = WORD_EMBEDDINGS


class FreeLB(Adversary):
    """Several steps of noise on the word vectors; the mean gradient counts (Zhu et al. 2020).

    steps: number of steps.
    lr: length of a step.
    init: length of the random start.
    max_norm: largest length of the noise.
    """

    implementation: ClassVar[str] = "foldstack.training.attacks:FreeLBAttack"
    on_vectors: ClassVar[bool] = True
    name: Literal["freelb"]
    steps: PositiveInt = 3
    lr: Positive = 0.1
    init: NonNegative = 0.02
    max_norm: Positive = 0.5


class AWP(Adversary):
    """A relative step on the weights; the gradient there counts (Wu et al. 2020).

    lr: length of the step, relative to each matrix's norm.
    epsilon: largest relative change of a weight.
    start: epoch from which it is on; 0: the first.
    parameters: regular expression of parameter names.
    """

    implementation: ClassVar[str] = "foldstack.training.attacks:AWPAttack"
    through_backbone: ClassVar[bool] = False
    by_matrix: ClassVar[bool] = True
    name: Literal["awp"]
    lr: Positive = 1e-4
    epsilon: Positive = 0.01
    start: NonNegative = 1.0
    parameters: Pattern = ".*"


class VAT(Adversary):
    """Divergence between the outputs with and without the worst small noise; uses no label (Miyato
    et al. 2018).

    epsilon: length of the noise.
    xi: length of the random noise that the worst direction is searched from.
    weight: of the divergence in the loss.
    """

    implementation: ClassVar[str] = "foldstack.training.attacks:VATAttack"
    of_the_task: ClassVar[bool] = True
    on_vectors: ClassVar[bool] = True
    name: Literal["vat"]
    epsilon: Positive = 1.0
    xi: Positive = 1e-3
    weight: Positive = 1.0
