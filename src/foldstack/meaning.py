"""Texts compared by meaning: the cosine of a frozen backbone's vectors, which know no labels.

The backbone is that of the preset `minilm-vectors`; a workspace's own preset of that name takes its
place. It computes in fp32, so that few pairs depend on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foldstack import config
from foldstack.backbones import model_digest
from foldstack.cores import cpu_threads
from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.near import Distinct, Find, FoundPairs
from foldstack.settings import CompetitionSettings
from foldstack.store import Store
from foldstack.techniques import LearnerSettings, VectorsSettings
from foldstack.text.cosine import TooManyPairs, of_segments, pairs_between, pairs_within, unit

if TYPE_CHECKING:
    from foldstack.learners.frozen_backbone import FrozenBackbone

PRESET, SETTINGS = "minilm-vectors", "meaning.json"


@dataclass(frozen=True)
class Meaning:
    """A frozen backbone that gives rows of texts unit vectors.

    Attributes:
        settings: of the backbone.
        written: what the user wrote around the texts.
        threads: of the CPU.
        cache: folder of vectors that are kept; None for none.
        saved: folder of a backbone that `save` wrote, instead of that of the settings.
    """

    settings: VectorsSettings
    written: tuple[str, ...]
    threads: int
    cache: Path | None = None
    saved: Path | None = None

    @classmethod
    def of(cls, root: Path, settings: CompetitionSettings) -> Meaning:
        """Return that of a workspace; raise InputError if its preset is none of a frozen backbone."""
        found = config.load_model(PRESET, root, settings, {})
        threads, cache = cpu_threads(settings.runtime.threads), Store(root).vectors_dir
        return cls(_in_fp32(found), settings.templates, threads, cache)

    def save(self, folder: Path) -> None:
        """Write what `load` reads into an empty folder: the backbone, in fp32, and its settings."""
        self.backbone.save(folder)
        written = {"settings": self.settings.model_dump(mode="json"), "written": self.written}
        write_json(folder / SETTINGS, written)

    @classmethod
    def load(cls, folder: Path) -> Meaning:
        """Return what `save` wrote, for texts of which no vectors are kept."""
        data = read_json(folder / SETTINGS)
        settings = VectorsSettings.model_validate(data["settings"])
        return cls(settings, tuple(data["written"]), cpu_threads(0), saved=folder)

    @property
    def key(self) -> str:
        """The digest of what the vectors depend on: the settings, and the content of a folder."""
        content = model_digest(self.settings.backbone)
        parts = [self.settings.model_dump(mode="json"), self.written]
        return config.digest([*parts, content] if content else parts)

    def check(self) -> None:
        """Raise InputError if the backbone's package or folder is missing."""
        if self.saved is None:
            self.settings.check_backbone()

    @cached_property
    def backbone(self) -> FrozenBackbone:
        """The backbone, for which torch is imported."""
        from foldstack.learners.frozen_backbone import FrozenBackbone
        from foldstack.training.precision import prepare_machine

        machine = prepare_machine(self.settings.precision, self.threads)
        if self.saved is not None:
            return FrozenBackbone.saved(self.saved, self.settings, self.written, machine)
        return FrozenBackbone.pretrained(self.settings, self.written, machine)

    def vectors(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return (n, width) unit vectors of n rows of one or more texts; empty texts count nothing.

        The cosine of two rows is the mean of the cosines of their texts.
        """
        if not len(texts):
            return np.zeros((0, 1), np.float32)
        flat = [text for row in texts for text in row]
        found = unit(self._of_texts(flat))
        found[[not text.strip() for text in flat]] = 0
        return of_segments(list(found.reshape(len(texts), -1, found.shape[1]).swapaxes(0, 1)))

    def _of_texts(self, texts: list[str]) -> np.ndarray:
        from foldstack.text.vector_cache import VectorCache, vectors_of

        if self.cache is None:
            return vectors_of(self.backbone, texts)
        return VectorCache(self.cache).read(texts, self.backbone)


def _in_fp32(settings: LearnerSettings) -> VectorsSettings:
    """Return the settings of a frozen backbone in fp32."""
    if settings.text_vectors != "backbone":
        raise InputError(
            f"presets/{PRESET}.yaml gives texts no vectors of a frozen backbone, by which they are "
            "compared by meaning: write one with learner vectors and source backbone"
        )
    return settings.model_copy(update={"precision": "fp32"})


def by_meaning(meaning: Meaning, threshold: float) -> Find:
    """Return the search for texts whose vectors have this cosine or more; see `near.Find`."""

    def find(distinct: Distinct, among: np.ndarray | None) -> FoundPairs:
        filled = np.flatnonzero(distinct.filled)
        vectors = meaning.vectors([distinct.texts[i] for i in filled])
        try:
            if among is None:
                pairs, cosines = pairs_within(vectors, threshold)
                compared = len(filled) * (len(filled) - 1) // 2
            else:
                theirs = np.flatnonzero(among[filled])
                pairs, cosines = pairs_between(vectors, vectors[theirs], threshold)
                pairs[:, 1] = theirs[pairs[:, 1]]
                once = (pairs[:, 0] < pairs[:, 1]) | ~among[filled[pairs[:, 0]]]
                once &= pairs[:, 0] != pairs[:, 1]
                pairs, cosines = pairs[once], cosines[once]
                compared = len(filled) * len(theirs)
        except TooManyPairs as e:
            raise InputError(
                f"folds.near {threshold:g} by meaning joins {e} pairs of texts: raise it, 0.9 say"
            ) from None
        report = {"candidates": compared, "large_buckets": 0, "largest_bucket": 0}
        return FoundPairs(filled[pairs], cosines, report)

    return find
