"""Back-translation: texts translated into another language and back, by two local models.

Sennrich et al. 2016, Improving Neural Machine Translation Models with Monolingual Data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    BatchEncoding,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from foldstack.progress import Progress
from foldstack.techniques import Augmentation
from foldstack.text.augment.changes import RowChange
from foldstack.text.augment.filled import by_text
from foldstack.text.augment.language_models import (
    filled_key,
    load_language_model,
    longest,
    padded_batches,
)
from foldstack.text.augment.resources import Resources


def back_translation(settings: Augmentation, texts: list[str], beside: Resources) -> RowChange:
    """Return the technique. Raises InputError if a model cannot be loaded."""
    models = [
        Translator(*load_language_model(AutoModelForSeq2SeqLM, f"back_translation.{name}", place))
        for name, place in (("forward", settings.forward), ("backward", settings.backward))
    ]

    def fill(given: Sequence[str], seeds: Sequence[int]) -> list[str]:
        back = list(given)
        with Progress("back_translation", 2 * len(back), "texts") as progress:
            for number, model in enumerate(models):
                of_model = [[seed, number] for seed in seeds]
                back = model.translated(back, of_model, settings.temperature, progress)
        # Where one direction failed, a foreign text must not stay.
        return [new or old for new, old in zip(back, given, strict=True)]

    key = filled_key(settings, [(model.model, model.tokenizer) for model in models])
    return by_text(fill, beside.filled, key)


class GumbelNoise(LogitsProcessor):
    """Adds Gumbel noise to scaled logits, so that their argmax is a sample of the softmax.

    Each row has its own generator (the library's sampling has one for the batch), so that what is
    sampled for a text does not depend on the others.
    """

    def __init__(self, seeds: list[list[int]], temperature: float):
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (b, vocabulary) noisy logits."""
        noise = np.stack([rng.gumbel(size=scores.shape[1]) for rng in self.generators])
        return scores / self.temperature + torch.from_numpy(noise).to(scores)


@dataclass(frozen=True)
class Translator:
    """A sequence-to-sequence model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def translated(
        self, texts: list[str], seeds: list[list[int]], temperature: float, progress: Progress
    ) -> list[str]:
        """Return the translations; "" for a text that is blank or longer than the model reads.

        Args:
            texts: n texts.
            seeds: n seeds of their sampling.
            temperature: 0 for the most probable token each time.
            progress: advances by n.
        """
        limit, out = longest(self.model, self.tokenizer), [""] * len(texts)
        ids = self.tokenizer(texts)["input_ids"]
        fit = [i for i, text in enumerate(texts) if text.strip() and len(ids[i]) <= limit]
        progress.add(len(texts) - len(fit))
        for some, rows, padded in padded_batches([ids[i] for i in fit], self.tokenizer, limit):
            made = self._generated(padded, [seeds[fit[i]] for i in rows], temperature)
            for i, text in zip(some, made, strict=False):  # more rows are in the batch
                out[fit[i]] = text.strip()
            progress.add(len(some))
        return out

    @torch.inference_mode()
    def _generated(
        self, padded: BatchEncoding, seeds: list[list[int]], temperature: float
    ) -> list[str]:
        noise = [GumbelNoise(seeds, temperature)] if temperature else []
        made = self.model.generate(
            padded["input_ids"].to(self.model.device),
            attention_mask=padded["attention_mask"].to(self.model.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=longest(self.model, self.tokenizer) - 1,
            logits_processor=LogitsProcessorList(noise),
        )
        return self.tokenizer.batch_decode(made, skip_special_tokens=True)
