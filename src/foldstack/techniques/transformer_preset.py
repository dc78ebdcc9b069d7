"""Settings of the transformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from foldstack.backbones import BackboneSize, locate
from foldstack.kinds import Kind
from foldstack.settings import OptionalText, Share, none_from_text
from foldstack.techniques import auto
from foldstack.techniques.augmentation import Augmentation
from foldstack.techniques.common import AUTO, NonNegative, OrAuto, each_named, named
from foldstack.techniques.heads import Head, PlainHead
from foldstack.techniques.learner import LearnerSettings, Traits
from foldstack.techniques.long import Beginning, Long
from foldstack.techniques.losses import Loss
from foldstack.techniques.pretraining import Pretraining
from foldstack.techniques.training import (
    NOT_INHERITED,
    OF_THE_RUN,
    StageSettings,
    TrainingSettings,
    over_training,
)


class TransformerSettings(LearnerSettings):
    """A pre-trained backbone with a head over its token vectors.

    With `auto` each run chooses by the rows that it learns from, see docs/defaults.md.

    backbone: a hub name, a folder, or `package:NAME/FOLDER` in an installed package.
    sha256: pinned checksum of its model.safetensors.
    trust_remote_code: run the Python code that the checkpoint brings (`auto_map` in its config.json
        and tokenizer_config.json); false: none is ever run, and a checkpoint of a type that
        transformers does not know is refused.
    prefix: put before each text, for backbones trained with one (`"query: "`).
    special_tokens: what a special token typed in a text, such as [SEP] or </s>, is read as: text, or
        the token that it names; those that you write in a prefix, `template` or `segments` are
        tokens, and so are the same ones in texts.
    pretrain: pre-train the backbone on masked tokens of all texts of the workspace first, `{}` or
        `{setting: value}`; runs that start from another one do not.
    long: what is read of a text longer than training.max_length; the prefix stays before it.
    head: how token vectors become one vector.
    join_features: join the competition's numeric and categorical columns to the pooled vector.
    dropout: on the pooled vector.
    dropout_samples: dropout masks per row, whose outputs are averaged in training (multi-sample
        dropout, Inoue 2019).
    binary_link: softmax gives the head of a binary competition two outputs, whose difference
        counts.
    head_bias: prior starts from each class's share of the training rows as its probability (Lin et
        al. 2017, Focal loss).
    backbone_dropout: inside the backbone; none: as its config says.
    repeats: number of fits in a run, from different seeds, whose outputs are averaged: a single fit on
        few rows depends on its seed.
    ignore_weights: checkpoint entries that belong to another task's head.
    checkpoint_seconds: least time between two checkpoints; 0: after every update.
    augment: changes of training texts, resampled in each epoch, or made once if augment_copies is
        set.
    augment_copies: leave the rows as they are and add this number of changed copies of each.
    augment_washed_by: a model that judges the copies: those whose label loses half its confidence
        under the model's runs that know neither the copy's fold nor those left out (`fold2-4`) are
        dropped.
    start_from: a model whose run with the same seed and held-out folds gives the initial weights;
        it has the same backbone, and for its head to be used the same head.
    row_weights: drift multiplies the rows' weights by those of `make drift`, which are large for
        rows like the test file's.
    training: how the run is trained.
    stages: trained one after the other, each over `training` and from the weights of the one
        before.
    cache_gb: most that a frozen backbone's outputs may take, on disk from 1 GB on; beyond that they
        are computed again in each epoch.
    """

    implementation: ClassVar[str] = "foldstack.learners.transformer:TransformerLearner"
    traits: ClassVar[Traits] = Traits(
        torch=True,
        processes=True,
        int8=True,
        epochs=True,
        features=True,
        auxiliary=True,
        pretraining=True,
        start=True,
        difficulty=True,
        weights=True,
    )
    learner: Literal["transformer"]
    backbone: str
    sha256: OptionalText = None
    trust_remote_code: bool = False
    prefix: str = ""
    special_tokens: Literal["text", "tokens"] = "text"
    pretrain: Annotated[Pretraining | None, BeforeValidator(none_from_text)] = None
    long: Annotated[Long, BeforeValidator(named)] = Beginning()
    head: Annotated[Head, BeforeValidator(named), OrAuto()] = PlainHead()
    join_features: bool = False
    dropout: Annotated[Share, OrAuto()] = 0.1
    dropout_samples: PositiveInt = 1
    binary_link: Literal["sigmoid", "softmax"] = "sigmoid"
    head_bias: Literal["zero", "prior", "auto"] = "zero"
    backbone_dropout: Annotated[Share | None, BeforeValidator(none_from_text), OrAuto()] = None
    ignore_weights: tuple[str, ...] = ()
    repeats: Annotated[PositiveInt, OrAuto()] = 1
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    augment: Annotated[tuple[Augmentation, ...], BeforeValidator(each_named)] = ()
    augment_copies: Annotated[int, Field(ge=0)] = 0
    augment_washed_by: OptionalText = None
    start_from: OptionalText = None
    row_weights: Literal["file", "drift"] = "file"
    training: TrainingSettings = TrainingSettings()
    stages: tuple[StageSettings, ...] = ()
    cache_gb: NonNegative = 20.0

    @model_validator(mode="before")
    @classmethod
    def _stages_over_training(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("stages"), list | tuple):
            training = data.get("training") or {}
            if isinstance(training, dict):
                stages = enumerate(data["stages"])
                data = data | {"stages": [over_training(training, own, not i) for i, own in stages]}
        return data

    @model_validator(mode="after")
    def _stages_fit(self) -> TransformerSettings:
        for stage in self.all_stages:
            self._check_vectors(stage)
        first = self.all_stages[0].loss
        if self.head_bias == "prior" and first and first.adds_log_priors:
            raise ValueError(
                f"loss {first.name} adds the log of each class's share to the outputs, which head_bias "
                "prior sets already: set one of them only"
            )
        if any(stage.auxiliary == 1 for stage in self._last_ones):
            raise ValueError(
                "training.auxiliary 1 learns auxiliary columns only, so that nothing learns the "
                "target: add a later stage with less"
            )
        for number, stage in enumerate(self.stages, 1):
            for name in OF_THE_RUN:
                if getattr(stage, name) != getattr(self.training, name):
                    raise ValueError(
                        f"stage {number} sets {name}, which applies to the whole run: set "
                        f"training.{name}"
                    )
            if stage.bounded != self.bounded:
                bounded = " or ".join(Loss.with_trait("bounded"))
                raise ValueError(
                    f"stage {number} has loss {bounded} and another has not, but the outputs of "
                    "all stages must mean the same: set it in all of them"
                )
            if stage.draws_hard_rows and stage.sampling.model != self.hard_model:
                raise ValueError(
                    f"stage {number} has another model for sampling hard than a stage before it: name "
                    "the same"
                )
            if number > 1 and stage.reinit_layers:
                raise ValueError(
                    f"stage {number} sets reinit_layers, which would discard the stage before: set "
                    "it in the first"
                )
        return self

    @model_validator(mode="after")
    def _some_stage_has_it(self) -> TransformerSettings:
        if not self.stages or all(stage.metrics for stage in self.stages):
            return self  # `training` may be the only stage
        for name in NOT_INHERITED:
            usual = TrainingSettings.model_fields[name].default
            if getattr(self.training, name) != usual and all(
                getattr(stage, name) == usual for stage in self.stages
            ):
                raise ValueError(
                    f"training.{name} is set, but no stage uses it: set it in one, or leave it out"
                )
        return self

    def _check_vectors(self, stage: TrainingSettings) -> None:
        if not stage.makes_vectors:
            return
        name = stage.sampling.name
        is_fixed = self.head != AUTO and self.head.fixed
        if not stage.freeze_backbone or not is_fixed or self.join_features:
            raise ValueError(
                f"sampling {name} makes pooled vectors of a frozen backbone: set freeze_backbone, a "
                f"head of {', '.join(Head.with_trait('fixed'))}, and join no features"
            )
        if stage.auxiliary:
            raise ValueError(
                f"sampling {name} makes rows without auxiliary values: leave auxiliary or "
                f"{name} out"
            )

    def fit_mb(self, rows: int) -> int | None:
        size = BackboneSize.of(self.backbone)
        if size is None:
            return None
        facts = auto.RunFacts(rows=rows, parameters=size.parameters)
        length = self.training.max_length
        length = auto.choose("max_length", facts).value if length == AUTO else length
        stages = [s for s in self.all_stages if not s.freeze_backbone] or [self.training]
        batches = []
        for stage in stages:
            batch = stage.batch_size
            batch = auto.choose("batch_size", facts).value if batch == AUTO else batch
            batches.append(min(batch, stage.micro_batch_size or batch))
        return size.training_mb(max(batches), length)

    def check_backbone(self) -> None:
        locate(self.backbone, self.sha256)

    @property
    def weighs_by_drift(self) -> bool:
        return self.row_weights == "drift"

    @property
    def _freezes_backbone(self) -> bool:
        return any(stage.freeze_backbone for stage in self.all_stages)

    @property
    def epoch_chosen_by(self) -> str:
        return self.training.select

    @property
    def joins_features(self) -> bool:
        return self.join_features

    @property
    def pretrains(self) -> bool:
        return self.pretrain is not None and self.start_from is None

    @property
    def start_model(self) -> str | None:
        return self.start_from

    @property
    def copies(self) -> int:
        return self.augment_copies

    @property
    def judge_model(self) -> str | None:
        return self.augment_washed_by

    @property
    def hard_model(self) -> str | None:
        return next((s.sampling.model for s in self.all_stages if s.draws_hard_rows), None)

    @property
    def learns_auxiliary(self) -> bool:
        return any(stage.auxiliary for stage in self.all_stages)

    @property
    def _last_ones(self) -> Iterator[TrainingSettings]:
        """The stages that may be the last, depending on the metric."""
        for stage in reversed(self.stages):
            yield stage
            if not stage.metrics:
                return
        yield self.training

    @property
    def all_stages(self) -> tuple[TrainingSettings, ...]:
        return self.stages or (self.training,)

    @property
    def bounded(self) -> bool:
        """Whether a sigmoid is applied to the outputs of a regression."""
        return self.all_stages[0].bounded

    def stages_for(self, metric: str) -> tuple[StageSettings, ...]:
        """Return the stages for a competition with this metric; `training` alone if none is listed."""
        listed = [s for s in self.stages if not s.metrics or metric in s.metrics]
        return tuple(listed) or (StageSettings(**self.training.model_dump()),)

    @property
    def repeated(self) -> int | str:
        return self.repeats

    @property
    def rules(self) -> str | None:
        of_run = {name for name in ("repeats", *auto.OF_PRESET) if getattr(self, name) == AUTO}
        parts = (self.training, *self.stages)
        left = of_run | {n for part in parts for n in auto.OF_TRAINING if getattr(part, n) == AUTO}
        if left and self.training.max_length == AUTO:
            left.add("max_length")
        return auto.digest(left) if left else None

    def resolved(
        self, facts: auto.RunFacts
    ) -> tuple[TransformerSettings, dict[str, dict[str, Any]]]:
        """Return the settings without `auto`, and each choice by the setting's name.

        A choice is `{"value": 5, "why": "up to 4,000 rows"}`; the epochs of the second stage are named
        `stages.2.epochs`.
        """
        loss = self.all_stages[0].loss
        facts = replace(facts, adds_log_priors=bool(loss and loss.adds_log_priors))
        data, chosen = self.model_dump(mode="json"), {}
        for name in auto.OF_PRESET:
            if getattr(self, name) == AUTO:
                chosen[name] = auto.choose(name, facts)
                data[name] = chosen[name].value
        for prefix, stage, written in self._parts_of(data):
            for name in auto.OF_TRAINING:
                if getattr(stage, name) == AUTO:
                    chosen[prefix + name] = auto.choose(name, facts)
                    written[name] = chosen[prefix + name].value
        used = not self.stages or all(stage.metrics for stage in self.stages)
        shown = {
            name: {"value": rule.value, "why": rule.when}
            for name, rule in chosen.items()
            if used or not name.startswith("training.")
        }
        return TransformerSettings.model_validate(data), shown

    def _parts_of(
        self, data: dict[str, Any]
    ) -> Iterator[tuple[str, TrainingSettings, dict[str, Any]]]:
        """Yield (prefix of its settings' names, settings, plain values in `data`) of each stage."""
        yield "training.", self.training, data["training"]
        for number, stage in enumerate(self.stages):
            yield f"stages.{number + 1}.", stage, data["stages"][number]

    @model_validator(mode="after")
    def _copies_are_changed(self) -> TransformerSettings:
        if self.augment_copies and not self.augment:
            raise ValueError(
                f"augment_copies is {self.augment_copies}, but augment names no technique: set both or "
                "neither"
            )
        if self.augment_washed_by and not self.augment_copies:
            raise ValueError(
                "augment_washed_by drops copies, of which there are none: set augment_copies"
            )
        if not self.new_texts_each_epoch:
            return self
        if self.long.several_windows:
            raise ValueError(
                "augment resamples texts in each epoch, which changes the number of windows: set "
                "augment_copies, or another `long`"
            )
        if self._freezes_backbone:
            raise ValueError(
                "augment resamples texts in each epoch, but freeze_backbone runs the backbone once: "
                "set augment_copies, or leave one of them out"
            )
        return self

    @property
    def new_texts_each_epoch(self) -> bool:
        """Whether training texts are resampled in each epoch, so that their tokens cannot be cached."""
        return bool(self.augment) and not self.augment_copies

    @model_validator(mode="after")
    def _windows_are_read(self) -> TransformerSettings:
        if self.long.redraws and self._freezes_backbone:
            raise ValueError(
                f"long {self.long.name} reads another window in each epoch, but freeze_backbone runs "
                "the backbone once: set one of them only"
            )
        return self

    @model_validator(mode="after")
    def _dropout_is_there(self) -> TransformerSettings:
        if self.dropout_samples > 1 and self.dropout == 0:
            raise ValueError(
                "dropout_samples samples several masks, but dropout is 0: set one of them"
            )
        if self.training.rdrop and self.dropout == 0 and self.backbone_dropout == 0:
            raise ValueError(
                "training.rdrop compares two passes with different dropout, but dropout and "
                "backbone_dropout are 0: raise one of them"
            )
        return self

    def check_kind(self, kind: Kind) -> None:
        for stage in (self.training, *self.stages):
            stage.check_kind(kind)
        if self.augment_washed_by and kind.is_values:
            raise ValueError(
                "augment_washed_by uses the probability of labels, but this competition is "
                "regression: leave it out"
            )
        if self.head_bias == "prior" and kind.is_values:
            raise ValueError(
                "head_bias prior uses the shares of classes, but this competition is regression: "
                "leave it out"
            )
        if self.binary_link == "softmax" and not kind.has_positive_class:
            raise ValueError(
                f"binary_link softmax is for binary competitions, but this one is {kind}: leave it out"
            )
