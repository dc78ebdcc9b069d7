"""Keywords of long texts: the words of highest TF-IDF; listed terms are found by `terms`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import PreTrainedTokenizerBase

from foldstack.text.sequences import Stretches, encode, join
from foldstack.text.terms import SPACED, UNSPACED, Found

MAX_WORDS = 200_000
CHUNK = 2000
RUNS = re.compile(rf"[{UNSPACED}]+|{SPACED}{{2,}}")
UNSPACED_RUN = re.compile(rf"[{UNSPACED}]")


def words_of(text: str) -> list[str]:
    """Return lower-cased words of at least two letters; character bigrams in scripts without spaces."""
    out = []
    for run in RUNS.findall(text.lower()):
        if UNSPACED_RUN.match(run):
            out += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            out.append(run)
    return out


class KeywordTable:
    """TF-IDF model (Spärck Jones 1972) that ranks the words of a text.

    words: sorted vocabulary. idf: (words,) float64.
    """

    def __init__(self, words: Sequence[str], idf: np.ndarray):
        self.words, self.idf = list(words), np.asarray(idf, dtype=np.float64)

    @classmethod
    def fit(cls, texts: Sequence[str]) -> KeywordTable:
        """Fit on the 200,000 most frequent words that occur in at least two texts."""
        vectorizer = TfidfVectorizer(analyzer=words_of, min_df=2, max_features=MAX_WORDS)
        try:
            vectorizer.fit(texts)
        except ValueError:  # no two texts share a word
            return cls([], np.zeros(0))
        return cls(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_)

    @classmethod
    def from_json(cls, stored: dict) -> KeywordTable:
        return cls(stored["words"], stored["idf"])

    def to_json(self) -> dict:
        return {"words": self.words, "idf": self.idf.tolist()}

    def top(self, texts: Sequence[str], count: int) -> Found:
        """Return the `count` words of highest TF-IDF per text, highest first."""
        if not self.words:
            return Found(np.zeros(len(texts), dtype=np.int64), [])
        vectorizer = TfidfVectorizer(
            analyzer=words_of,
            sublinear_tf=True,  # else `the` wins by its frequency
            vocabulary={w: i for i, w in enumerate(self.words)},
        )
        vectorizer.idf_ = self.idf
        counts, words = [np.zeros(0, dtype=np.int64)], []
        for start in range(0, len(texts), CHUNK):
            some = vectorizer.transform(texts[start : start + CHUNK])
            rows, columns = _largest(some, count)
            counts.append(np.bincount(rows, minlength=some.shape[0]))
            words += [self.words[i] for i in columns.tolist()]
        return Found(np.concatenate(counts), words)


def _largest(values: csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, columns) of the `count` largest values per row, descending; ties by column."""
    sizes = np.diff(values.indptr)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((values.indices, -values.data, rows))
    kept = order[np.arange(len(order)) - np.repeat(values.indptr[:-1], sizes) < count]
    return rows[kept], values.indices[kept]


def as_tokens(
    found: Found, tokenizer: PreTrainedTokenizerBase, room: int, separator: np.ndarray
) -> Stretches:
    """Tokenise the keywords of each text, joined by the separator and truncated at whole words.

    Args:
        found: keywords of n texts.
        tokenizer: of the backbone.
        room: most tokens per text.
        separator: (s,) token ids between two keywords.

    Returns:
        The n token sequences.
    """
    # A space before each word: byte-level tokenizers encode words inside texts with it, and other
    # tokenizers ignore it.
    distinct = {word: i for i, word in enumerate(dict.fromkeys(found.words))}
    tokens = encode([f" {word}" for word in distinct], tokenizer)
    words = tokens.take(np.array([distinct[w] for w in found.words], dtype=np.int64))
    bounds = np.concatenate([[0], np.cumsum(found.counts)])
    between = np.ones(len(words), dtype=bool)
    between[bounds[:-1][found.counts > 0]] = False
    flat, offsets = join([Stretches.repeat(separator, len(words)).kept(between), words])
    starts, rows = offsets[bounds[:-1]], np.repeat(np.arange(len(found.counts)), found.counts)
    fits = offsets[1:] - starts[rows] <= room
    kept = np.bincount(rows[fits], minlength=len(starts))
    return Stretches(flat, starts, offsets[bounds[:-1] + kept])
