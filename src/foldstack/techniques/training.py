"""How a transformer is trained, in one stage or several."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from foldstack.settings import Settings, Share, none_from_text
from foldstack.techniques.adversaries import Adversary
from foldstack.techniques.augmentation import SpanMasking
from foldstack.techniques.averages import Averaging
from foldstack.techniques.common import (
    Length,
    NonNegative,
    Positive,
    UnitShare,
    named,
    named_or_auto,
    one_of,
)
from foldstack.techniques.losses import BATCH_LOSSES, LOSS_KINDS, Contrastive, Loss
from foldstack.techniques.sampling import Sampling
from foldstack.techniques.schedules import Linear, Schedule

QUANTILE = 0.95


class TrainingSettings(Settings):
    """How a transformer is fine-tuned.

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
    mask_spans: mask spans of tokens, `{}` or `{setting: value}`.
    adversary: adversarial perturbation in each update.
    optimizer: AdamW, or Adafactor, which keeps row and column sums instead of two moments per
        weight.
    lr: learning rate at the top of the schedule.
    head_lr: learning rate of the head and of re-initialised layers; none: `lr`.
    layer_decay: factor on the rate from each layer to the one below.
    weight_decay: of matrices; biases and norms have none.
    freeze_embeddings: keep the embeddings as they are.
    freeze_layers: number of lowest layers that are frozen, and the embeddings below them.
    reinit_layers: number of topmost layers that are re-initialised (Zhang et al. 2021).
    freeze_backbone: train the head only, at head_lr; the backbone runs once, in eval mode.
    warmup: share of the updates over which the rate climbs to the top.
    schedule: the learning rate after the warm-up.
    clip: largest norm of the gradient; 0: not clipped.
    averaging: average of weights, which is what predicts.
    max_length: tokens, special ones included; auto: the least length at which the share
        length_quantile of the run's own training rows is not cut, as far as the backbone has
        positions.
    length_quantile: see `max_length`.
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
    mixup: NonNegative = 0.0
    mask_spans: Annotated[SpanMasking | None, BeforeValidator(none_from_text)] = None
    adversary: one_of(Adversary) = None
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    lr: Positive = 5e-5
    head_lr: Annotated[Positive | None, BeforeValidator(none_from_text)] = None
    layer_decay: UnitShare = 1.0
    weight_decay: NonNegative = 0.01
    freeze_embeddings: bool = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    reinit_layers: Annotated[int, Field(ge=0)] = 0
    freeze_backbone: bool = False
    warmup: Share = 0.1
    schedule: Annotated[Schedule, Field(discriminator="name"), BeforeValidator(named)] = Linear()
    clip: NonNegative = 1.0
    averaging: one_of(Averaging) = None
    max_length: Length = 128
    length_quantile: UnitShare = QUANTILE
    select: Literal["last", "inner", "fold"] = "last"
    select_by: Annotated[str | None, BeforeValidator(none_from_text)] = None
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"

    @property
    def draws_hard_rows(self) -> bool:
        return self.sampling is not None and self.sampling.name == "hard"

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
        if self.max_length is not None and self.length_quantile != QUANTILE:
            raise ValueError(
                "length_quantile is for max_length: auto, but max_length is "
                f"{self.max_length}: leave one of them out"
            )
        self._check_frozen()
        self._check_auxiliary()
        judged = [
            what
            for what, chosen in (
                ("schedule plateau", self.schedule.name == "plateau"),
                ("averaging soup", self.averaging is not None and self.averaging.name == "soup"),
                ("patience", self.patience > 0),
            )
            if chosen
        ]
        looking = [*judged, *(["select_by"] if self.select_by else [])]
        if looking and self.select == "last":
            raise ValueError(
                f"{looking[0]} looks at a score, but select is 'last', which looks at none: set "
                "select: inner"
            )
        if judged and self.auxiliary == 1:
            raise ValueError(
                f"{judged[0]} looks at a score, but auxiliary 1 does not learn what is scored: leave "
                "one of them out"
            )
        if self.averaging and self.averaging.name == "swa" and self.select != "last":
            raise ValueError("averaging swa takes the last epochs' mean: set select: last")
        return self

    def _check_frozen(self) -> None:
        """What a backbone that runs once cannot take part in."""
        adversary = self.adversary.name if self.adversary else None
        passing = [
            what
            for what, chosen in (
                (f"adversary {adversary}", adversary not in (None, "awp")),
                ("rdrop", self.rdrop > 0),
                ("mask_spans", self.mask_spans is not None),
            )
            if chosen
        ]
        if self.freeze_backbone and passing:
            raise ValueError(
                f"{passing[0]} goes through the backbone, which freeze_backbone runs once: set one of "
                "them only"
            )

    def _check_auxiliary(self) -> None:
        """What goes by the task's outputs or labels, where nothing learns them."""
        of_the_task = [
            what
            for what, chosen in (
                ("loss", self.loss is not None),
                ("rdrop", self.rdrop > 0),
                ("contrastive", self.contrastive is not None),
                ("adversary vat", self.adversary is not None and self.adversary.name == "vat"),
            )
            if chosen
        ]
        if self.auxiliary == 1 and of_the_task:
            raise ValueError(
                f"{of_the_task[0]} is of the target, which auxiliary 1 leaves out: set one of them only"
            )


class StageSettings(TrainingSettings):
    """One stage of a run: the settings of `training`, unless the stage sets its own. A soft-F1
    stage on a frozen backbone has batches of 1,024 unless it sets batch_size.

    dropout: instead of the preset's.
    backbone_dropout: instead of the preset's.
    metrics: skip the stage unless the competition's metric is one of these; `[]`: never.
    """

    dropout: Annotated[Share | None, BeforeValidator(none_from_text)] = None
    backbone_dropout: Annotated[Share | None, BeforeValidator(none_from_text)] = None
    metrics: tuple[str, ...] = ()


# Of the whole run, so that no stage has its own.
OF_THE_RUN = ("max_length", "length_quantile", "select", "select_by", "precision")
FROZEN_F1_BATCH = 1024
# What `over_training` keeps from stages that it does not fit.
PASSED_BY = ("loss", "rdrop", "contrastive", "patience", "mask_spans", "adversary", "reinit_layers")


def over_training(training: dict[str, Any], own: Any, first: bool) -> Any:
    """A stage's settings laid over `training`; left as it is where it is no mapping.

    Layers are drawn anew in the first alone; a stage of auxiliary targets alone takes over nothing of
    the task's, and one with a frozen backbone nothing that goes through it.
    """
    if not isinstance(own, dict):
        return own
    passed_by = set() if first else {"reinit_layers"}
    if str(own.get("auxiliary")) in ("1", "1.0"):
        passed_by |= {"loss", "rdrop", "contrastive", "patience"}
    if _is_true(own.get("freeze_backbone")):
        passed_by |= {"rdrop", "mask_spans"}
        if _name(training.get("adversary")) != "awp":
            passed_by.add("adversary")
    merged = {k: v for k, v in training.items() if k not in passed_by} | own
    if _is_true(merged.get("freeze_backbone")) and _name(merged.get("loss")) == "soft_f1":
        rows = str(merged.get("batch_size", 0))
        if "batch_size" not in own and rows.isdecimal():
            merged["batch_size"] = max(int(rows), FROZEN_F1_BATCH)
    return merged


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes", "on")


def _name(technique: Any) -> str | None:
    """Of a technique as it is written: its name, or a mapping."""
    technique = named(technique)
    return technique.get("name") if isinstance(technique, dict) else None


def check_stage_kind(stage: TrainingSettings, kind: str) -> None:
    loss = stage.loss
    if loss and kind not in LOSS_KINDS[loss.name]:
        fitting = ", ".join(name for name, kinds in LOSS_KINDS.items() if kind in kinds)
        raise ValueError(
            f"training.loss {loss.name} is for {' and '.join(LOSS_KINDS[loss.name])} "
            f"competitions, but this one is {kind}: take one of {fitting}"
        )
    if stage.sampling and stage.sampling.name == "smote" and kind == "multilabel":
        raise ValueError(
            "training.sampling smote is for rows of one class each, but this competition is "
            "multilabel: take power, oversample or undersample"
        )
    if stage.sampling and stage.sampling.name != "hard" and kind == "regression":
        raise ValueError(
            f"training.sampling {stage.sampling.name} counts classes, but this competition is "
            "regression: take hard, or leave it out"
        )
    if stage.contrastive and kind == "regression":
        raise ValueError(
            "training.contrastive compares labels, but this competition is regression: leave it out"
        )


def is_bounded(stage: TrainingSettings) -> bool:
    return stage.loss is not None and stage.loss.name == "scaled_bce"
