"""Settings of the transformer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, PositiveInt, model_validator

from foldstack.backbones import BackboneSize, UpdateForm, locate
from foldstack.kinds import Kind
from foldstack.settings import Listed, NonNegative, OptionalText, Share, none_from_text
from foldstack.techniques import auto
from foldstack.techniques.adapter_settings import LoraSettings
from foldstack.techniques.classifiers import texts_of_labels
from foldstack.techniques.common import AUTO, OrAuto
from foldstack.techniques.learner import Traits
from foldstack.techniques.optimizers import Optimizer
from foldstack.techniques.pretraining import Pretraining
from foldstack.techniques.sequence_preset import SequenceSettings
from foldstack.techniques.teaching import JointDistillation
from foldstack.techniques.text_template import LABELS, Slot, Template, parts_of
from foldstack.techniques.training import TrainingSettings

# What of a preset applies to its backbone before training.
OF_CHECKPOINT = (
    "backbone",
    "sha256",
    "trust_remote_code",
    "ignore_weights",
    "prefix",
    "special_tokens",
)


def words_by_label(value: Any) -> Any:
    """Read `auto` as no words but the labels' names, and labels that YAML takes for numbers as text."""
    return {} if value == AUTO else texts_of_labels(value)


class TransformerSettings(SequenceSettings):
    """A pre-trained backbone with a head over its token vectors.

    With `auto` each run chooses by the rows that it learns from, see docs/defaults.md.

    backbone: a hub name, a folder, or `package:NAME/FOLDER` in an installed package; or SmolLM2's GGUF
        file there, which is converted once.
    sha256: pinned checksum of its model.safetensors, or of the GGUF file.
    trust_remote_code: run the Python code that the checkpoint brings (`auto_map` in its config.json
        and tokenizer_config.json); false: none is ever run, and a checkpoint of a type that
        transformers does not know is refused.
    pretrain: pre-train the backbone on masked tokens of all texts of the workspace first, `{}` or
        `{setting: value}`; runs that start from another one do not.
    backbone_dropout: inside the backbone; none: as its config says.
    template: around the texts of a row, read as one sequence: `{text}`, or the names of several
        columns, are their places; `{labels}` lists the labels; special tokens in it are tokens. Long
        texts are cut inside their places.
    label_words: a word per label, `{label: word}`, or auto: the labels' names. The head's first weights
        are those by which the language model scores the first token of each word after the template;
        with training.epochs 0 they stay so (zero-shot; Brown et al. 2020).
    attention: which tokens each token sees: causal: those before it; bidirectional: all (BehnamGhader
        et al. 2024, LLM2Vec, for decoders); auto: as the architecture has it. One that it has by itself
        is refused.
    ignore_weights: checkpoint entries that belong to another task's head.
    keep_every: keep every n-th of the backbone's layers, after `start_from`'s weights are loaded; 2
        halves it (DistilBERT, Sanh et al. 2019).
    match_hidden: weight of a loss that keeps the hidden states of each layer that `keep_every` keeps
        near those of the same layer of the whole fitted backbone of `start_from`, which reads the
        same inputs without dropout: 1 - cosine of each token's vectors (DistilBERT's cosine loss, but
        in several layers, as Sun et al. 2019, Patient knowledge distillation).
    lora: train low-rank adapters beside the backbone's frozen weights, `{}` or `{setting: value}`; only
        what is trained is stored, and prediction reads the backbone where it was.
    quantize: keep the frozen weights of the backbone's linear layers in 4 bits (nf4, as in QLoRA) or in
        8 (int8); with lora, or if all stages set freeze_backbone.
    joint: train the whole backbone too, with a head of its own, which teaches the layers that
        `keep_every` keeps while it learns, `{}` or `{setting: value}`.
    sharding: full: the processes of a run (`PROCESSES=`) share out weights, gradients and optimiser
        state while they train (FSDP; Zhao et al. 2023), for what does not fit one GPU; none: each has
        all of them. The results are the same to rounding.
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
        mixes=True,
        tempered=True,
    )
    learner: Literal["transformer"]
    backbone: str
    sha256: OptionalText = None
    trust_remote_code: bool = False
    pretrain: Annotated[Pretraining | None, BeforeValidator(none_from_text)] = None
    backbone_dropout: Annotated[Share | None, BeforeValidator(none_from_text), OrAuto()] = None
    template: OptionalText = None
    label_words: Annotated[dict[str, str] | None, BeforeValidator(words_by_label)] = None
    attention: Literal["auto", "causal", "bidirectional"] = AUTO
    ignore_weights: Listed[str] = ()
    keep_every: PositiveInt = 1
    match_hidden: NonNegative = 0.0
    lora: Annotated[LoraSettings | None, BeforeValidator(none_from_text)] = None
    quantize: Annotated[Literal["nf4", "int8"] | None, BeforeValidator(none_from_text)] = None
    joint: Annotated[JointDistillation | None, BeforeValidator(none_from_text)] = None
    sharding: Literal["none", "full"] = "none"

    @property
    def is_sharded(self) -> bool:
        return self.sharding == "full"

    def fit_mb(self, rows: int) -> int | None:
        size = BackboneSize.of(self.backbone)
        if size is None:
            return None
        facts = auto.RunFacts(rows=rows, parameters=size.parameters)
        length = self.training.max_length
        length = auto.choose("max_length", facts).value if length == AUTO else length
        stages = [s for s in self.all_stages if not s.freeze_backbone] or [self.training]
        needed = []
        for stage in stages:
            batch = stage.batch_size
            batch = auto.choose("batch_size", facts).value if batch == AUTO else batch
            in_pass = min(batch, stage.micro_batch_size or batch)
            needed.append(size.training_mb(in_pass, length, self.update_form(stage)))
        return max(needed)

    def update_form(
        self, stage: TrainingSettings, precision: str | None = None, on_gpu: bool = False
    ) -> UpdateForm:
        """Return what an update of a stage keeps in memory.

        Args:
            stage: one of `all_stages`, or settings like it.
            precision: of the computation; None for that of the settings.
            on_gpu: whether on a GPU.
        """
        half = (precision or stage.precision) in ("bf16", "fp16")
        frozen, lora = self.quantize, self.lora
        if frozen is None and lora is not None:
            frozen = "half" if half and lora.kind != "dora" else "fp32"
        return UpdateForm(
            frozen,
            0 if lora is None else lora.r,
            lora is not None and lora.dropout > 0,
            stage.recomputes,
            half,
            on_gpu,
        )

    def check_backbone(self) -> None:
        locate(self.backbone, self.sha256)

    @property
    def models_read(self) -> dict[str, str]:
        return super().models_read | {"backbone": self.backbone}

    @property
    def untouched_backbone(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in OF_CHECKPOINT}
        return found | ({"head": self.head} if self.head != AUTO and self.head.fixed else {})

    @property
    def pretrains(self) -> bool:
        return self.pretrain is not None and self.start_from is None

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
        scored = self.scores_untrained
        facts = replace(facts, adds_log_priors=self.adds_log_priors, scores_untrained=scored)
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
        return type(self).model_validate(data), shown

    def _parts_of(
        self, data: dict[str, Any]
    ) -> Iterator[tuple[str, TrainingSettings, dict[str, Any]]]:
        """Yield (prefix of its settings' names, settings, plain values in `data`) of each stage."""
        yield "training.", self.training, data["training"]
        for number, stage in enumerate(self.stages):
            yield f"stages.{number + 1}.", stage, data["stages"][number]

    @property
    def scores_untrained(self) -> bool:
        return self.label_words is not None

    @model_validator(mode="after")
    def _words_have_logits(self) -> TransformerSettings:
        if self.label_words is None:
            return self
        if self.template is None:
            raise ValueError(
                "label_words follow a template that asks for one of them: set template"
            )
        if self.head != AUTO and not self.head.reads_last:
            raise ValueError(
                f"label_words follow the last token, and head {self.head.name} reads another vector: "
                "set `head: last`"
            )
        for name in ("join_features", "keywords", "start_from"):
            if getattr(self, name):
                raise ValueError(
                    f"label_words give the head its first weights, of the last token's vector alone, "
                    f"which {name} changes: set one of them only"
                )
        if self.head_bias == "prior":
            raise ValueError(
                "label_words give the head its first weights and biases: leave head_bias prior out"
            )
        return self

    @model_validator(mode="after")
    def _template_is_whole(self) -> TransformerSettings:
        if self.template is None:
            return self
        parts_of(self.template)
        if self.prefix:
            raise ValueError("template says what stands before the texts: put the prefix into it")
        if not self.long.for_templates:
            raise ValueError(
                f"long {self.long.name} adds words after the text, where the template goes on: take "
                f"one of {', '.join(type(self.long).with_trait('for_templates'))}"
            )
        return self

    def check_names(
        self, texts: tuple[str, ...], numeric: tuple[str, ...], auxiliary: tuple[str, ...]
    ) -> None:
        super().check_names(texts, numeric, auxiliary)
        if self.template is not None:
            Template.parse(self.template, texts)

    @model_validator(mode="after")
    def _reads_no_sentences(self) -> TransformerSettings:
        if self.head != AUTO and self.head.reads_sentences:
            raise ValueError(
                f"head {self.head.name} reads where sentences end, which only learner network knows: "
                "take another, such as attention"
            )
        return self

    @model_validator(mode="after")
    def _hidden_states_have_a_teacher(self) -> TransformerSettings:
        if self.match_hidden and (self.start_from is None or self.keep_every == 1):
            raise ValueError(
                "match_hidden matches the layers that keep_every keeps with the network of start_from: "
                "set start_from, and keep_every to 2 or more, or leave it out"
            )
        if self.match_hidden and self._freezes_backbone:
            raise ValueError(
                "match_hidden trains the backbone, which freeze_backbone leaves as it is: set one of "
                "them only"
            )
        return self

    @model_validator(mode="after")
    def _whole_teaches_what_is_kept(self) -> TransformerSettings:
        if self.joint is None:
            return self
        if self.keep_every == 1:
            raise ValueError(
                "joint trains the whole backbone beside the layers that keep_every keeps: set it to 2 "
                "or more, or leave joint out"
            )
        stages = self.all_stages
        for name, is_set in (
            ("freeze_backbone", any(stage.freeze_backbone for stage in stages)),
            ("reinit_layers", any(stage.reinit_layers for stage in stages)),
            ("auxiliary 1", any(stage.auxiliary == 1 for stage in stages)),
        ):
            if is_set:
                raise ValueError(
                    f"joint trains two whole networks on the target, which training.{name} does not: "
                    "set one of them only"
                )
        return self

    @property
    def keeps_backbone(self) -> bool:
        """Whether the backbone's own weights stay as they are, and runs do not store them."""
        return self.lora is not None or self.quantize is not None

    @model_validator(mode="after")
    def _adapters_are_trained(self) -> TransformerSettings:
        if self.lora is None:
            return self
        stages = self.all_stages
        for name, is_set, why in (
            ("joint", self.joint is not None, "joint trains it whole"),
            (
                "training.reinit_layers",
                any(stage.reinit_layers for stage in stages),
                "re-initialised layers would never be learned",
            ),
            (
                "training.freeze_embeddings",
                any(stage.freeze_embeddings for stage in stages),
                "the embeddings are frozen already",
            ),
            (
                "training.freeze_backbone",
                all(stage.freeze_backbone for stage in stages),
                "no stage would train the adapters in it",
            ),
        ):
            if is_set:
                raise ValueError(
                    f"lora keeps the backbone's weights, and {why}: leave lora or {name} out"
                )
        return self

    @model_validator(mode="after")
    def _quantised_weights_are_frozen(self) -> TransformerSettings:
        if self.quantize is None:
            return self
        if self.lora is None and not all(stage.freeze_backbone for stage in self.all_stages):
            raise ValueError(
                "quantize keeps the backbone's weights, so that something else must be trained: set "
                "lora, or freeze_backbone in all stages"
            )
        for name, is_set in (("keep_every", self.keep_every > 1), ("pretrain", self.pretrains)):
            if is_set:
                raise ValueError(
                    f"quantize rounds weights that a checkpoint has, and {name} makes others: leave one "
                    "of them out"
                )
        return self

    @model_validator(mode="after")
    def _shards_what_is_trained(self) -> TransformerSettings:
        if not self.is_sharded:
            return self
        if all(stage.freeze_backbone for stage in self.all_stages):
            raise ValueError(
                "sharding shares out what is trained, which with freeze_backbone is the head alone: "
                "leave it out"
            )
        for stage in self.all_stages:
            if not Optimizer.registered[stage.optimizer].shards:
                raise ValueError(
                    f"optimizer {stage.optimizer} cannot share out its state: leave sharding out, or "
                    f"take {' or '.join(Optimizer.with_trait('shards'))}"
                )
        return self

    def check_kind(self, kind: Kind) -> None:
        super().check_kind(kind)
        if self.label_words is not None and not kind.one_class_per_row:
            raise ValueError(
                f"label_words are scored against each other, but this competition is {kind}: leave "
                "them out"
            )
        if kind.is_values and self.template and Slot(LABELS) in parts_of(self.template):
            raise ValueError(
                "template lists {labels}, of which a regression has none: leave the place out"
            )
        if self.joint is not None and kind.is_values:
            raise ValueError(
                "joint compares probabilities, but this competition is regression: leave it out"
            )

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
