"""The learner that fine-tunes a pre-trained transformer."""

from __future__ import annotations

from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

from foldstack import parallel
from foldstack.backbones import BackboneSize, locate
from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.learners import LearnerContext
from foldstack.learners.adapted import Adapted, plain_weights
from foldstack.learners.label_words import first_tokens, words_of
from foldstack.learners.memory_check import MemoryCheck, memory_of
from foldstack.learners.sequence import WEIGHTS, SequenceLearner, ids_of
from foldstack.nets.adapters import add_adapters, changing, merged
from foldstack.nets.backbone import (
    empty_backbone,
    load_backbone,
    load_tokenizer,
    own_code,
    save_config,
    set_dropout,
    weights_of,
)
from foldstack.nets.direction import is_causal, set_attention
from foldstack.nets.fewer_bits import narrow, quantise
from foldstack.nets.hidden_states import HiddenMatch
from foldstack.nets.label_rows import label_rows
from foldstack.nets.layers import thin
from foldstack.nets.quantized import Int8Reader
from foldstack.nets.vocabulary import TrimmedEmbedding, trimmed
from foldstack.nets.word_head import load_word_head, new_word_head, with_word_head
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.system import naming
from foldstack.techniques import AUTO, RunFacts, StageSettings, Template, TransformerSettings
from foldstack.techniques.auto import longest
from foldstack.text.laid import Laid
from foldstack.text.masking import mask_tokens
from foldstack.text.sequences import Frame
from foldstack.training import loop
from foldstack.training.joint import JointTeacher
from foldstack.training.masked_words import CRITERION, MaskedWords, examples_of, settings_of

RESOLVED = "settings.json"  # of a run that has chosen what is `auto`


class TransformerLearner(SequenceLearner):
    """AutoModel with a head, trained by `training.loop`."""

    settings: TransformerSettings

    def __init__(self, settings: TransformerSettings, context: LearnerContext):
        super().__init__(settings, context)
        self.pretrained = context.pretrained
        self._chooses = settings.rules is not None  # `max_length: auto` alone has no bound, as ever
        self._weights = 0
        self._adapted: Adapted | None = None  # if the backbone's weights stay as they are

    def prepare(self, train: Rows, learned: int | None = None) -> loop.Examples:
        examples = super().prepare(train, learned)
        if self.settings.keep_every > 1:
            self._thin()
        if self.settings.keeps_backbone:
            self._keep()
        return examples

    def _keep(self) -> None:
        """Freeze the backbone, put adapters beside its weights, and keep these in fewer bits."""
        s, model = self.settings, self.model
        changed = self.pretrained is not None or s.keep_every > 1
        if self._adapted is None:  # else adapters of start_from are there
            changed = changed or self.start is not None
            if changed and s.quantize:
                raise InputError(
                    f"start_from {s.start_from}: quantize rounds a checkpoint's weights, and this model "
                    "has others: name one with the same lora and quantize, or leave quantize out"
                )
            self._adapted = Adapted.of(s, None if changed else self._place)
            self._add_adapters(self.seed)
        else:
            self._adapted.finish(model.backbone)
        kept = self._shrink()
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        say(f"{trained:,} weights are trained; the backbone's linear layers are frozen in {kept}")

    def _add_adapters(self, seed: int | None) -> None:
        backbone = self.model.backbone.requires_grad_(False)
        if self._adapted.adapters is not None:
            add_adapters(backbone, self._adapted.adapters, seed)
        self.model.changing = frozenset(f"backbone.{name}" for name in changing(backbone))

    def _shrink(self) -> str:
        """Keep frozen weights as the settings say, or else in the precision; return the form."""
        adapted, backbone = self._adapted, self.model.backbone
        if adapted.quantize is not None:
            quantise(backbone, adapted.quantize, self.accelerator.device)
            return adapted.quantize
        if adapted.adapters.kind == "dora":  # which computes with the weights themselves
            return "fp32"
        return narrow(backbone, self.precision)

    def _start_weights(self, folder: Path) -> dict[str, torch.Tensor]:
        """Return the weights of `start_from`, adapters as they are if this model has the same."""
        s, other = self.settings, Adapted.read(folder)
        if other is None:
            return super()._start_weights(folder)
        own = s.lora is not None and other.adapters is not None and s.lora.fits(other.adapters)
        if not own or s.quantize != other.quantize or s.keep_every > 1 or other.name is None:
            return plain_weights(folder)
        self._adapted = Adapted.of(s, self._place)
        if self._adapted.sha256 != other.sha256:
            raise InputError(
                f"start_from {s.start_from}: its adapters stand beside the weights of backbone "
                f"'{other.name}', and this preset has others: name a model with the same backbone"
            )
        self._add_adapters(seed=None)
        return super()._start_weights(folder)

    def _set_head(self, examples: loop.Examples) -> None:
        super()._set_head(examples)
        words = self._label_words
        if words is None:
            return
        tokenizer, backbone = self.encoder.tokenizer, self.model.backbone
        after = Frame.of(tokenizer, 1).ids[2]
        if len(after):
            raise InputError(
                f"label_words follow the template, after which this tokenizer puts "
                f"'{tokenizer.decode(after)}': leave them out"
            )
        template = Template.parse(self.settings.template, self.task.texts, words)
        _, spaces = template.continued()
        ids = first_tokens(words, spaces, tokenizer)
        self.model.set_head(*label_rows(backbone, self._place, ids))

    @property
    def _label_words(self) -> tuple[str, ...] | None:
        given = self.settings.label_words
        return None if given is None else words_of(given, self.task.labels)

    def _laid(self, tokenizer: PreTrainedTokenizerBase) -> Laid | None:
        s, words = self.settings, self._label_words
        if s.template is None:
            return None
        template = Template.parse(s.template, self.task.texts, words or self.task.labels)
        return Laid.of(template.continued()[0] if words else template, tokenizer)

    def _thin(self) -> None:
        """Keep every n-th layer; the whole network teaches what is kept, if the settings say so."""
        s, backbone = self.settings, self.model.backbone
        fitted = deepcopy(backbone) if s.match_hidden else None
        whole = deepcopy(self.model) if s.joint else None
        thin(backbone, s.keep_every)
        s.head.check_backbone(backbone.config)  # which has fewer layers now
        if fitted is not None:
            device = self.accelerator.device
            self.model.matched = HiddenMatch(fitted, s.keep_every, s.match_hidden, device)
        if whole is not None:
            of_task = (len(self.task.outputs), self.link)
            self.model.teacher = JointTeacher(whole, s.keep_every, s.joint, *of_task)

    def _body(
        self, train: Rows, learned: int | None
    ) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        backbone, tokenizer = self._load_backbone()
        self._choose(train, backbone, learned)
        self._weights = weights_of(backbone)
        return backbone, tokenizer

    def _check_memory(self, stages: tuple[StageSettings, ...], length: int) -> None:
        s, device = self.settings, self.accelerator.device
        size = BackboneSize.of(s.backbone)
        if size is not None:
            taught = s.joint is not None or s.match_hidden > 0
            MemoryCheck(
                size if taught else replace(size, layers=size.layers // s.keep_every),
                s,
                self.precision,
                length,
                self.accelerator.num_processes,
                device.type == "cuda",
                memory_of(device),
            ).refuse_too_large(stages)

    @property
    def _longest(self) -> int | None:
        return longest(self._weights) if self._chooses else None

    @property
    def _place(self) -> str:
        s = self.settings
        return str(self.pretrained) if self.pretrained else locate(s.backbone, s.sha256)

    def _choose(self, train: Rows, backbone: torch.nn.Module, learned: int | None) -> None:
        """Choose what is `auto` in the settings by these rows; the backbone gets its dropout."""
        if not self.settings.rules:
            return
        facts = RunFacts.of(self.task.kind, train.targets, train.weights, weights_of(backbone))
        facts = facts if learned is None else replace(facts, rows=learned)
        facts = replace(facts, causal=self.settings.head == AUTO and is_causal(backbone))
        self.settings, made = self.settings.resolved(facts)
        self.chosen |= made
        if (rate := self.chosen.get("backbone_dropout")) is not None:
            set_dropout(backbone, rate["value"])

    def _load_backbone(self) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        s = self.settings
        rate = None if s.backbone_dropout == AUTO else s.backbone_dropout
        loaded = load_backbone(self._place, s.ignore_weights, rate, s.trust_remote_code)
        if code := own_code(loaded[0]):
            say(f"trust_remote_code: the backbone runs its checkpoint's own code, {code}")
        if s.attention != AUTO:
            set_attention(loaded[0], s.attention)
        return loaded

    def pretrain(self, rows: Rows, run_dir: Path, to: Path) -> dict:
        """Train the backbone on masked tokens of these rows; save it in the format of the hub.

        It is saved with its MLM head, as the library's masked language model, if the architecture
        has one. run_dir holds what is needed to resume after a kill. Returns facts, as `fit` does.

        Raises InputError if the settings fill words by the head and it cannot be saved.
        """
        s, pretraining = self.settings, self.settings.pretrain
        backbone, tokenizer = self._load_backbone()
        head = load_word_head(self._place, backbone, s.trust_remote_code)
        whose = "a newly initialised" if head is None else "the checkpoint's own"
        say(f"predicting masked tokens with {whose} MLM head")
        new, head = head is None, head or new_word_head(backbone)
        if s.fills_by_pretrained and with_word_head(backbone, head, new) is None:
            raise InputError(
                "augment: contextual_words.model pretrained: the library has no masked language model "
                f"of {type(backbone).__name__} with this head: name a checkpoint"
            )
        encoder = self._encoder(backbone, tokenizer)
        tokens = encoder.fit_texts(rows)

        def of_epoch(epoch: int) -> loop.Examples:
            drawn = (pretraining.share, pretraining.seed, epoch)
            return examples_of(mask_tokens(tokens, tokenizer, s.prefix, *drawn))

        with trimmed(backbone, ids_of([tokens], tokenizer)):
            some = isinstance(backbone.get_input_embeddings(), TrimmedEmbedding)
            torch.manual_seed(pretraining.seed)
            net = MaskedWords(backbone, head)
            facts = loop.train(
                net,
                of_epoch(0),
                settings_of(pretraining, s.training),
                self.accelerator,
                seed=pretraining.seed,
                folder=run_dir,
                checkpoint_seconds=s.checkpoint_seconds,
                of_epoch=of_epoch,
                criterion=CRITERION,
                what="pretraining",
                sharded=self._is_sharded,
            )
        if parallel.is_main():
            with naming(to):
                (with_word_head(backbone, net.head, new or some) or backbone).save_pretrained(to)
                tokenizer.save_pretrained(to)
        return facts

    def merged(self) -> TransformerLearner:
        """Return a copy with adapters merged into the weights; itself if it has none."""
        if self._adapted is None:
            return self
        other = copy(self)
        other.model, other._adapted = merged(self.model), None
        return other

    def in_int8(self) -> TransformerLearner:
        """Return a copy whose backbone computes in int8, for prediction only.

        Raises InputError if this machine cannot.
        """
        whole = self.merged()
        other = copy(whole)
        other.precision, other.model = "int8", copy(whole.model)
        # After a fit, accelerate has set it, bound to the original model.
        other.model.__dict__.pop("forward", None)
        other.model.read = Int8Reader(whole.model, self.precision)
        return other

    def _save_body(self, folder: Path) -> None:
        save_config(self.model.backbone, folder)
        if self._adapted is not None:
            self._adapted.write(folder)
        if self._chooses:
            write_json(folder / RESOLVED, self.settings.model_dump(mode="json"))

    def _empty_body(self, folder: Path) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
        if (folder / RESOLVED).exists():
            self.settings = type(self.settings).model_validate(read_json(folder / RESOLVED))
        self._adapted = Adapted.read(folder)
        if self._adapted is None:
            backbone, tokenizer = empty_backbone(folder, self.settings.trust_remote_code)
        else:
            backbone = self._adapted.backbone(folder)
            tokenizer = load_tokenizer(str(folder), self.settings.trust_remote_code)
            if self.settings.attention != AUTO:  # which the checkpoint's config does not say
                set_attention(backbone, self.settings.attention)
        self._weights = weights_of(backbone)
        return backbone, tokenizer

    def _stored(self) -> dict[str, torch.Tensor]:
        in_checkpoint = self._adapted is not None and self._adapted.name is not None
        return self.model.learned() if in_checkpoint else super()._stored()

    def _load_weights(self, folder: Path) -> None:
        if self._adapted is None:
            super()._load_weights(folder)
            return
        self._add_adapters(seed=None)
        if self._adapted.name is None:
            super()._load_weights(folder)
        else:
            self.model.load_learned(load_file(folder / WEIGHTS))
        self._adapted.finish(self.model.backbone)
        self._shrink()
