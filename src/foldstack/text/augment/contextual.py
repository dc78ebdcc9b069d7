"""Contextual augmentation: masked words, replaced by what a masked language model predicts.

Kobayashi 2018, Contextual Augmentation; Kumar et al. 2020, Data Augmentation using Pre-trained
Transformer Models.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import numpy as np
import torch
from transformers import (
    AutoModelForMaskedLM,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from foldstack.errors import InputError
from foldstack.progress import Progress
from foldstack.techniques import Augmentation
from foldstack.techniques.pretraining import OF_TEXTS
from foldstack.text.augment.changes import RowChange
from foldstack.text.augment.filled import by_text
from foldstack.text.augment.language_models import (
    filled_key,
    load_language_model,
    longest,
    padded_batches,
)
from foldstack.text.augment.resources import Resources
from foldstack.text.augment.split import SplitText, is_unspaced, split_words
from foldstack.text.sequences import encode_each

DECIMALS = 3  # of logits; their last bits depend on the machine


def contextual_words(settings: Augmentation, texts: list[str], beside: Resources) -> RowChange:
    """Return the technique. Raises InputError if the model has no head or mask token."""
    what = "contextual_words.model"
    if settings.by_pretrained and beside.pretrained is None:  # as in a forecast
        raise InputError("augment fills words by a model that is not pretrained yet")
    place = str(beside.pretrained) if settings.by_pretrained else settings.model
    model, tokenizer = load_language_model(AutoModelForMaskedLM, what, place)
    if tokenizer.mask_token_id is None or not tokenizer.is_fast:
        lacks = "mask token" if tokenizer.mask_token_id is None else "fast form"
        raise InputError(
            f"augment: {what}: the tokenizer of '{settings.model}' has no {lacks}: name another model"
        )
    words = Vocabulary.of(tokenizer, _ids(model, tokenizer, texts))
    key = filled_key(settings, [(model, tokenizer)], words.ids.tolist())
    return by_text(Filling(settings, model, tokenizer, words).fill, beside.filled, key)


def _ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> Sequence[int]:
    """Return the tokens that the model may insert.

    One that has learned among the words of some texts would choose any of the others.
    """
    count = min(len(tokenizer), model.config.vocab_size)
    if not getattr(model.config, OF_TEXTS, False):
        return range(count)
    return np.unique(np.concatenate([ids for ids, _ in encode_each(texts, tokenizer)])).tolist()


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that are a whole word each, so that one never breaks or joins words.

    Attributes:
        ids: (w,) token ids.
        words: their words.
        alike: positions of the tokens by word without regard to case.
        unspaced: (w,) whether the word's script has no spaces.
    """

    ids: np.ndarray
    words: list[str]
    alike: dict[str, list[int]]
    unspaced: np.ndarray

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, known: Sequence[int]) -> Vocabulary:
        """Take those of the known tokens whose word is read as this token."""
        special = set(tokenizer.all_special_ids)
        ids = [i for i in known if i not in special]
        decoded = (tokenizer.decode([i]).strip() for i in ids)
        known = [(i, w) for i, w in zip(ids, decoded, strict=True) if split_words(w).words == [w]]
        options = {"add_special_tokens": False}
        read = tokenizer([f" {w}" for _, w in known], **options)["input_ids"] if known else []
        whole = [each for each, tokens in zip(known, read, strict=True) if tokens == [each[0]]]
        alike = defaultdict(list)
        for place, (_, word) in enumerate(whole):
            alike[word.casefold()].append(place)
        return cls(
            np.array([i for i, _ in whole], dtype=int),
            [w for _, w in whole],
            dict(alike),
            np.array([is_unspaced(w) for _, w in whole], dtype=bool),
        )

    def barred(self, word: str) -> np.ndarray:
        """Return (w,) which words may not replace this one: itself, and those of other scripts."""
        barred = self.unspaced != is_unspaced(word)
        barred[self.alike.get(word.casefold(), [])] = True
        return barred


@dataclass(frozen=True)
class MaskedText:
    """A text with masked words.

    Attributes:
        split: the text.
        words: which of its words are masked.
        ids: its tokens, one mask token for each masked word.
        at: the positions of the mask tokens.
    """

    split: SplitText
    words: list[int]
    ids: list[int]
    at: list[int]


@dataclass(frozen=True)
class Filling:
    """Masks words and fills them, many texts at a time."""

    settings: Augmentation
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary

    def fill(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """Return n texts with other words, sampled from n seeds."""
        rngs = [Random(seed) for seed in seeds]
        masked = [self._mask(text, rng) for text, rng in zip(texts, rngs, strict=True)]
        choices = self._choices(masked)
        return [_filled(*each) for each in zip(masked, choices, rngs, strict=True)]

    def _mask(self, text: str, rng: Random) -> MaskedText:
        """Mask a share of a text's words, sampled from those that the model reads."""
        split = split_words(text)
        limit = longest(self.model, self.tokenizer)
        read = self.tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
        ids, tokens = read["input_ids"], _tokens_of_words(split, read["offset_mapping"], text)
        count = min(math.ceil(self.settings.share * len(split)), len(tokens))
        words = sorted(rng.sample(sorted(tokens), count))
        first = {tokens[word][0] for word in words}
        rest = {token for word in words for token in tokens[word][1:]}
        mask = self.tokenizer.mask_token_id
        ids = [mask if i in first else id_ for i, id_ in enumerate(ids) if i not in rest]
        at, dropped = [], 0
        for word in words:
            at.append(tokens[word][0] - dropped)
            dropped += len(tokens[word]) - 1
        return MaskedText(split, words, ids, at)

    def _choices(self, texts: list[MaskedText]) -> list[list[tuple[list[str], list[float]]]]:
        """Return for each masked word of each text the words to sample from and their weights."""
        found: list = [[] for _ in texts]
        asked = [i for i, each in enumerate(texts) if each.words]
        with Progress("contextual_words", len(asked), "texts") as progress:
            limit = longest(self.model, self.tokenizer)
            ids = [texts[i].ids for i in asked]
            for some, _, padded in padded_batches(ids, self.tokenizer, limit):
                places = [asked[i] for i in some]
                logits = self._logits([texts[i] for i in places], padded)
                for i in places:
                    words = [texts[i].split.words[w] for w in texts[i].words]
                    found[i] = [self._candidates(w, next(logits)) for w in words]
                progress.add(len(places))
        return found

    @torch.inference_mode()
    def _logits(self, texts: list[MaskedText], padded: BatchEncoding) -> Iterator[np.ndarray]:
        """Return an iterator over the (w,) logits of whole words at each mask, text by text."""
        inputs = {k: padded[k].to(self.model.device) for k in ("input_ids", "attention_mask")}
        rows = torch.tensor([row for row, t in enumerate(texts) for _ in t.at])
        left = self.tokenizer.padding_side == "left"
        width = padded["input_ids"].shape[1]
        at = torch.tensor([a + (width - len(t.ids)) * left for t in texts for a in t.at])
        logits = self.model(**inputs).logits.cpu()[rows, at]
        return iter(logits[:, torch.from_numpy(self.vocabulary.ids)].numpy())

    def _candidates(self, word: str, logits: np.ndarray) -> tuple[list[str], list[float]]:
        """Return the `top_k` most probable words but this one, and their cumulated weights."""
        scores = np.where(self.vocabulary.barred(word), -np.inf, np.round(logits, DECIMALS))
        best = np.argsort(-scores, kind="stable")[: self.settings.top_k]
        best = best[np.isfinite(scores[best])]
        if not len(best):
            return [word], [1.0]
        weights = np.exp((scores[best] - scores[best[0]]).astype(float) / self.settings.temperature)
        words = [_in_case_of(word, self.vocabulary.words[i]) for i in best]
        return words, list(accumulate(weights.tolist()))


def _tokens_of_words(
    split: SplitText, offsets: list[tuple[int, int]], text: str
) -> dict[int, list[int]]:
    """Return the tokens of each word that has tokens of its own, by the word's number."""
    starts = accumulate(
        (len(w) + len(g) for w, g in zip(split.words, split.gaps[1:], strict=True)),
        initial=len(split.gaps[0]),
    )
    word_at = {
        c: i
        for i, (s, w) in enumerate(zip(starts, split.words, strict=False))
        for c in range(s, s + len(w))
    }
    found, shared = defaultdict(list), set()
    for token, (start, end) in enumerate(offsets):
        characters = [c for c in range(start, end) if not text[c].isspace()]
        words = {word_at.get(c) for c in characters}
        if len(words) > 1:
            shared |= words
        for word in words - {None}:
            found[word].append(token)
    return {word: tokens for word, tokens in found.items() if word not in shared}


def _filled(masked: MaskedText, choices: list[tuple[list[str], list[float]]], rng: Random) -> str:
    words = list(masked.split.words)
    for i, (candidates, weights) in zip(masked.words, choices, strict=True):
        place = bisect(weights, rng.random() * weights[-1])
        words[i] = candidates[min(place, len(candidates) - 1)]
    return masked.split.replaced(words)


def _in_case_of(word: str, other: str) -> str:
    """Return the other word in this word's case, if it is lower case itself."""
    if not other.islower():
        return other
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word.istitle() else other
