"""The learner of networks from scratch: word vectors and a head, learned together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.guess.contents import LOOKED_AT
from foldstack.learners import LearnerContext
from foldstack.learners.ngram_choice import choose_cut
from foldstack.learners.sequence import SequenceLearner
from foldstack.near import chunks
from foldstack.nets.huffman import HuffmanTree
from foldstack.nets.word_vectors import BOUND, WordVectors, WordVectorsConfig, hashed
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import AUTO, NetworkSettings, RunFacts, Words
from foldstack.techniques.auto import choose
from foldstack.techniques.network_preset import OF_WORDS
from foldstack.text.tokens import tokenise
from foldstack.text.trained_vectors import train_vectors
from foldstack.text.vector_files import look_up_some
from foldstack.text.word_reader import NONE, WordLists
from foldstack.text.words import (
    BETWEEN,
    END,
    END_MARKS,
    PAD,
    SPECIAL,
    UNKNOWN,
    WordTokenizer,
    kind_of,
    words_of,
)
from foldstack.training import loop

FILE = "words.json"
TOKENS = 1_000_000  # at once
LONGEST = 1_000_000  # tokens: texts are not cut


class NetworkLearner(SequenceLearner):
    """Word vectors from a uniform distribution, with a head over them."""

    settings: NetworkSettings

    def __init__(self, settings: NetworkSettings, context: LearnerContext):
        super().__init__(settings, context)
        self.cache = None  # each run has its own vocabulary, and words are quickly found
        self._texts = context.texts

    def prepare(self, train: Rows, learned: int | None = None) -> loop.Examples:
        examples = super().prepare(train, learned)
        s = self.settings.training
        if s.max_length == AUTO:
            why = f"{s.length_quantile:.0%} of the rows are not cut"
            self.chosen["training.max_length"] = {"value": self.encoder.max_length, "why": why}
        return examples

    def _body(self, train: Rows, learned: int | None) -> tuple[torch.nn.Module, WordTokenizer]:
        self._choose_bias(train)
        if self.start:
            return self._started_body()
        first = (text for row in train.texts[:LOOKED_AT] for text in row)
        words = choose_cut(self.settings.words, first)
        lists = WordLists.read(words, self.files, OF_WORDS)
        ends = END_MARKS if self.settings.head.reads_sentences else ()
        texts = _segments(train.texts, self.settings.prefix)
        tokenizer = kind_of(words).fit(texts, words, lists, ends)
        say(f"{len(tokenizer) - len(SPECIAL):,} {words.units} in the vocabulary")
        torch.manual_seed(self.seed)
        s, vectors = self.settings, None
        if s.vectors is not None:
            vectors = torch.from_numpy(self._vectors(train, tokenizer))
        size = s.size if vectors is None else vectors.shape[1]
        config = WordVectorsConfig(
            len(tokenizer), size, s.word_dropout, s.spatial_dropout, averages=s.averages
        )
        if s.vectors is not None:
            config = replace(config, mode=s.vectors.mode)
        if ends:
            of_ends = tokenizer.convert_tokens_to_ids([*ends, BETWEEN, END])
            config = replace(config, sentence_ends=of_ends)
        if s.ngrams > 1:
            kept = self._ngrams(train, tokenizer)
            say(f"{len(kept):,} word n-grams with a vector")
            config = replace(config, ngrams=s.ngrams, buckets=s.buckets, ngram_rows=len(kept))
        made = WordVectors(config)
        if vectors is not None:
            made.begin_from(vectors)
        if s.ngrams > 1:
            made.ngrams.rows[kept] = torch.arange(1, len(kept) + 1, dtype=torch.int32)
        return made, tokenizer

    def _started_body(self) -> tuple[torch.nn.Module, WordTokenizer]:
        """Return the words and vectors of the model to start from, with this preset's dropout."""
        s = self.settings
        if not (self.start / FILE).exists():
            raise InputError(
                f"start_from {s.start_from}: it is no network from scratch: name a model of learner "
                "network"
            )
        body, tokenizer = self._empty_body(self.start)
        own, its = s.words, tokenizer.words
        same = {
            "words": own == its
            or (own.cut == AUTO and own == its.model_copy(update={"cut": AUTO})),
            "size": "size" not in s.model_fields_set or s.size == body.config.hidden_size,
            "ngrams": s.ngrams == body.config.ngrams,
            "buckets": s.ngrams == 1 or s.buckets == body.config.buckets,
            "ends of sentences": not s.head.reads_sentences or bool(body.config.sentence_ends),
        }
        for name, is_same in same.items():
            if not is_same:
                raise InputError(
                    f"start_from {s.start_from}: it has other {name} than this preset: give both the "
                    "same, or name another model"
                )
        dropout = {"word_dropout": s.word_dropout, "spatial_dropout": s.spatial_dropout}
        ends = body.config.sentence_ends if s.head.reads_sentences else ()
        return WordVectors(
            replace(body.config, **dropout, averages=s.averages, sentence_ends=ends)
        ), tokenizer

    def _vectors(self, train: Rows, tokenizer: WordTokenizer) -> np.ndarray:
        """Return the (vocabulary, size) float32 vectors that the words begin from."""
        s, ids = self.settings.vectors, tokenizer.get_vocab()
        words, unit = sorted(ids, key=ids.get)[len(SPECIAL) :], tokenizer.words.units
        if s.train:
            found, known, unknown = self._trained(train, tokenizer, words)
            whose = f"trained by {s.train}"
        else:
            found, known = look_up_some("vectors.file", self.files["vectors.file"], words, unit)
            unknown, whose = None, f"of {s.file}"
        say(f"{known.sum():,} of {len(words):,} {unit} have a vector {whose}")
        return _with_drawn(found, known, unknown, self.seed)

    def _trained(
        self, train: Rows, tokenizer: WordTokenizer, vocabulary: list[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return the vectors of these words, which have one, and that of unknown words, if any."""
        s, words = self.settings, tokenizer.words
        texts = train.texts if s.vectors.texts == "run" else self._texts()
        read = list(words_of(_segments(texts, s.prefix), words, tokenizer.lists))
        others: list[str] = []
        if s.vectors.train == "fasttext":
            others = sorted({word for text in read for word in text} - set(vocabulary))
        vectors, known = train_vectors(
            read,
            [*vocabulary, *others],
            s.vectors,
            size=s.size,
            unit=words.units,
            min_count=words.min_count,
            seed=self.seed,
        )
        n = len(vocabulary)
        return vectors[:n], known[:n], vectors[n:].mean(axis=0) if others else None

    def _choose_bias(self, train: Rows) -> None:
        """Choose `head_bias`, if it is auto, by these rows."""
        if self.settings.head_bias != AUTO:
            return
        facts = RunFacts.of(self.task.kind, train.targets, train.weights)
        facts = replace(facts, adds_log_priors=self.settings.adds_log_priors)
        rule = choose("head_bias", facts)
        self.settings = self.settings.model_copy(update={"head_bias": rule.value})
        self.chosen["head_bias"] = {"value": rule.value, "why": rule.when}

    def _ngrams(self, train: Rows, tokenizer: WordTokenizer) -> torch.Tensor:
        """Return the hashes, ascending, of word n-grams that enough training texts hold."""
        s = self.settings
        read = tokenise(train, tokenizer, max_length=LONGEST, prefix=s.prefix)
        texts = torch.zeros(s.buckets, dtype=torch.int32)
        for some in chunks(read.lengths, TOKENS):
            # Side by side, not padded: one text may be as long as a book.
            begin, end = read.offsets[some.start], read.offsets[some.stop]
            ids = torch.from_numpy(read.flat[begin:end].astype(np.int64))
            lengths = torch.from_numpy(read.lengths[some])
            text = torch.arange(len(lengths)).repeat_interleave(lengths)
            ends = lengths.cumsum(0)[text]
            found = [
                text[begins[0]] * s.buckets + hashes[begins]
                for hashes, begins in hashed(ids[None], ends[None], s.ngrams, s.buckets)
            ]
            of_texts = torch.unique(torch.cat(found)) % s.buckets
            texts += torch.bincount(of_texts, minlength=s.buckets).int()
        return torch.nonzero(texts >= s.words.min_count).squeeze(1)

    @property
    def _dense(self) -> tuple[int, ...]:
        return self.settings.dense

    @property
    def _tree(self) -> HuffmanTree | None:
        return HuffmanTree(len(self.task.outputs)) if self.settings.softmax != "flat" else None

    def _save_body(self, folder: Path) -> None:
        tokenizer = self.encoder.tokenizer
        words = tokenizer.words.model_dump(mode="json")
        facts = {"words": words, "body": self.model.backbone.config.to_dict()}
        if tokenizer.lists != NONE:
            facts["lists"] = tokenizer.lists.to_json()
        write_json(folder / FILE, facts)

    def _empty_body(self, folder: Path) -> tuple[torch.nn.Module, WordTokenizer]:
        facts = read_json(folder / FILE)
        words = Words.model_validate(facts["words"])
        lists = WordLists.from_json(facts["lists"]) if "lists" in facts else NONE
        tokenizer = kind_of(words).read(folder, words, lists)
        return WordVectors(WordVectorsConfig(**facts["body"])), tokenizer


def _segments(texts: Iterable[tuple[str, ...]], prefix: str) -> Iterator[str]:
    """Yield each row's text with the prefix, as it is read; of several segments all in one."""
    for row in texts:
        yield prefix + " ".join(row)


def _with_drawn(
    found: np.ndarray, known: np.ndarray, unknown: np.ndarray | None, seed: int
) -> np.ndarray:
    """Return the vectors of special tokens and words; draw those that are not known.

    They are uniform with the variance of those that are (Kim 2014).

    Args:
        found: (n, size) vectors of words.
        known: (n,) whether a word has one.
        unknown: (size,) vector of [UNK]; None to draw it.
        seed: of the draw.

    Returns:
        (special tokens + n, size) float32; that of [PAD] is zero.
    """
    bound = np.sqrt(3 * found[known].var(dtype=np.float64)) if known.any() else BOUND
    shape = (len(SPECIAL) + len(found), found.shape[1])
    vectors = np.random.default_rng(seed).uniform(-bound, bound, shape).astype(np.float32)
    vectors[SPECIAL.index(PAD)] = 0
    if unknown is not None:
        vectors[SPECIAL.index(UNKNOWN)] = unknown
    vectors[len(SPECIAL) :][known] = found[known]
    return vectors
