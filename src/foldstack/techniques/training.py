"""Settings of fine-tuning a transformer, in one stage or several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from foldstack.settings import Listed, Positive, Share, none_from_text
from foldstack.techniques.adversaries import Adversary
from foldstack.techniques.augmentation import SpanMasking
from foldstack.techniques.averages import Averaging
from foldstack.techniques.common import AUTO, Length, OrAuto, UnitShare, named, one_of
from foldstack.techniques.loop_settings import LoopSettings
from foldstack.techniques.losses import Loss
from foldstack.techniques.network_parts import NetworkPart

QUANTILE = 0.95


class TrainingSettings(LoopSettings):
    """How a transformer is fine-tuned: the settings of the loop and those of a backbone.

    With `auto` each run chooses by the rows that it learns from, see docs/defaults.md.

    mask_spans: mask spans of tokens, `{}` or `{setting: value}`.
    head_lr: learning rate of the head and of re-initialised layers; none: `lr`.
    layer_decay: factor on the rate from each layer to the one below.
    freeze_embeddings: keep the embeddings as they are.
    freeze_layers: number of lowest layers that are frozen, and the embeddings below them.
    reinit_layers: number of topmost layers that are re-initialised (Zhang et al. 2021).
    freeze_backbone: train the head only, at head_lr; the backbone runs once, in eval mode.
    gradient_checkpointing: keep only the input of each layer of the backbone, and compute the rest of it
        again in the backward pass (Chen et al. 2016, Training deep nets with sublinear memory cost):
        the same gradients from less memory, in about a third more time.
    max_length: tokens, special ones included; auto: the least length at which the share
        length_quantile of the run's own training rows is not cut, as far as the backbone has
        positions; if other settings are auto too, at most 256 for a backbone of less than 40 million
        weights, else 512.
    length_quantile: see `max_length`.
    """

    epochs: Annotated[int, Field(ge=0), OrAuto()] = 2
    batch_size: Annotated[PositiveInt, OrAuto()] = 32
    lr: Annotated[Positive, OrAuto()] = 5e-5
    warmup: Annotated[Share, OrAuto()] = 0.1
    averaging: Annotated[one_of(Averaging), OrAuto()] = None
    mask_spans: Annotated[SpanMasking | None, BeforeValidator(none_from_text)] = None
    head_lr: Annotated[Positive | None, BeforeValidator(none_from_text), OrAuto()] = None
    layer_decay: Annotated[UnitShare, OrAuto()] = 1.0
    freeze_embeddings: bool = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    reinit_layers: Annotated[int, Field(ge=0)] = 0
    freeze_backbone: bool = False
    gradient_checkpointing: bool = False
    max_length: Length = 128
    length_quantile: UnitShare = QUANTILE

    @property
    def recomputes(self) -> bool:
        return self.gradient_checkpointing

    @property
    def rates_by_layer(self) -> bool:
        return self.layer_decay != 1 or self.head_lr is not None

    def requirements(self) -> Iterator[tuple[str, NetworkPart]]:
        yield from super().requirements()
        for name in (
            "layer_decay",
            "head_lr",
            "freeze_embeddings",
            "freeze_layers",
            "reinit_layers",
        ):
            if getattr(self, name) != TrainingSettings.model_fields[name].default:
                yield name, NetworkPart.LAYERS
        for name in ("mask_spans", "freeze_backbone", "gradient_checkpointing"):
            if getattr(self, name):
                yield name, NetworkPart.BACKBONE

    @model_validator(mode="after")
    def _one_length(self) -> TrainingSettings:
        if self.max_length != AUTO and self.length_quantile != QUANTILE:
            raise ValueError(
                "length_quantile is for max_length: auto, but max_length is "
                f"{self.max_length}: leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _frozen_backbone(self) -> TrainingSettings:
        """Reject what requires repeated passes through a backbone that runs once."""
        adversary = self.adversary
        passing = [
            what
            for what, chosen in (
                (
                    f"adversary {adversary and adversary.name}",
                    adversary and adversary.through_backbone,
                ),
                ("rdrop", self.rdrop > 0),
                ("mask_spans", self.mask_spans is not None),
                ("gradient_checkpointing", self.gradient_checkpointing),
            )
            if chosen
        ]
        if self.freeze_backbone and passing:
            raise ValueError(
                f"{passing[0]} requires passes through the backbone, which freeze_backbone runs once: "
                "set one of them only"
            )
        return self


class StageSettings(TrainingSettings):
    """One stage of a run: the settings of `training`, unless the stage sets its own. A soft-F1
    stage on a frozen backbone has batches of 1,024 unless it sets batch_size.

    dropout: instead of the preset's.
    backbone_dropout: instead of the preset's.
    metrics: skip the stage unless the competition's metric is one of these; `[]`: run it for every
        metric.
    """

    dropout: Annotated[Share | None, BeforeValidator(none_from_text)] = None
    backbone_dropout: Annotated[Share | None, BeforeValidator(none_from_text)] = None
    metrics: Listed[str] = ()


# Settings of the whole run, which no stage may set.
OF_THE_RUN = ("max_length", "length_quantile", "select", "select_by", "precision")
# Settings that a stage does not inherit if it cannot use them, see `over_training`.
NOT_INHERITED = (
    "loss",
    "rdrop",
    "contrastive",
    "patience",
    "mask_spans",
    "gradient_checkpointing",
    "adversary",
    "reinit_layers",
)


def over_training(training: dict[str, Any], own: Any, first: bool) -> Any:
    """Return a stage's settings merged over `training`; unchanged if they are no mapping.

    Layers are re-initialised in the first stage only. A stage of auxiliary targets only inherits
    nothing of the task's, and one with a frozen backbone nothing that requires passes through it.
    """
    if not isinstance(own, dict):
        return own
    not_inherited = set() if first else {"reinit_layers"}
    if str(own.get("auxiliary")) in ("1", "1.0"):
        not_inherited |= {"loss", "rdrop", "contrastive", "patience"}
    if _is_true(own.get("freeze_backbone")):
        not_inherited |= {"rdrop", "mask_spans", "gradient_checkpointing"}
        adversary = Adversary.registered.get(_name(training.get("adversary")))
        if adversary is None or adversary.through_backbone:
            not_inherited.add("adversary")
    merged = {k: v for k, v in training.items() if k not in not_inherited} | own
    loss = Loss.registered.get(_name(merged.get("loss")))
    if _is_true(merged.get("freeze_backbone")) and loss and loss.least_batch:
        rows = str(merged.get("batch_size", 0))
        if "batch_size" not in own and (rows.isdecimal() or rows == AUTO):
            merged["batch_size"] = max(int(rows) if rows != AUTO else 0, loss.least_batch)
    return merged


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1", "yes", "on")


def _name(technique: Any) -> str | None:
    """Return the name of a technique that is written as a name or as a mapping."""
    technique = named(technique)
    return technique.get("name") if isinstance(technique, dict) else None
