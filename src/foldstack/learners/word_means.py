"""Vectors of texts as weighted means of their words' vectors, fitted inside a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from foldstack.errors import InputError
from foldstack.files import placing, read_json, write_json
from foldstack.guess.contents import LOOKED_AT
from foldstack.learners import LearnerContext
from foldstack.learners.linear_fits import ITERATIONS
from foldstack.learners.ngram_choice import choose_cut
from foldstack.learners.regressions import sides
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import SvmWordsSource, VectorsSettings, WordMeanSource, Words, WordsSource
from foldstack.techniques.vector_sources import OF_WORDS
from foldstack.text.trained_vectors import train_vectors
from foldstack.text.vector_files import look_up_some
from foldstack.text.word_reader import NONE, WordLists
from foldstack.text.words import frequent, words_of

WORDS, VECTORS = "words.json", "words.safetensors"
FOLD_SEED = 0  # seeds of a run differ in nothing else


class WordMeans:
    """Means of vectors that are known before the run learns labels.

    Attributes:
        vocabulary: the words that have a vector.
        idf: (words,) weight of each word where it occurs.
        word_vectors: (words, size) float64.
    """

    kept = False
    precision = None

    def __init__(self, settings: VectorsSettings, context: LearnerContext):
        self.source: WordsSource = settings.source
        self.seed, self.files, self.all_texts = context.seed, context.files, context.texts
        self.words: Words = self.source.words
        self.lists = NONE
        self.vocabulary: list[str] = []
        self.idf = np.zeros(0)
        self.word_vectors = np.zeros((0, 0))

    @property
    def size(self) -> int:
        return self.word_vectors.shape[1]

    def fit(self, texts: Sequence[str], rows: Rows) -> None:
        self._fit_vocabulary(texts)
        vectors, known = self._known_vectors(texts)
        say(f"{known.sum():,} of {len(known):,} {self.words.units} have a vector")
        self.vocabulary = [w for w, k in zip(self.vocabulary, known, strict=True) if k]
        self.idf, self.word_vectors = self.idf[known], vectors[known].astype(np.float64)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, size) float32 vectors; that of a text without any known word is zero."""
        return (self._shares(texts) @ self.word_vectors).astype(np.float32)

    def _fit_vocabulary(self, texts: Sequence[str]) -> None:
        self.words = choose_cut(self.source.words, texts[:LOOKED_AT])
        self.lists = WordLists.read(self.words, self.files, OF_WORDS)
        found = frequent(self._words_of(texts), self.words)
        if not found:
            s = self.source
            raise InputError(
                f"source {s.name}: none of the {s.words.units} of the {len(texts):,} training texts "
                f"occurs in {s.words.min_count} of them: set a smaller source.words.min_count, or take "
                "source backbone"
            )
        self.vocabulary = list(found)
        self.idf = np.ones(len(found))
        if self.source.weighting == "tfidf":
            documents = np.array(list(found.values()))
            self.idf = np.log((len(texts) + 1) / (documents + 1)) + 1

    def _known_vectors(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return (words, size) vectors of the vocabulary, and (words,) whether each is known."""
        source: WordMeanSource = self.source
        s, unit = source.vectors, self.words.units
        if s.file is not None:
            setting = "source.vectors.file"
            return look_up_some(setting, self.files[setting], self.vocabulary, unit)
        if s.texts == "workspace":
            texts = [text for row in self.all_texts() for text in row]
        return train_vectors(
            list(self._words_of(texts)),
            self.vocabulary,
            s,
            size=source.size,
            unit=unit,
            min_count=self.words.min_count,
            seed=self.seed,
        )

    def _words_of(self, texts: Iterable[str]) -> Iterator[list[str]]:
        return words_of(texts, self.words, self.lists)

    def _weighted(self, texts: Sequence[str]) -> csr_matrix:
        """Return (n, words) counts of words times their weights."""
        counter = CountVectorizer(analyzer=list, vocabulary=self.vocabulary)
        return counter.transform(self._words_of(texts)).multiply(self.idf).tocsr()

    def _shares(self, texts: Sequence[str]) -> csr_matrix:
        """Return (n, words) weights that sum to 1 in each text."""
        return normalize(self._weighted(texts), norm="l1")

    def save(self, folder: Path) -> None:
        described = {
            "words": self.words.model_dump(mode="json"),
            "lists": self.lists.to_json(),
            "vocabulary": self.vocabulary,
        }
        write_json(folder / WORDS, described)
        tensors = {"idf": self.idf, "vectors": np.ascontiguousarray(self.word_vectors)}
        with placing(folder / VECTORS) as beside:
            save_file(tensors, beside)

    def load(self, folder: Path) -> None:
        tensors, described = load_file(folder / VECTORS), read_json(folder / WORDS)
        self.words, self.vocabulary = Words(**described["words"]), described["vocabulary"]
        self.lists = WordLists.from_json(described["lists"])
        self.idf, self.word_vectors = tensors["idf"], tensors["vectors"]


class SvmWords(WordMeans):
    """Means of words' weights in linear SVMs, one per class."""

    source: SvmWordsSource

    def fit(self, texts: Sequence[str], rows: Rows) -> np.ndarray | None:
        self._fit_vocabulary(texts)
        x = normalize(self._weighted(rows.joined_texts()))
        self.word_vectors = self._weights(x, rows)
        return self._out_of_fold(texts, x, rows)

    def _weights(self, x: csr_matrix, rows: Rows) -> np.ndarray:
        """Return (words, outputs) weights of SVMs that learn these rows' (n, words) features."""
        found = np.zeros((x.shape[1], rows.targets.shape[1]))
        for k, target in enumerate(rows.targets.T):
            keep, y, weights = sides(target, rows.weights)
            if len(np.unique(y)) < 2:  # nothing to learn from
                continue
            model = LinearSVC(C=self.source.C, random_state=self.seed, max_iter=ITERATIONS)
            found[:, k] = model.fit(x[keep], y, sample_weight=weights).coef_.ravel()
        return found

    def _out_of_fold(self, texts: Sequence[str], x: csr_matrix, rows: Rows) -> np.ndarray | None:
        """Return the vectors of the training texts by SVMs of the other inner folds.

        Copies of a text share a fold.
        """
        names, group = np.unique(rows.groups, return_inverse=True)
        count = min(self.source.folds, len(names))
        if count < 2:
            say("vectors: the rows are of one group: their vectors are from SVMs that know them")
            return None
        fold = (np.random.default_rng(FOLD_SEED).permutation(len(names)) % count)[group]
        shares, of_text = self._shares(texts), np.repeat(fold, len(texts) // len(rows))
        found = np.empty((len(texts), self.size), np.float32)
        for k in range(count):
            train = np.flatnonzero(fold != k)
            found[of_text == k] = shares[of_text == k] @ self._weights(x[train], rows.take(train))
        return found
