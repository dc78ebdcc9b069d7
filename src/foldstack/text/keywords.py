"""Words that say what a long text is about: its own by TF-IDF, or those that a user has listed."""

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
# Thai to Burmese, Khmer, kana, Han: written without spaces between words.
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
    """Words of n texts, one text after the other: (n,) how many each has, and all of them."""

    counts: np.ndarray
    words: list[str]


def words_of(text: str) -> list[str]:
    """In lower case, of two letters at least; where scripts have no spaces, every two characters."""
    out = []
    for run in RUNS.findall(text.lower()):
        if UNSPACED_RUN.match(run):
            out += [run[i : i + 2] for i in range(len(run) - 1)]
        else:
            out.append(run)
    return out


class KeywordTable:
    """TF-IDF (Spärck Jones 1972) of words, to rank the words of a text by.

    words: sorted; idf: (words,) float64.
    """

    def __init__(self, words: Sequence[str], idf: np.ndarray):
        self.words, self.idf = list(words), np.asarray(idf, dtype=np.float64)

    @classmethod
    def fit(cls, texts: Sequence[str]) -> KeywordTable:
        """Of the words that two of these texts have at least, the most frequent 200,000."""
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
        """The `count` words of the highest TF-IDF of each text, the highest first."""
        if not self.words:
            return Found(np.zeros(len(texts), dtype=np.int64), [])
        vectorizer = TfidfVectorizer(
            analyzer=words_of,
            sublinear_tf=True,  # else `the` wins by its number alone
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
    """(rows, columns) of each row's `count` largest values, the largest first, of equals the left."""
    sizes = np.diff(values.indptr)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((values.indices, -values.data, rows))
    kept = order[np.arange(len(order)) - np.repeat(values.indptr[:-1], sizes) < count]
    return rows[kept], values.indices[kept]


def find_terms(texts: Sequence[str], terms: Sequence[str]) -> Found:
    """The terms that each text has, as they are listed, each once, in the order of the text.

    Whole words only, but where scripts have no spaces; width and case do not count.
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
    """Where the term first stands as a word or words of its own, -1 where it does not."""
    at = text.find(term)
    while at >= 0 and _is_inside_word(text, at, at + len(term)):
        at = text.find(term, at + 1)
    return at


def _is_inside_word(text: str, start: int, end: int) -> bool:
    """Whether the word goes on before or after these characters."""
    before = start > 0 and IN_WORD.match(text, start - 1)
    return bool(before or IN_WORD.match(text, end - 1))


def as_tokens(
    found: Found, tokenizer: PreTrainedTokenizerBase, room: int, separator: np.ndarray
) -> Stretches:
    """The tokens of each text's words with the separator between them, `room` of them at most.

    A word that has no room any more is left out whole, with those after it.
    """
    # Each word is tokenised once, with a space before it: byte-level tokenizers know it so from
    # inside texts, and to others it is all the same.
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
