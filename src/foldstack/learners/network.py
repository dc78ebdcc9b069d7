"""The learner of networks from scratch: word vectors and a head, learned together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from foldstack.files import read_json, write_json
from foldstack.guess.contents import LOOKED_AT, script_of
from foldstack.learners import LearnerContext
from foldstack.learners.ngram_choice import CHINESE
from foldstack.learners.sequence import SequenceLearner
from foldstack.nets.word_vectors import WordVectors, WordVectorsConfig, hashed
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import NetworkSettings, Words
from foldstack.text.tokens import tokenise
from foldstack.text.words import SPECIAL, WordTokenizer, kind_of

FILE = "words.json"
CHUNK = 1_000  # texts at once
LONGEST = 1_000_000  # tokens: texts are not cut


class NetworkLearner(SequenceLearner):
    """Word vectors from a uniform distribution, with a head over them."""

    settings: NetworkSettings

    def __init__(self, settings: NetworkSettings, context: LearnerContext):
        super().__init__(settings, context)
        self.cache = None  # each run has its own vocabulary, and words are quickly found

    def _body(self, train: Rows, learned: int | None) -> tuple[torch.nn.Module, WordTokenizer]:
        words = _chosen(self.settings.words, train)
        tokenizer = kind_of(words).fit(_segments(train, self.settings.prefix), words)
        say(f"{len(tokenizer) - len(SPECIAL):,} {words.unit} in the vocabulary")
        torch.manual_seed(self.seed)
        s = self.settings
        config = WordVectorsConfig(len(tokenizer), s.size, s.word_dropout, s.spatial_dropout)
        if s.ngrams == 1:
            return WordVectors(config), tokenizer
        kept = self._ngrams(train, tokenizer)
        say(f"{len(kept):,} word n-grams with a vector")
        config = replace(config, ngrams=s.ngrams, buckets=s.buckets, ngram_rows=len(kept))
        made = WordVectors(config)
        made.ngrams.rows[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32)
        return made, tokenizer

    def _ngrams(self, train: Rows, tokenizer: WordTokenizer) -> torch.Tensor:
        """Return the hashes, ascending, of word n-grams that enough training texts hold."""
        s = self.settings
        read = tokenise(train, tokenizer, max_length=LONGEST, prefix=s.prefix)
        texts = torch.zeros(s.buckets, dtype=torch.int32)
        for start in range(0, len(train), CHUNK):
            batch = read.batch(np.arange(start, min(start + CHUNK, len(train))))
            ids, counts = batch["input_ids"], batch["attention_mask"].sum(dim=1)
            text = torch.arange(len(ids)).unsqueeze(1).expand_as(ids)
            pairs = [
                torch.stack([text[begins], hashes[begins]])
                for hashes, begins in hashed(ids, counts, s.ngrams, s.buckets)
            ]
            of_texts = torch.unique(torch.cat(pairs, dim=1), dim=1)
            texts += torch.bincount(of_texts[1], minlength=s.buckets).int()
        return torch.nonzero(texts >= s.words.min_count).squeeze(1)

    @property
    def _dense(self) -> tuple[int, ...]:
        return self.settings.dense

    def _save_body(self, folder: Path) -> None:
        words = self.encoder.tokenizer.words.model_dump(mode="json")
        write_json(folder / FILE, {"words": words, "body": self.model.backbone.config.to_dict()})

    def _empty_body(self, folder: Path) -> tuple[torch.nn.Module, WordTokenizer]:
        facts = read_json(folder / FILE)
        words = Words.model_validate(facts["words"])
        tokenizer = kind_of(words).read(folder, words)
        return WordVectors(WordVectorsConfig(**facts["body"])), tokenizer


def _segments(rows: Rows, prefix: str) -> Iterator[str]:
    """Yield each row's text with the prefix, as it is read; of several segments all in one."""
    for row in rows.texts:
        yield prefix + " ".join(row)


def _chosen(words: Words, train: Rows) -> Words:
    """Return the settings with `cut: auto` chosen by the texts."""
    if words.cut != "auto":
        return words
    script = script_of(text for row in train.texts[:LOOKED_AT] for text in row)
    cut = "rjieba" if script == CHINESE and words.unit == "words" else "unicode"
    return words.model_copy(update={"cut": cut})
