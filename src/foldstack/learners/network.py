"""The learner of networks from scratch: word vectors and a head, learned together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from foldstack.files import read_json, write_json
from foldstack.guess.contents import LOOKED_AT, script_of
from foldstack.learners import LearnerContext
from foldstack.learners.ngram_choice import CHINESE
from foldstack.learners.sequence import SequenceLearner
from foldstack.nets.word_vectors import WordVectors, WordVectorsConfig
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import NetworkSettings, Words
from foldstack.text.words import SPECIAL, WordTokenizer, kind_of

FILE = "words.json"


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
        return WordVectors(config), tokenizer

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
