"""How alike every two texts of a row are, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import log
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags

from foldstack.rows import normalise
from foldstack.text.features import PLACES
from foldstack.text.ngrams import NgramTfidf, words_of_text

GRAM = 3  # characters
K1, B = 1.5, 0.75  # of BM25
MOST_WORDS = 200_000  # the most frequent ones, that BM25 and the cosine know
LONGEST = 2_000  # characters and words that edits are counted of; the cost grows with the square

OVERLAPS = (
    "first_in_second",
    "second_in_first",
    "shared_characters",
    "contained_characters",
    "longer",
    "characters_apart",
    "words_apart",
)
EDITS = ("equal_characters", "equal_words")
WEIGHED = ("cosine", "bm25", "bm25_back")
# Exchanging the two texts exchanges these columns, negates `longer` and leaves the others.
EXCHANGED = {"first_in_second": "second_in_first", "bm25": "bm25_back"}


def overlaps(texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Return (n, pairs of segments times 7) float64, the columns `OVERLAPS` of every two segments.

    `first_in_second` is the share of the first text's different words that the second one has,
    `shared_characters` the Jaccard similarity of the sets of strings of three characters of the
    normalised texts, `contained_characters` the share of the smaller set that the larger one holds; 0
    without any. `longer` is ln((1 + a) / (1 + b)) for a and b characters, `characters_apart` its size,
    and `words_apart` that of words.
    """
    return _of_every_two(texts, _overlaps)


def overlap_names(segments: int) -> list[str]:
    """Return the column names of `overlaps` of rows of this many segments."""
    twos = list(combinations(PLACES[:segments], 2))
    both = ["pair"] if len(twos) == 1 else ["+".join(two) for two in twos]
    return [f"{two}:{name}" for two in both for name in OVERLAPS] if twos else []


def edits(texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Return (n, pairs of segments times 2) float64, the columns `EDITS` of every two segments.

    1 less the edit distance (Levenshtein 1966) as a share of the longer text, of characters of the
    normalised texts and of words; of the first 2,000 each. 1 for two empty texts.
    """
    return _of_every_two(texts, _edits)


def _of_every_two(
    texts: Sequence[tuple[str, ...]], compare: Callable[[str, str], list[float]]
) -> np.ndarray:
    found = [[x for two in combinations(row, 2) for x in compare(*two)] for row in texts]
    return np.array(found, dtype=np.float64).reshape(len(texts), len(found[0]) if found else 0)


def _overlaps(a: str, b: str) -> list[float]:
    words, others = words_of_text(a), words_of_text(b)
    one, other = normalise((a,)), normalise((b,))
    longer = log((1 + len(one)) / (1 + len(other)))
    _, contained, back = _alike(set(words), set(others))
    alike, *grams = _alike(_grams(one), _grams(other))
    apart = abs(log((1 + len(words)) / (1 + len(others))))
    return [contained, back, alike, max(grams), longer, abs(longer), apart]


def _alike(one: set, other: set) -> tuple[float, float, float]:
    """Return the Jaccard similarity, and how much of each set the other one holds."""
    both = len(one & other)
    whole = (len(one | other), len(one), len(other))
    return tuple(both / max(size, 1) for size in whole)


def _grams(text: str) -> set[str]:
    return {text[i : i + GRAM] for i in range(len(text) - GRAM + 1)}


def _edits(a: str, b: str) -> list[float]:
    from rapidfuzz.distance import Levenshtein  # an extra

    return [
        Levenshtein.normalized_similarity(read(a)[:LONGEST], read(b)[:LONGEST])
        for read in (lambda text: normalise((text,)), words_of_text)
    ]


@dataclass(frozen=True)
class WordWeights:
    """Words with the number of texts that have each: what BM25 and a cosine weigh words by.

    Attributes:
        words: sorted.
        documents: (words,) texts that have the word.
        texts: their number.
        length: mean number of words per text.
    """

    words: tuple[str, ...]
    documents: tuple[int, ...]
    texts: int
    length: float

    @classmethod
    def of(cls, texts: Sequence[tuple[str, ...]]) -> WordWeights:
        """Count the words of the different segments of n rows."""
        different = list(dict.fromkeys(text for row in texts for text in row))
        try:
            fitted = _words(max_features=MOST_WORDS).fit(different)
        except ValueError:  # no text has a word
            return cls((), (), len(different), 0.0)
        documents = np.bincount(fitted.counts(different).indices, minlength=len(fitted.vocabulary_))
        length = float(np.mean([len(words_of_text(text)) for text in different]))
        return cls(tuple(fitted.vocabulary_), tuple(documents.tolist()), len(different), length)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> WordWeights:
        words, documents = (tuple(stored[key]) for key in ("words", "documents"))
        return cls(words, documents, stored["texts"], stored["length"])

    @cached_property
    def _tfidf(self) -> NgramTfidf:
        idf = np.log((self.texts + 1) / (np.array(self.documents) + 1)) + 1
        return _words(vocabulary=self.words, idf=idf)

    def apply(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return (n, pairs of segments times 3) float64, the columns `WEIGHED` of every two segments.

        `cosine` is that of TF-IDF vectors; `bm25` scores the second text by the words of the first,
        `bm25_back` the first by those of the second (Robertson and Zaragoza 2009, as in Lucene).
        """
        columns = list(zip(*texts, strict=True))
        twos = list(combinations(range(len(columns)), 2))
        if not self.words or not texts:
            return np.zeros((len(texts), len(WEIGHED) * max(len(twos), 1)))
        vectors = [self._tfidf.transform(column) for column in columns]
        counts = [self._tfidf.counts(column) for column in columns]
        weights = [self._bm25(*both) for both in zip(counts, columns, strict=True)]
        found = []
        for a, b in twos:
            products = ((vectors[a], vectors[b]), (counts[a], weights[b]), (counts[b], weights[a]))
            found += [np.asarray(x.multiply(y).sum(axis=1)).ravel() for x, y in products]
        return np.column_stack(found)

    def _bm25(self, counts: csr_matrix, texts: Sequence[str]) -> csr_matrix:
        """Return (n, words) what each word of a text adds to its score."""
        documents = np.array(self.documents)
        idf = np.log1p((self.texts - documents + 0.5) / (documents + 0.5))
        lengths = np.array([len(words_of_text(text)) for text in texts])
        most = K1 * (1 - B + B * lengths / self.length)
        weights = counts.copy()
        weights.data /= weights.data + np.repeat(most, np.diff(counts.indptr))
        return csr_matrix(weights @ diags(idf))


def _words(**fitted: Any) -> NgramTfidf:
    return NgramTfidf("word", (1, 1), words="rjieba", **fitted)
