"""Vectors of texts by a frozen backbone and a pooling without weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from foldstack.backbones import locate
from foldstack.errors import InputError, shown
from foldstack.files import read_json, share, write_json
from foldstack.learners import LearnerContext
from foldstack.nets.backbone import empty_backbone, load_backbone, own_code, save_config
from foldstack.nets.classifier import Classifier, positions, takes_types
from foldstack.nets.content import content_of
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.system import naming
from foldstack.techniques import Beginning, VectorsSettings
from foldstack.text.cache import tokenizer_key
from foldstack.text.cutting import Texts, cut_texts
from foldstack.text.special import set_special
from foldstack.text.tokens import Tokens, mean_by_row, to_tokens
from foldstack.text.vector_cache import VectorCache, vectors_of
from foldstack.training import frozen
from foldstack.training.checkpoint import save_weights
from foldstack.training.loop import Taken
from foldstack.training.precision import cast_once, prepare_machine

WEIGHTS = "classifier.safetensors"  # a bundle stores files of this name in its form of weights
FACTS = "backbone.json"
SHARED = "backbones"  # folder of weights beside the vectors


class FrozenBackbone:
    """A backbone whose vectors of texts never change.

    Attributes:
        origin: digest of its weights, config and tokenizer; None if Python code tokenises.
        key: digest of all that its vectors depend on, for `text.vector_cache.VectorCache`, or None.
        content: the same but for the machine: precision, device and the version of torch.
        size: of a vector.
    """

    def __init__(
        self,
        settings: VectorsSettings,
        loaded: tuple[nn.Module, PreTrainedTokenizerBase],
        written: tuple[str, ...],
        machine: tuple[str, Accelerator],
    ):
        """Set up a loaded backbone.

        Args:
            settings: pooling, length, prefix.
            loaded: the backbone and its tokenizer.
            written: what the user wrote around the texts.
            machine: what `prepare_machine` returned.
        """
        backbone, self.tokenizer = loaded
        self.settings, (self.precision, self.accelerator) = settings, machine
        set_special(self.tokenizer, settings.special_tokens == "text", (settings.prefix, *written))
        self.net = Classifier(backbone.eval(), 1, 0.0, head=settings.head)
        self.size = self.net.pooling.size
        self.limit = positions(backbone, self.tokenizer)
        self.max_length = min(settings.max_length, self.limit)
        self.origin: str | None = None

    @classmethod
    def pretrained(
        cls, settings: VectorsSettings, written: tuple[str, ...], machine: tuple[str, Accelerator]
    ) -> FrozenBackbone:
        """Return the backbone that the settings name; arguments as those of the class."""
        s = settings
        place = locate(s.backbone, s.sha256)
        loaded = load_backbone(place, s.ignore_weights, None, s.trust_remote_code)
        if code := own_code(loaded[0]):
            say(f"trust_remote_code: the backbone runs its checkpoint's own code, {code}")
        made = cls(s, loaded, written, machine)
        if made.max_length < s.max_length:
            say(
                f"max_length {s.max_length} is more than the backbone's {made.limit} positions: using "
                f"{made.limit}"
            )
        made.origin = content_of(*loaded)
        return made

    @classmethod
    def saved(
        cls,
        folder: Path,
        settings: VectorsSettings,
        written: tuple[str, ...],
        machine: tuple[str, Accelerator],
    ) -> FrozenBackbone:
        """Return what `save` wrote into a folder; the other arguments as those of the class."""
        backbone, tokenizer = empty_backbone(folder, settings.trust_remote_code)
        backbone.load_state_dict(load_file(folder / WEIGHTS))
        made = cls(settings, (backbone, tokenizer), written, machine)
        made.origin = read_json(folder / FACTS)["origin"]
        return made

    def save(self, folder: Path) -> None:
        with naming(folder):
            save_config(self.net.backbone, folder)
            self.tokenizer.save_pretrained(folder)
        save_weights(self.net.backbone.state_dict(), folder / WEIGHTS)
        write_json(folder / FACTS, {"origin": self.origin})

    @property
    def key(self) -> str | None:
        if self.origin is None:
            return None
        machine = {
            "precision": self.precision,
            "device": self.accelerator.device.type,
            "torch": importlib.metadata.version("torch"),
        }
        return _digest(self._reading | machine)

    @property
    def content(self) -> str:
        return _digest(self._reading)

    @property
    def _reading(self) -> dict[str, Any]:
        """All that the vectors depend on, but for the machine."""
        s = self.settings
        parts = {
            "origin": self.origin,
            "head": s.head.model_dump(mode="json"),
            "max_length": self.max_length,
            "prefix": s.prefix,
            "tokenizer": tokenizer_key(self.tokenizer),
        }
        if s.long != Beginning():  # without which there are vectors of before the setting
            parts["long"] = s.long.model_dump(mode="json")
        return parts

    def fill(self, texts: Sequence[str], out: np.ndarray) -> None:
        """Compute the (n, size) vectors of n texts; a text without any token has zeros.

        Raises InputError if one is not finite.
        """
        prefix = self.settings.prefix
        read = Texts.read(_rows(texts), self.tokenizer, prefix)
        cut = cut_texts(read, self.max_length, self.settings.long)
        tokens = to_tokens(read, cut, takes_types(self.net.backbone), fill=False)
        if tokens.cut:
            say(f"{tokens.cut:,} of {len(texts):,} texts are cut at max_length {self.max_length}")
        if tokens.rows is None:
            self._fill(tokens, out)
        else:
            of_windows = np.empty((len(tokens.lengths), self.size), np.float32)
            self._fill(tokens, of_windows)
            out[:] = mean_by_row(of_windows, tokens.rows)
        self._check(texts, out)

    def _fill(self, tokens: Tokens, out: np.ndarray) -> None:
        """Compute the (m, size) vectors of m sequences; those without any token have zeros."""
        real = np.flatnonzero(tokens.lengths)
        self.net.to(self.accelerator.device)
        with cast_once(self.net.backbone, self.precision):
            if len(real) == len(out):
                frozen.fill(self.net, tokens, out, self.accelerator.autocast)
            else:
                found = np.empty((len(real), self.size), np.float32)
                frozen.fill(self.net, Taken(tokens, real), found, self.accelerator.autocast)
                out[:] = 0
                out[real] = found

    def _check(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Raise InputError if a vector is not finite."""
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            fp32 = self.precision == "fp32"
            raise InputError(
                f"backbone '{self.settings.backbone}' computes {len(wrong):,} of {len(texts):,} vectors "
                f"that are not finite in {self.precision}, such as that of {shown(texts[wrong[0]])}: "
                + ("take another backbone" if fp32 else "set precision to fp32")
            )


class BackboneVectors:
    """Vectors of the preset's backbone, read from the workspace's cache if they are there."""

    kept = True

    def __init__(self, settings: VectorsSettings, context: LearnerContext):
        self.settings, self.written = settings, context.task.templates
        self.machine = prepare_machine(settings.precision, context.threads)
        tokens = context.cache and context.cache()
        self.ahead: Sequence[Rows] = tokens.ahead if tokens else ()
        self.cache = VectorCache(tokens.vectors) if tokens and tokens.vectors else None
        self.backbone: FrozenBackbone | None = None

    @property
    def precision(self) -> str:
        return self.machine[0]

    @property
    def size(self) -> int:
        return self.backbone.size

    def fit(self, texts: Sequence[str], rows: Rows) -> None:
        """Load the backbone, which learns nothing."""
        self.backbone = FrozenBackbone.pretrained(self.settings, self.written, self.machine)

    def network(self) -> FrozenBackbone:
        """Return the backbone, which is loaded if that has not been done."""
        if self.backbone is None:
            self.fit((), _rows(()))
        return self.backbone

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, size) float32 vectors."""
        if self.cache is None:
            return vectors_of(self.backbone, texts)
        return self.cache.read(texts, self.backbone, self._texts_ahead)

    def _texts_ahead(self) -> list[str]:
        return [text for rows in self.ahead for row in rows.texts for text in row]

    def save(self, folder: Path) -> None:
        """Write the backbone too; runs of a workspace share its weights by hard links."""
        self.backbone.save(folder)
        if self.cache is not None:
            share(folder / WEIGHTS, self.cache.folder / SHARED)

    def load(self, folder: Path) -> None:
        self.backbone = FrozenBackbone.saved(folder, self.settings, self.written, self.machine)


def _rows(texts: Sequence[str]) -> Rows:
    n = len(texts)
    nobody = np.full(n, "", dtype=object)
    return Rows(nobody, [(t,) for t in texts], None, np.ones(n), np.arange(n), nobody)


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
