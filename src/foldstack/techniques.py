"""The typed settings of the learners, and of every technique that a transformer preset switches on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from foldstack.settings import OptionalText, Settings, Share, none_from_text


class LearnerSettings(Settings):
    """What a preset sets; its `learner` says which class."""

    def check_kind(self, kind: str) -> None:
        """Raises ValueError where a setting is not for this kind of competition."""


class TfidfSettings(LearnerSettings):
    """Word and character n-gram ranges (`[0, 0]` leaves one out) and the regression's C."""

    learner: Literal["tfidf"]
    word_ngrams: tuple[int, int] = (1, 2)
    char_ngrams: tuple[int, int] = (2, 5)
    min_count: PositiveInt = 2
    max_features: PositiveInt = 200_000
    C: Annotated[float, Field(gt=0)] = 4.0

    @model_validator(mode="after")
    def _ranges(self) -> TfidfSettings:
        for low, high in (self.word_ngrams, self.char_ngrams):
            if not (low == high == 0 or 1 <= low <= high):
                raise ValueError(
                    f"an n-gram range is [low, high] with 1 <= low <= high, "
                    f"or [0, 0] for none, got [{low}, {high}]"
                )
        if self.word_ngrams == self.char_ngrams == (0, 0):
            raise ValueError(
                "word_ngrams and char_ngrams are both [0, 0]: nothing is left to learn"
            )
        return self


# Losses. Each takes soft targets and row weights, or says in its docstring in training/losses.py that
# it cannot.

ClassWeights = Literal["none", "inverse", "effective"]
Average = Literal["auto", "micro", "macro"]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
UnitShare = Annotated[float, Field(gt=0, le=1)]


class CrossEntropy(Settings):
    """What `auto` stands for, but in regression.

    class_weights: from the run's own training rows, by inverse frequency or effective number.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Share = 0.0
    class_weights: ClassWeights = "none"


class SoftF1(Settings):
    """share: of the soft F1; the rest of the loss is cross-entropy. average: of several labels."""

    name: Literal["soft_f1"]
    share: UnitShare = 1.0
    average: Average = "auto"


class Focal(Settings):
    name: Literal["focal"]
    gamma: Positive = 2.0
    class_weights: ClassWeights = "none"


class Dice(Settings):
    """alpha: how much easy rows lose their say; smooth: added above and below the fraction."""

    name: Literal["dice"]
    alpha: NonNegative = 0.6
    smooth: Positive = 1.0


class GHM(Settings):
    """bins: of the gradient's length, from 0 to 1."""

    name: Literal["ghm"]
    bins: Annotated[int, Field(ge=2)] = 10


class LogitAdjusted(Settings):
    """tau: how much of the log prior of the run's own training rows is added to the outputs."""

    name: Literal["logit_adjusted"]
    tau: Positive = 1.0


class MultilabelCrossEntropy(Settings):
    name: Literal["multilabel_ce"]


class Asymmetric(Settings):
    """gamma_positive, gamma_negative: focusing; margin: taken from the probability of negatives."""

    name: Literal["asymmetric"]
    gamma_positive: NonNegative = 0.0
    gamma_negative: NonNegative = 4.0
    margin: Share = 0.05


class SquaredError(Settings):
    """What `auto` stands for in regression."""

    name: Literal["mse"] = "mse"


class Huber(Settings):
    """delta: in standard deviations of the target."""

    name: Literal["huber"]
    delta: Positive = 1.0


class ScaledCrossEntropy(Settings):
    """Targets scaled to 0 … 1 between the training rows' least and greatest, cross-entropy on them."""

    name: Literal["scaled_bce"]


Loss = (
    CrossEntropy
    | SoftF1
    | Focal
    | Dice
    | GHM
    | LogitAdjusted
    | MultilabelCrossEntropy
    | Asymmetric
    | SquaredError
    | Huber
    | ScaledCrossEntropy
)


YES_NO = ("binary", "multilabel")
CLASSES = (*YES_NO, "multiclass")
# The kinds of competition that each loss is for.
LOSS_KINDS = {
    "cross_entropy": CLASSES,
    "soft_f1": CLASSES,
    "focal": CLASSES,
    "dice": CLASSES,
    "ghm": YES_NO,
    "logit_adjusted": CLASSES,
    "multilabel_ce": ("multilabel",),
    "asymmetric": YES_NO,
    "mse": ("regression",),
    "huber": ("regression",),
    "scaled_bce": ("regression",),
}


class Contrastive(Settings):
    """Supervised contrastive loss on the pooled vectors, added with this weight."""

    weight: Positive = 0.1
    temperature: Positive = 0.1


# Adversaries

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
    lr: Positive = 0.1
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


# Schedules and averages of weights


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


class EMA(Settings):
    """Exponential moving average of the weights, warmed up: min(decay, (1 + t) / (10 + t))."""

    name: Literal["ema"]
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999


class SWA(Settings):
    """The mean of the weights after each epoch from share `start` of the training on."""

    name: Literal["swa"]
    start: Share = 0.5


class Soup(Settings):
    """Epochs' weights, the best first, each kept in the mean if the score where `select` looks rises."""

    name: Literal["soup"]


Averaging = EMA | SWA | Soup


def _named(value: Any) -> Any:
    """`focal` is short for `{name: focal}`."""
    return {"name": value} if isinstance(value, str) else value


def _named_or_none(value: Any) -> Any:
    return _named(none_from_text(value))


def _named_or_auto(value: Any) -> Any:
    return None if value == "auto" else _named(value)


def one_of(union: Any, before: Callable[[Any], Any] = _named_or_none) -> Any:
    """The annotation of a setting that is one of several techniques, told apart by `name`, or None."""
    return Annotated[Annotated[union, Field(discriminator="name")] | None, BeforeValidator(before)]


class TrainingSettings(Settings):
    """How a transformer is fine-tuned.

    batch_size is rows per update, over all processes and micro-batches; micro_batch_size is how many
    of them go through the network at once (0: all), which changes memory but not the update.
    loss, adversary, averaging, schedule: a name, or `{name: …, setting: value}`; loss auto is
    cross_entropy, in regression mse. rdrop: weight of the divergence between two passes with other
    dropout. layer_decay: factor on the rate from each layer to the one below. head_lr: of the head
    and of layers drawn anew. freeze_layers: the lowest so many, and the embeddings below them, since
    the backward pass would go through them all the same; reinit_layers: the topmost so many.
    patience: epochs without a better score before training ends (0: never).
    """

    epochs: PositiveInt = 2
    batch_size: PositiveInt = 32
    micro_batch_size: Annotated[int, Field(ge=0)] = 0
    loss: one_of(Loss, _named_or_auto) = None
    rdrop: NonNegative = 0.0
    contrastive: Annotated[Contrastive | None, BeforeValidator(none_from_text)] = None
    adversary: one_of(Adversary) = None
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    lr: Positive = 5e-5
    head_lr: Annotated[Positive | None, BeforeValidator(none_from_text)] = None
    layer_decay: UnitShare = 1.0
    weight_decay: NonNegative = 0.01
    freeze_embeddings: bool = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    reinit_layers: Annotated[int, Field(ge=0)] = 0
    warmup: Share = 0.1
    schedule: Annotated[Schedule, Field(discriminator="name"), BeforeValidator(_named)] = Linear()
    clip: NonNegative = 1.0
    averaging: one_of(Averaging) = None
    max_length: Annotated[int, Field(ge=4)] = 128
    select: Literal["last", "inner", "fold"] = "last"
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"

    @model_validator(mode="after")
    def _together(self) -> TrainingSettings:
        if self.micro_batch_size and self.loss and self.loss.name in BATCH_LOSSES:
            raise ValueError(
                f"loss {self.loss.name} is of the whole batch, which micro_batch_size would cut: set "
                "micro_batch_size to 0 or take another loss"
            )
        if self.micro_batch_size and self.contrastive:
            raise ValueError(
                "contrastive compares the rows of the whole batch, which micro_batch_size would cut: "
                "set one of them only"
            )
        judged = [
            what
            for what, chosen in (
                ("schedule plateau", self.schedule.name == "plateau"),
                ("averaging soup", self.averaging is not None and self.averaging.name == "soup"),
                ("patience", self.patience > 0),
            )
            if chosen
        ]
        if judged and self.select == "last":
            raise ValueError(
                f"{judged[0]} looks at a score, but select is 'last', which looks at none: set "
                "select: inner"
            )
        if self.averaging and self.averaging.name == "swa" and self.select != "last":
            raise ValueError("averaging swa takes the last epochs' mean: set select: last")
        return self


# Computed over all rows of an update at once.
BATCH_LOSSES = frozenset({"soft_f1", "ghm"})


class TransformerSettings(LearnerSettings):
    """A pre-trained backbone with a linear head over the mean of its token vectors.

    backbone: a hub name, a folder, or `package:NAME/FOLDER` inside an installed package.
    sha256: the pinned checksum of its model.safetensors, where the preset pins one.
    prefix: put before each text, for backbones trained with one ("query: ").
    dropout: on the pooled vector; dropout_samples: masks a row, whose outputs are averaged in training
    (multi-sample dropout, Inoue 2019); backbone_dropout: inside the backbone, instead of what its
    config says. binary_link: softmax gives a binary competition's head two outputs, whose difference
    counts. ignore_weights: checkpoint entries that are another task's head.
    checkpoint_seconds: least time between two checkpoints (0: after every update).
    """

    learner: Literal["transformer"]
    backbone: str
    sha256: OptionalText = None
    prefix: str = ""
    dropout: Share = 0.1
    dropout_samples: PositiveInt = 1
    binary_link: Literal["sigmoid", "softmax"] = "sigmoid"
    backbone_dropout: Annotated[Share | None, BeforeValidator(none_from_text)] = None
    ignore_weights: tuple[str, ...] = ()
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _dropout_is_there(self) -> TransformerSettings:
        if self.dropout_samples > 1 and self.dropout == 0:
            raise ValueError(
                "dropout_samples draws several masks, but dropout is 0: set one of them"
            )
        if self.training.rdrop and self.dropout == 0 and self.backbone_dropout == 0:
            raise ValueError(
                "training.rdrop compares two passes with other dropout, but dropout and "
                "backbone_dropout are 0: raise one of them"
            )
        return self

    def check_kind(self, kind: str) -> None:
        loss = self.training.loss
        if loss and kind not in LOSS_KINDS[loss.name]:
            fitting = ", ".join(name for name, kinds in LOSS_KINDS.items() if kind in kinds)
            raise ValueError(
                f"training.loss {loss.name} is for {' and '.join(LOSS_KINDS[loss.name])} "
                f"competitions, but this one is {kind}: take one of {fitting}"
            )
        if self.training.contrastive and kind == "regression":
            raise ValueError(
                "training.contrastive compares labels, but this competition is regression: leave it out"
            )
        if self.binary_link == "softmax" and kind != "binary":
            raise ValueError(
                f"binary_link softmax is for binary competitions, but this one is {kind}: leave it out"
            )
