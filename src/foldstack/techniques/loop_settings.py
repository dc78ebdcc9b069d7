"""Settings of the training loop for any network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from foldstack import metrics
from foldstack.errors import InputError
from foldstack.kinds import Kind
from foldstack.settings import NonNegative, Positive, Settings, Share, none_from_text
from foldstack.techniques.adversaries import Adversary
from foldstack.techniques.averages import Averaging
from foldstack.techniques.common import (
    AUTO,
    named,
    named_or_auto,
    one_of,
)
from foldstack.techniques.losses import Contrastive, Loss
from foldstack.techniques.network_parts import NetworkPart
from foldstack.techniques.optimizers import Optimizer
from foldstack.techniques.registry import ChosenByName
from foldstack.techniques.sampling import Sampling
from foldstack.techniques.schedules import LinearSchedule, Schedule

LEAST_ALPHA = 0.01


def _alpha(value: float) -> float:
    """Reject what torch's beta distribution draws wrongly: with 1e-30 it is always 0.5."""
    if 0 < value < LEAST_ALPHA:
        raise ValueError(f"write 0, or {LEAST_ALPHA} at least")
    return value


class LoopSettings(Settings):
    """Settings that `training.loop` honours for any network.

    epochs: passes over the training rows.
    batch_size: rows per update, over all processes and micro-batches.
    sampling: which rows an epoch learns from; none: each once.
    micro_batch_size: rows in one forward pass; 0: all of the batch; changes memory, not the update.
    loss: auto is cross_entropy, or mse in regression.
    auxiliary: share of the loss that is cross-entropy on the auxiliary columns, scaled to 0 … 1
        (multi-task learning, Caruana 1997); 1: nothing else is learned.
    rdrop: weight of the divergence between two passes with different dropout masks (R-Drop, Wu et
        al. 2021).
    contrastive: add a supervised contrastive loss.
    mixup: alpha of mix-up of pooled vectors; 0: none.
    adversary: adversarial perturbation in each update.
    optimizer: AdamW; Adafactor, which keeps row and column sums instead of two moments per weight;
        or Adagrad, whose rates fall with the squared gradients of each weight: quick for large
        vocabularies if clip and weight_decay are 0.
    lr: learning rate at the top of the schedule.
    weight_decay: of matrices; biases and norms have none.
    warmup: share of the updates over which the rate climbs to the top.
    schedule: the learning rate after the warm-up.
    clip: largest norm of the gradient; 0: not clipped.
    averaging: average of weights, which is what predicts.
    select: whose weights are used: the last epoch's; the best epoch's on a tenth of the training
        groups held back (inner); the best one's on the held-out fold (fold), which marks everything
        downstream optimistic.
    select_by: metric by which the epoch is chosen, instead of the competition's.
    patience: epochs without a better score before training ends; 0: never.
    precision: auto is bf16 or fp16 on a GPU, bf16 on a CPU with such instructions, else fp32.
    """

    epochs: PositiveInt = 2
    batch_size: PositiveInt = 32
    sampling: one_of(Sampling) = None
    micro_batch_size: Annotated[int, Field(ge=0)] = 0
    loss: one_of(Loss, named_or_auto) = None
    auxiliary: Annotated[float, Field(ge=0, le=1)] = 0.0
    rdrop: NonNegative = 0.0
    contrastive: Annotated[Contrastive | None, BeforeValidator(none_from_text)] = None
    mixup: Annotated[float, AfterValidator(_alpha), Field(ge=0, le=100)] = 0.0
    adversary: one_of(Adversary) = None
    optimizer: Annotated[str, ChosenByName(Optimizer)] = "adamw"
    lr: Positive = 5e-5
    weight_decay: NonNegative = 0.01
    warmup: Share = 0.1
    schedule: Annotated[Schedule, BeforeValidator(named)] = LinearSchedule()
    clip: NonNegative = 1.0
    averaging: one_of(Averaging) = None
    select: Literal["last", "inner", "fold"] = "last"
    select_by: Annotated[str | None, BeforeValidator(none_from_text)] = None
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"

    @property
    def draws_hard_rows(self) -> bool:
        return self.sampling is not None and self.sampling.draws_hard_rows

    @property
    def makes_vectors(self) -> bool:
        """Whether the sampling makes pooled vectors, which requires a frozen backbone."""
        return self.sampling is not None and self.sampling.makes_vectors

    @property
    def named_averaging(self) -> Averaging | None:
        """The average that is set; None if there is none, or before a run has chosen."""
        return None if self.averaging == AUTO else self.averaging

    @property
    def mixes_epochs(self) -> bool:
        averaging = self.named_averaging
        return averaging is not None and averaging.mixes_epochs

    @property
    def bounded(self) -> bool:
        """Whether a sigmoid is applied to the outputs of a regression."""
        return self.loss is not None and self.loss.bounded

    @property
    def by_matrix(self) -> bool:
        """Whether a step on the word embeddings depends on words that do not occur."""
        steps = (Optimizer.registered[self.optimizer], self.adversary)
        return any(step is not None and step.by_matrix for step in steps)

    @property
    def rowwise(self) -> bool:
        """Whether a step leaves embeddings of words that do not occur as they are."""
        step = Optimizer.registered[self.optimizer]
        return step.rowwise and not (self.clip or self.weight_decay or self.adversary)

    @property
    def recomputes(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return False

    @property
    def rates_by_layer(self) -> bool:
        """Whether the learning rate differs between layers."""
        return False

    def requirements(self) -> Iterator[tuple[str, NetworkPart]]:
        """Yield (setting, part of the network) for each part that a setting requires."""
        if self.auxiliary:
            yield "auxiliary", NetworkPart.AUXILIARY
        if self.mixup:
            yield "mixup", NetworkPart.MIXABLE
        if self.contrastive:
            yield "contrastive", NetworkPart.POOLED
        if self.makes_vectors:
            yield f"sampling {self.sampling.name}", NetworkPart.FROZEN_VECTORS

    @model_validator(mode="after")
    def _whole_batches(self) -> LoopSettings:
        if self.micro_batch_size and self.loss and self.loss.whole_batch:
            raise ValueError(
                f"loss {self.loss.name} is of the whole batch, which micro_batch_size would split: set "
                "micro_batch_size to 0 or take another loss"
            )
        if self.micro_batch_size and self.contrastive:
            raise ValueError(
                "contrastive compares the rows of the whole batch, which micro_batch_size would split: "
                "set one of them only"
            )
        return self

    @model_validator(mode="after")
    def _auxiliary_alone(self) -> LoopSettings:
        """Reject what uses the target's outputs or labels if nothing learns them."""
        adversary = self.adversary
        of_the_task = [
            what
            for what, chosen in (
                ("loss", self.loss is not None),
                ("rdrop", self.rdrop > 0),
                ("contrastive", self.contrastive is not None),
                (f"adversary {adversary and adversary.name}", adversary and adversary.of_the_task),
            )
            if chosen
        ]
        if self.auxiliary == 1 and of_the_task:
            raise ValueError(
                f"{of_the_task[0]} uses the target, which auxiliary 1 leaves out: set one of them only"
            )
        return self

    @model_validator(mode="after")
    def _scores_are_there(self) -> LoopSettings:
        averaging, schedule = self.named_averaging, self.schedule
        judged = [
            what
            for what, chosen in (
                (f"schedule {schedule.name}", schedule.looks_at_scores),
                (
                    f"averaging {averaging and averaging.name}",
                    averaging and averaging.looks_at_scores,
                ),
                ("patience", self.patience > 0),
            )
            if chosen
        ]
        looking = [*judged, *(["select_by"] if self.select_by else [])]
        if looking and self.select == "last":
            raise ValueError(
                f"{looking[0]} requires a score per epoch, but select is 'last', which computes none: "
                "set select: inner"
            )
        if judged and self.auxiliary == 1:
            raise ValueError(
                f"{judged[0]} requires a score, but auxiliary 1 does not learn what is scored: leave "
                "one of them out"
            )
        if averaging and averaging.takes_last_epochs and self.select != "last":
            raise ValueError(
                f"averaging {averaging.name} takes the last epochs' mean: set select: last"
            )
        return self

    def check_kind(self, kind: Kind) -> None:
        """Raise ValueError if a technique does not apply to this kind of competition."""
        self._check_loss_kind(kind)
        self._check_sampling_kind(kind)
        if self.contrastive and kind.is_values:
            raise ValueError(
                "training.contrastive compares labels, but this competition is regression: leave it "
                "out"
            )
        if self.select_by:
            try:
                metrics.get(self.select_by, kind)
            except InputError as e:
                raise ValueError(f"training.select_by: {e}") from None

    def _check_loss_kind(self, kind: Kind) -> None:
        loss = self.loss
        if loss and kind not in loss.kinds:
            fitting = [name for name, other in Loss.registered.items() if kind in other.kinds]
            raise ValueError(
                f"training.loss {loss.name} is for {' and '.join(loss.kinds)} "
                f"competitions, but this one is {kind}: take one of {', '.join(fitting)}"
            )

    def _check_sampling_kind(self, kind: Kind) -> None:
        sampling = self.sampling
        if sampling and sampling.one_class_per_row and kind.several_labels_per_row:
            raise ValueError(
                f"training.sampling {sampling.name} is for rows of one class each, but this competition "
                "is multilabel: take power, oversample or undersample"
            )
        if sampling and sampling.counts_classes and kind.is_values:
            raise ValueError(
                f"training.sampling {sampling.name} counts classes, but this competition is "
                "regression: take hard, or leave it out"
            )
