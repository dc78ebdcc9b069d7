"""TF-IDF of word or character n-grams, number for number scikit-learn's, for millions of texts.

`TfidfVectorizer` makes a Python string of each n-gram of each text, and keeps the counts of all n-grams
that ever occur in one matrix before it drops the rare ones: a million short texts take that over 8 GB.
Here n-grams are 64-bit hashes, counted in arrays, some hundred thousand at a time, and strings are made
of those only that occur in enough texts. Two n-grams of one hash would be counted together: among ten
million different ones that happens with a chance of 3 in a million.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer

from foldstack.near import chunks, mix

PIECE = 500_000  # characters at once
WORD = re.compile(r"(?u)\b\w+\b")  # one-letter words, too
SPACES = re.compile(r"\s\s+")


class NgramTfidf:
    """What scikit-learn's TfidfVectorizer is with `sublinear_tf`, words of one letter, and float64.

    analyzer: `word` or `char`, of texts in lower case; for `char` repeated white space is one space.
    ngram_range: lowest and highest n. min_df: the least number of texts that have an n-gram.
    max_features: of more n-grams, those that occur most often. vocabulary, idf: of a fitted one.

    Attributes:
        vocabulary_: the n-grams, sorted, which are the columns of `transform`.
        idf_: (vocabulary,) float64.
    """

    def __init__(
        self,
        analyzer: str,
        ngram_range: tuple[int, int],
        *,
        min_df: int = 1,
        max_features: int | None = None,
        vocabulary: Sequence[str] = (),
        idf: np.ndarray | None = None,
    ):
        self.analyzer, self.ngram_range = analyzer, tuple(ngram_range)
        self.min_df, self.max_features = min_df, max_features
        self.vocabulary_, self.idf_ = list(vocabulary), idf
        self._reader = _Words() if analyzer == "word" else _Characters()
        self._columns: pd.Index | None = None

    def fit(self, texts: Sequence[str]) -> NgramTfidf:
        """Raises ValueError where no n-gram is in enough of the texts."""
        terms, frequency, documents = [], [], []
        for n, found in self._count(texts).items():
            kept = found.take(found.documents >= self.min_df)
            terms += self._terms(texts, kept.place, n)
            frequency.append(kept.frequency)
            documents.append(kept.documents)
        if not terms:
            raise ValueError("no n-gram is in enough of the texts")
        order = np.array(sorted(range(len(terms)), key=terms.__getitem__))
        if self.max_features is not None and len(terms) > self.max_features:
            # Of equally frequent ones those that scikit-learn happens to take.
            often = -np.concatenate(frequency)[order].astype(float)
            order = order[np.sort(often.argsort()[: self.max_features])]
        self.vocabulary_, self._columns = [terms[i] for i in order.tolist()], None
        self.idf_ = np.log((len(texts) + 1) / (np.concatenate(documents)[order] + 1)) + 1
        return self

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """(n, vocabulary) float64, each row of length one, its columns ascending."""
        if self._columns is None:
            self._columns = self._look_up()
        tfidf = TfidfTransformer(sublinear_tf=True)
        tfidf.idf_ = self.idf_
        counts = (self._counts_of(texts[part]) for part in pieces(texts))
        found = (tfidf.transform(each, copy=False) for each in counts)
        return stack_rows(found, len(self.vocabulary_))

    def _count(self, texts: Sequence[str]) -> dict[int, Counts]:
        """Every n-gram of the texts, for each n."""
        low, high = self.ngram_range
        tallies = {n: _Tally() for n in range(low, high + 1)}
        self._reader.start()
        for part in pieces(texts):
            units, lengths = self._reader.units(texts[part], learn=True)
            begin = np.cumsum(lengths) - lengths
            text = np.repeat(np.arange(len(lengths)), lengths)
            for n, at, hashes in _ngrams(units, lengths, low, high):
                of = text[at]
                tallies[n].add(Counts.of(hashes, (of + part.start) << 32 | (at - begin[of])))
        return {n: tally.total() for n, tally in tallies.items()}

    def _terms(self, texts: Sequence[str], places: np.ndarray, n: int) -> list[str]:
        """The n-grams that stand at these places (a text << 32 | how many units stand before)."""
        terms = [""] * len(places)
        order = np.argsort(places)
        last, cut = -1, None
        for i, place in zip(order.tolist(), places[order].tolist(), strict=True):
            text, at = place >> 32, place & 0xFFFFFFFF
            if text != last:
                last, cut = text, self._reader.read(texts[text])
            terms[i] = self._reader.join(cut[at : at + n])
        return terms

    def _look_up(self) -> pd.Index:
        """The hashes of the vocabulary, in its order."""
        self._reader.start()
        hashes = np.zeros(len(self.vocabulary_), dtype=np.uint64)
        for part in pieces(self.vocabulary_):
            units, lengths = self._reader.units(self.vocabulary_[part], learn=True, whole=True)
            text = np.repeat(np.arange(len(lengths)), lengths)
            for n, at, found in _ngrams(units, lengths, 1, int(lengths.max(initial=0))):
                whole = lengths[text[at]] == n
                hashes[text[at][whole] + part.start] = found[whole]
        return pd.Index(hashes)

    def _counts_of(self, texts: Sequence[str]) -> csr_matrix:
        units, lengths = self._reader.units(texts)
        text = np.repeat(np.arange(len(lengths)), lengths)
        bits = max(len(self.vocabulary_) - 1, 1).bit_length()
        entries = [np.zeros(0, dtype=np.int64)]
        for _, at, hashes in _ngrams(units, lengths, *self.ngram_range):
            column = self._columns.get_indexer(hashes)
            known = column >= 0
            entries.append(text[at[known]] << bits | column[known])
        entry = np.sort(np.concatenate(entries))
        start = np.flatnonzero(np.r_[True, entry[1:] != entry[:-1]][: len(entry)])
        count = np.diff(np.r_[start, len(entry)]).astype(float)
        entry = entry[start]
        offsets = np.searchsorted(entry >> bits, np.arange(len(texts) + 1))
        column = (entry & ((1 << bits) - 1)).astype(np.int32)
        return csr_matrix((count, column, offsets), shape=(len(texts), len(self.vocabulary_)))


def pieces(texts: Sequence[str]) -> Iterator[slice]:
    """Consecutive texts, of some hundred thousand characters together."""
    return chunks(np.array([len(text) + 1 for text in texts], dtype=np.int64), PIECE)


def stack_rows(parts: Iterable[csr_matrix], width: int) -> csr_matrix:
    """The rows of all parts, each taken in as it comes, so that memory holds them only once."""
    data, columns, offsets = np.empty(0), np.empty(0, dtype=np.int32), [np.zeros(1, dtype=np.int64)]
    for part in parts:
        begin = len(data)
        for array, more in ((data, part.data), (columns, part.indices)):
            array.resize(begin + part.nnz, refcheck=False)  # in place, where the system can
            array[begin:] = more
        offsets.append(part.indptr[1:].astype(np.int64) + begin)
    offsets = np.concatenate(offsets)
    return csr_matrix((data, columns, offsets), shape=(len(offsets) - 1, width), copy=False)


# What n-grams are made of


class _Characters:
    join = staticmethod(str)

    def start(self) -> None:
        pass

    def read(self, text: str) -> str:
        return SPACES.sub(" ", text.lower())

    def units(
        self, texts: Sequence[str], learn: bool = False, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """((c,) code points, (n,) how many each text has); whole: of texts that are as read."""
        cut = texts if whole else [self.read(text) for text in texts]
        codes = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), dtype="<u4")
        return codes.astype(np.uint64), np.array([len(text) for text in cut], dtype=np.int64)


class _Words:
    """Words by numbers, which go on from text to text; 0 for one that was not learned."""

    join = staticmethod(" ".join)

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def start(self) -> None:
        self.numbers = {}

    def read(self, text: str) -> list[str]:
        return WORD.findall(text.lower())

    def units(
        self, texts: Sequence[str], learn: bool = False, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """((w,) numbers of words, (n,) how many each text has); whole: of texts that are as read."""
        cut = [text.split(" ") if whole else self.read(text) for text in texts]
        known = self.numbers
        if learn:
            numbers = [known.setdefault(word, len(known) + 1) for words in cut for word in words]
        else:
            numbers = [known.get(word, 0) for words in cut for word in words]
        lengths = np.array([len(words) for words in cut], dtype=np.int64)
        return np.array(numbers, dtype=np.uint64), lengths


def _ngrams(
    units: np.ndarray, lengths: np.ndarray, low: int, high: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(n, where the n-grams of this n begin, their hashes), within texts of so many units each."""
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(units))
    at, hashes = np.arange(len(units)), np.zeros(len(units), dtype=np.uint64)
    for n in range(1, high + 1):
        kept = left[at] >= n
        at, hashes = at[kept], hashes[kept]
        hashes = mix(hashes, units[at + n - 1])
        if n >= low:
            yield n, at, hashes


# Counting


@dataclass(frozen=True)
class Counts:
    """(k,) different n-grams by ascending hash: how often each occurs, in how many texts, and where
    the first one stands.
    """

    hashes: np.ndarray
    frequency: np.ndarray
    documents: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray, places: np.ndarray) -> Counts:
        """Of n-grams at these places, which ascend."""
        order = np.argsort(hashes, kind="stable")
        hashes, places = hashes[order], places[order]
        new = np.r_[True, hashes[1:] != hashes[:-1]][: len(hashes)]
        start = np.flatnonzero(new)
        new[1:] |= places[1:] >> 32 != places[:-1] >> 32
        texts = np.add.reduceat(new, start, dtype=np.int64) if len(start) else start
        often = np.diff(np.r_[start, len(hashes)])
        return cls(hashes[start], often, texts, places[start])

    def take(self, index: np.ndarray) -> Counts:
        return Counts(*(getattr(self, field.name)[index] for field in fields(self)))

    def and_then(self, more: Counts) -> Counts:
        """Counted together with those of later texts."""
        both = Counts(
            *(np.concatenate([getattr(x, f.name) for x in (self, more)]) for f in fields(self))
        )
        order = np.argsort(both.hashes, kind="stable")
        both = both.take(order)
        start = np.flatnonzero(np.r_[True, both.hashes[1:] != both.hashes[:-1]][: len(order)])
        if not len(start):
            return both
        often, texts = (np.add.reduceat(x, start) for x in (both.frequency, both.documents))
        return Counts(both.hashes[start], often, texts, both.place[start])


class _Tally:
    """A sum of counts, of which only those of like size are joined: each is moved log times."""

    def __init__(self) -> None:
        self._parts: list[Counts] = []

    def add(self, counts: Counts) -> None:
        self._parts.append(counts)
        while len(self._parts) > 1 and self._size(-2) < 2 * self._size(-1):
            self._join()

    def _size(self, part: int) -> int:
        return len(self._parts[part].hashes)

    def _join(self) -> None:
        last = self._parts.pop()
        self._parts[-1] = self._parts[-1].and_then(last)

    def total(self) -> Counts:
        while len(self._parts) > 1:
            self._join()
        nothing = np.zeros(0, dtype=np.int64)
        return self._parts[0] if self._parts else Counts(nothing.view("u8"), *[nothing] * 3)
