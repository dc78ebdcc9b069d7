"""Settings that the transformer and the networks from scratch share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from foldstack.backbones import locate_model
from foldstack.kinds import Kind
from foldstack.settings import NonNegative, OptionalText, Share, none_from_text
from foldstack.techniques.augmentation import Augmentation, files_named, models_named
from foldstack.techniques.both_orders import OrNoOrders
from foldstack.techniques.common import AUTO, OrAuto, each_named, named
from foldstack.techniques.consistency import Consistency
from foldstack.techniques.heads import Head, MeanHead
from foldstack.techniques.keyword_settings import EmbeddedKeywordSettings
from foldstack.techniques.long import Beginning, Long
from foldstack.techniques.losses import Loss
from foldstack.techniques.training import (
    NOT_INHERITED,
    OF_THE_RUN,
    StageSettings,
    TrainingSettings,
    over_training,
)


class SequenceSettings(EmbeddedKeywordSettings):
    """A network over the token sequences of texts, with a head over its token vectors.

    prefix: put before each text, for backbones trained with one (`"query: "`).
    special_tokens: what a special token typed in a text, such as [SEP] or </s>, is read as: text, or
        the token that it names; those that you write in a prefix, or in competition.yaml's `template`
        or `segments`, are tokens, and so are the same ones in texts.
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
    repeats: number of fits in a run, from different seeds, whose outputs are averaged: a single fit on
        few rows depends on its seed.
    checkpoint_seconds: least time between two checkpoints; 0: after every update.
    both_orders: of sentence pairs whose order has no meaning; predict: the logits of a pair are the mean
        of those of (a, b) and (b, a); train: and in each epoch each pair is learned in an order at
        random. With settings, also of two texts among several whose labels change places with them.
    augment: changes of training texts, resampled in each epoch, or made once if augment_copies is
        set.
    augment_copies: leave the rows as they are and add this number of changed copies of each.
    augment_washed_by: a model that judges the copies: those whose label loses half its confidence
        under the model's runs that know neither the copy's fold nor those left out (`fold2-4`) are
        dropped.
    consistency: learn from unlabelled texts that a changed text is predicted as the text is, `{}` or
        `{setting: value}`.
    row_weights: drift multiplies the rows' weights by those of `make drift`, which are large for
        rows like the test file's.
    training: how the run is trained.
    stages: trained one after the other, each over `training` and from the weights of the one
        before.
    cache_gb: most that a frozen backbone's outputs may take, on disk from 1 GB on; beyond that they
        are computed again in each epoch.
    start_from: a model whose run with the same seed and held-out folds gives the initial weights;
        it has the same backbone, or for learner network the same words, and for its head to be used
        the same head.
    """

    learner: str
    prefix: str = ""
    special_tokens: Literal["text", "tokens"] = "text"
    long: Annotated[Long, BeforeValidator(named)] = Beginning()
    head: Annotated[Head, BeforeValidator(named), OrAuto()] = MeanHead()
    join_features: bool = False
    dropout: Annotated[Share, OrAuto()] = 0.1
    dropout_samples: PositiveInt = 1
    binary_link: Literal["sigmoid", "softmax"] = "sigmoid"
    head_bias: Literal["zero", "prior", "auto"] = "zero"
    repeats: Annotated[PositiveInt, OrAuto()] = 1
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    both_orders: OrNoOrders = None
    augment: Annotated[tuple[Augmentation, ...], BeforeValidator(each_named)] = ()
    augment_copies: Annotated[int, Field(ge=0)] = 0
    augment_washed_by: OptionalText = None
    consistency: Annotated[Consistency | None, BeforeValidator(none_from_text)] = None
    row_weights: Literal["file", "drift"] = "file"
    training: TrainingSettings = TrainingSettings()
    stages: tuple[StageSettings, ...] = ()
    cache_gb: NonNegative = 20.0
    start_from: OptionalText = None

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
    def _stages_fit(self) -> SequenceSettings:
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
    def _mixes_all_rows(self) -> SequenceSettings:
        drawing = next((s.sampling for s in self.all_stages if s.sampling), None)
        if self.mixed_ratio and drawing:
            raise ValueError(
                f"training.sampling {drawing.name} draws the rows of an epoch, and pseudo_labels.ratio "
                "takes each training row once: set one of them only"
            )
        return self

    @model_validator(mode="after")
    def _some_stage_has_it(self) -> SequenceSettings:
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
        joins = self.join_features or self.keywords is not None
        if not stage.freeze_backbone or not is_fixed or joins:
            raise ValueError(
                f"sampling {name} makes pooled vectors of a frozen backbone: set freeze_backbone, a "
                f"head of {', '.join(Head.with_trait('fixed'))}, and join no features or keywords"
            )
        if stage.auxiliary:
            raise ValueError(
                f"sampling {name} makes rows without auxiliary values: leave auxiliary or "
                f"{name} out"
            )

    @property
    def input_files(self) -> dict[str, str]:
        return super().input_files | files_named(self.augment)

    @property
    def models_read(self) -> dict[str, str]:
        return super().models_read | self._models_of_changes

    @property
    def _models_of_changes(self) -> dict[str, str]:
        return models_named((*self.augment, *self.consistency_changes))

    def check_inputs(self, files: dict[str, Path]) -> None:
        super().check_inputs(files)
        for setting, model in self._models_of_changes.items():
            locate_model(model, setting.partition(" (")[0])

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
    def copies(self) -> int:
        return self.augment_copies

    @property
    def judge_model(self) -> str | None:
        return self.augment_washed_by

    @property
    def start_model(self) -> str | None:
        return self.start_from

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
    def adds_log_priors(self) -> bool:
        """Whether the first stage's loss adds the log of each class's share to the outputs."""
        loss = self.all_stages[0].loss
        return loss is not None and loss.adds_log_priors

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

    @model_validator(mode="after")
    def _copies_are_changed(self) -> SequenceSettings:
        if self.augment_copies and not self.augment:
            raise ValueError(
                f"augment_copies is {self.augment_copies}, but augment names no technique: set both or "
                "neither"
            )
        if self.augment_washed_by and not self.augment_copies:
            raise ValueError(
                "augment_washed_by drops copies, of which there are none: set augment_copies"
            )
        resampled = () if self.augment_copies else self.augment
        fixed = next((s.name for s in (*resampled, *self.consistency_changes) if s.of_file), None)
        if fixed:
            raise ValueError(
                f"augment: {fixed} has texts for copies of training rows, not for texts that change in "
                "each epoch: set augment_copies, and consistency.augment to another"
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
    def fills_by_pretrained(self) -> bool:
        """Whether augmentation reads the model that `pretrain` makes."""
        return any(each.by_pretrained for each in (*self.augment, *self.consistency_changes))

    @model_validator(mode="after")
    def _model_is_pretrained(self) -> SequenceSettings:
        if self.fills_by_pretrained and not self.pretrains:
            remedy = "leave start_from out" if self.start_from else "set `pretrain: {}`"
            raise ValueError(
                "augment: a model `pretrained` is the one that `pretrain` of a transformer makes, which "
                f"this preset does not: {remedy}, or name a checkpoint"
            )
        return self

    @model_validator(mode="after")
    def _changes_unlabelled_texts(self) -> SequenceSettings:
        if self.consistency is None:
            return self
        if not self.consistency_changes:
            raise ValueError(
                "consistency compares a text with a changed one, but `augment` names no change: set "
                "consistency.augment or augment"
            )
        if self.long.several_windows or self.long.redraws:
            raise ValueError(
                f"consistency compares a text with a changed one, of which long {self.long.name} reads "
                "other windows: take another `long`"
            )
        for stage in self.all_stages:
            adversary = stage.adversary
            if stage.freeze_backbone:
                raise ValueError(
                    "consistency requires passes through the backbone, which freeze_backbone runs once: "
                    "set one of them only"
                )
            if stage.auxiliary == 1:
                raise ValueError(
                    "consistency compares predictions of the target, which auxiliary 1 does not learn: "
                    "set one of them only"
                )
            if adversary and adversary.on_vectors:
                raise ValueError(
                    f"adversary {adversary.name} adds noise to the word vectors of labelled rows, and "
                    "consistency reads others beside them: take fgm, pgd or awp"
                )
        return self

    @property
    def consistency_changes(self) -> tuple[Augmentation, ...]:
        """Changes of the unlabelled texts; none without `consistency`."""
        return () if self.consistency is None else self.consistency.augment or self.augment

    @property
    def consistent_on(self) -> tuple[str, ...]:
        return () if self.consistency is None else self.consistency.texts

    def check_unlabelled(self, kind: Kind, pool: Sequence[str], segments: int = 1) -> None:
        super().check_unlabelled(kind, pool, segments)
        if self.consistency is None:
            return
        self.consistency.check(pool)
        if kind.is_values:
            raise ValueError(
                "consistency compares probabilities, but this competition is regression: leave it out"
            )

    @property
    def scores_untrained(self) -> bool:
        """Whether the head means something before it is trained."""
        return False

    @model_validator(mode="after")
    def _something_is_trained(self) -> SequenceSettings:
        if any(stage.epochs == 0 for stage in self.stages):
            raise ValueError("a stage of 0 epochs trains nothing: leave it out")
        if self.training.epochs != 0:
            return self
        if not self.scores_untrained:
            raise ValueError(
                "training.epochs 0 trains nothing, and a new head is random: set 1 or more, or "
                "label_words of a decoder"
            )
        if self.training.select != "last":
            raise ValueError(
                f"training.select {self.training.select} chooses among epochs, and training.epochs 0 "
                "has none: leave it out"
            )
        return self

    @property
    def new_texts_each_epoch(self) -> bool:
        """Whether training texts are resampled in each epoch, so that their tokens cannot be cached."""
        return bool(self.augment) and not self.augment_copies

    @property
    def predicts_both_orders(self) -> bool:
        """Whether the logits of a pair are the mean of those of both orders of its texts."""
        return self.both_orders is not None

    @property
    def learns_both_orders(self) -> bool:
        """Whether each pair is learned in an order at random, another in another epoch."""
        return self.both_orders is not None and self.both_orders.when == "train"

    def check_names(
        self, texts: tuple[str, ...], numeric: tuple[str, ...], auxiliary: tuple[str, ...]
    ) -> None:
        super().check_names(texts, numeric, auxiliary)
        if self.both_orders is not None:
            read = numeric * self.join_features + auxiliary * self.learns_auxiliary
            self.both_orders.check_names(texts, numeric + auxiliary, read)

    @model_validator(mode="after")
    def _orders_are_read(self) -> SequenceSettings:
        if not self.learns_both_orders:
            return self
        if self._freezes_backbone:
            raise ValueError(
                "both_orders train reads pairs in another order in each epoch, but freeze_backbone runs "
                "the backbone once: set both_orders predict, or leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _windows_are_read(self) -> SequenceSettings:
        if self.long.redraws and self._freezes_backbone:
            raise ValueError(
                f"long {self.long.name} reads another window in each epoch, but freeze_backbone runs "
                "the backbone once: set one of them only"
            )
        return self

    def check_kind(self, kind: Kind) -> None:
        for stage in (self.training, *self.stages):
            stage.check_kind(kind)
        if self.both_orders is not None:
            self.both_orders.check_kind(kind)
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
