"""Which training rows an epoch learns from, see training/samplers.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from foldstack.settings import Positive
from foldstack.techniques.registry import Technique


class Sampling(Technique):
    """Which training rows an epoch learns from.

    implementation: `(settings, targets, difficulty, generator) -> row numbers`, with (n, outputs)
    targets and, if it draws hard rows, (n,) losses of an earlier run; or, if it makes vectors,
    `(settings, vectors, targets, weights, seed) -> the three, with synthetic rows appended`.

    Traits:
        counts_classes: it counts the classes of rows, which a regression lacks.
        one_class_per_row: it is not for rows with several labels.
        draws_hard_rows: it requires the losses of the rows under the run of `model`.
        makes_vectors: it makes rows of pooled vectors, once, instead of drawing rows.
    """

    counts_classes: ClassVar[bool] = True
    one_class_per_row: ClassVar[bool] = False
    draws_hard_rows: ClassVar[bool] = False
    makes_vectors: ClassVar[bool] = False


class Power(Sampling):
    """As many rows as there are; a class of n rows is drawn in proportion to n^exponent.

    exponent: 0: all classes alike.
    """

    implementation: ClassVar[str] = "foldstack.training.samplers:power_rows"
    name: Literal["power"]
    exponent: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Oversample(Sampling):
    """Every class as often as the largest."""

    implementation: ClassVar[str] = "foldstack.training.samplers:oversampled_rows"
    name: Literal["oversample"]


class Undersample(Sampling):
    """Every class as often as the smallest, by other rows in each epoch."""

    implementation: ClassVar[str] = "foldstack.training.samplers:undersampled_rows"
    name: Literal["undersample"]


class Hard(Sampling):
    """As many rows as there are, each in proportion to loss^exponent under another model's run.

    model: its run of the same seed with the same folds left out gives the losses.
    exponent: 0 would be all rows alike.
    """

    implementation: ClassVar[str] = "foldstack.training.samplers:hard_rows"
    counts_classes: ClassVar[bool] = False
    draws_hard_rows: ClassVar[bool] = True
    name: Literal["hard"]
    model: str
    exponent: Annotated[Positive, Field(le=10)] = 1.0


class Smote(Sampling):
    """Every class as often as the largest, by points between neighbours of the same class, among
    pooled vectors of a frozen backbone; for heads whose pooling learns nothing.

    neighbours: number of nearest rows of the same class to draw from.
    """

    implementation: ClassVar[str] = "foldstack.training.samplers:smote"
    one_class_per_row: ClassVar[bool] = True
    makes_vectors: ClassVar[bool] = True
    name: Literal["smote"]
    neighbours: PositiveInt = 5
