"""Keywords of long texts: the words of highest TF-IDF, or terms that the user lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from transformers import PreTrainedTokenizerBase

from foldstack.rows import normalise
from foldstack.text.sequences import Stretches, encode, join

MAX_WORDS = 200_000
CHUNK = 2000
# Thai to Burmese, Khmer, kana, Han: scripts without spaces between words.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
SPACED = rf"[^\W{UNSPACED}]"
RUNS = re.compile(rf"[{UNSPACED}]+|{SPACED}{{2,}}")
UNSPACED_RUN = re.compile(rf"[{UNSPACED}]")
IN_WORD = re.compile(rf"{SPACED}{{2}}")


@dataclass(frozen=True)
class Found:
    """Keywords of n texts: (n,) counts per text, and the keywords of all texts in order."""

    counts: np.ndarray
    words: list[str]


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


def find_terms(texts: Sequence[str], terms: Sequence[str]) -> Found:
    """Return the listed terms that occur in each text, once each, in order of occurrence.

    Terms match whole words, except in scripts without spaces. Width and case are ignored.
    """
    listed = {normalise((term,)): term for term in terms}
    counts, words = [], []
    for text in texts:
        text = normalise((text,))
        places = sorted((_place(text, form), form) for form in listed if form in text)
        found = [listed[form] for at, form in places if at >= 0]
        counts.append(len(found))
        words += found
    return Found(np.array(counts, dtype=np.int64), words)


def _place(text: str, term: str) -> int:
    """Return the position of the term's first match at word boundaries, -1 without one."""
    at = text.find(term)
    while at >= 0 and _is_inside_word(text, at, at + len(term)):
        at = text.find(term, at + 1)
    return at


def _is_inside_word(text: str, start: int, end: int) -> bool:
    """Return whether a word extends beyond these characters."""
    before = start > 0 and IN_WORD.match(text, start - 1)
    return bool(before or IN_WORD.match(text, end - 1))


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
