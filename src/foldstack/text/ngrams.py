"""TF-IDF of word or character n-grams for millions of texts, with results equal to scikit-learn's.

`TfidfVectorizer` creates a Python string per n-gram of each text and counts all n-grams in one
matrix before it drops rare ones: over 8 GB for a million short texts. Here n-grams are 64-bit
hashes, counted in arrays in chunks. Strings are created only for n-grams that occur in enough
texts. Colliding n-grams would be counted together: among ten million distinct ones, with a
probability of 3 in a million.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import regex
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer

from foldstack.near import chunks, mix

PIECE = 500_000  # characters per chunk
WORD = re.compile(r"(?u)\b\w+\b")  # one-letter words included
LETTERS = regex.compile(r"[\p{L}\p{M}\p{N}_]+")
SPACES = re.compile(r"\s\s+")
CHINESE = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]")


class NgramTfidf:
    """Equivalent of scikit-learn's TfidfVectorizer with one-letter words and float64.

    Args:
        analyzer: `word` or `char`, on lower-cased texts; `char` collapses white space to one space.
        ngram_range: lowest and highest n.
        min_df: lowest document frequency of an n-gram.
        max_df: highest document frequency of an n-gram, as a share of the texts.
        max_features: keep only this many n-grams, the most frequent.
        sublinear: replace a count by 1 + log(count).
        words: what a word is: letters, digits and `_` in a row (`unicode`), Chinese ones of which
            are cut into words by rjieba (`rjieba`).
        rules: function from such a word to the words that remain of it, if there are rules; it cuts
            Chinese ones itself.
        vocabulary: of a fitted model.
        idf: (vocabulary,) of a fitted model.

    Attributes:
        vocabulary_: sorted n-grams, the columns of `transform`.
        idf_: (vocabulary,) float64.
    """

    def __init__(
        self,
        analyzer: str,
        ngram_range: tuple[int, int],
        *,
        min_df: int = 1,
        max_df: float = 1.0,
        max_features: int | None = None,
        sublinear: bool = True,
        words: str = "unicode",
        rules: Callable[[str], list[str]] | None = None,
        vocabulary: Sequence[str] = (),
        idf: np.ndarray | None = None,
    ):
        self.analyzer, self.ngram_range = analyzer, tuple(ngram_range)
        self.min_df, self.max_df, self.max_features = min_df, max_df, max_features
        self.sublinear, self.words = sublinear, words
        self.vocabulary_, self.idf_ = list(vocabulary), idf
        self._reader = _READERS[words]() if analyzer == "word" else _Characters()
        if rules is not None:
            self._reader = _RuledWords(rules)
        self._columns: pd.Index | None = None

    def fit(self, texts: Sequence[str]) -> NgramTfidf:
        """Learn vocabulary and idf. Raises ValueError if no n-gram occurs in enough texts."""
        terms, frequency, documents = [], [], []
        for n, found in self._count(texts).items():
            rare = found.documents < self.min_df
            kept = found.take(~rare & (found.documents <= self.max_df * len(texts)))
            terms += self._terms(texts, kept.place, n)
            frequency.append(kept.frequency)
            documents.append(kept.documents)
        if not terms:
            raise ValueError("no n-gram is in enough of the texts")
        order = np.array(sorted(range(len(terms)), key=terms.__getitem__))
        if self.max_features is not None and len(terms) > self.max_features:
            # Ties are broken as in scikit-learn.
            often = -np.concatenate(frequency)[order].astype(float)
            order = order[np.sort(often.argsort()[: self.max_features])]
        self.vocabulary_, self._columns = [terms[i] for i in order.tolist()], None
        self.idf_ = np.log((len(texts) + 1) / (np.concatenate(documents)[order] + 1)) + 1
        return self

    def transform(self, texts: Sequence[str]) -> csr_matrix:
        """Return (n, vocabulary) float64 rows of unit L2 norm, column indices ascending."""
        tfidf = TfidfTransformer(sublinear_tf=self.sublinear)
        tfidf.idf_ = self.idf_
        found = (tfidf.transform(each, copy=False) for each in self._counted(texts))
        return stack_rows(found, len(self.vocabulary_))

    def counts(self, texts: Sequence[str]) -> csr_matrix:
        """Return (n, vocabulary) float64 numbers of occurrences, column indices ascending."""
        return stack_rows(self._counted(texts), len(self.vocabulary_))

    def _counted(self, texts: Sequence[str]) -> Iterator[csr_matrix]:
        if self._columns is None:
            self._columns = self._look_up()
        return (self._counts_of(texts[part]) for part in pieces(texts))

    def _count(self, texts: Sequence[str]) -> dict[int, Counts]:
        """Count every n-gram of the texts, for each n."""
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
        """Return the n-grams at these places (text << 32 | position in units)."""
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
        """Return the hashes of the vocabulary, in its order."""
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
    """Yield slices of consecutive texts of about PIECE characters in total."""
    return chunks(np.array([len(text) + 1 for text in texts], dtype=np.int64), PIECE)


def stack_rows(parts: Iterable[csr_matrix], width: int) -> csr_matrix:
    """Stack the rows of all parts incrementally, so that memory holds them only once."""
    data, columns, offsets = np.empty(0), np.empty(0, dtype=np.int32), [np.zeros(1, dtype=np.int64)]
    for part in parts:
        begin = len(data)
        for array, more in ((data, part.data), (columns, part.indices)):
            array.resize(begin + part.nnz, refcheck=False)  # in place, if the allocator can
            array[begin:] = more
        offsets.append(part.indptr[1:].astype(np.int64) + begin)
    offsets = np.concatenate(offsets)
    return csr_matrix((data, columns, offsets), shape=(len(offsets) - 1, width), copy=False)


# Units of n-grams


class _Characters:
    """Reader of texts as code points."""

    join = staticmethod(str)

    def start(self) -> None:
        pass

    def read(self, text: str) -> str:
        return SPACES.sub(" ", text.lower())

    def units(
        self, texts: Sequence[str], learn: bool = False, whole: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ((c,) code points, (n,) number per text); whole: texts are preprocessed already."""
        cut = texts if whole else [self.read(text) for text in texts]
        codes = np.frombuffer("".join(cut).encode("utf-32-le", "surrogatepass"), dtype="<u4")
        return codes.astype(np.uint64), np.array([len(text) for text in cut], dtype=np.int64)


class _Words:
    """Reader of texts as word ids, assigned in order of appearance; 0 for an unknown word."""

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
        """Return ((w,) word ids, (n,) number per text); whole: texts are preprocessed already."""
        cut = [text.split(" ") if whole else self.read(text) for text in texts]
        known = self.numbers
        if learn:
            numbers = [known.setdefault(word, len(known) + 1) for words in cut for word in words]
        else:
            numbers = [known.get(word, 0) for words in cut for word in words]
        lengths = np.array([len(words) for words in cut], dtype=np.int64)
        return np.array(numbers, dtype=np.uint64), lengths


class _ChineseWords(_Words):
    """Reader of texts as word ids; words with Chinese characters are cut by rjieba."""

    def read(self, text: str) -> list[str]:
        import rjieba  # here, since it loads its dictionary

        words = super().read(text)
        cut = (rjieba.cut(word) if CHINESE.search(word) else (word,) for word in words)
        return [part for parts in cut for part in parts]


class _RuledWords(_Words):
    """Reader of texts as word ids, of the words that rules leave.

    Marks are in a word, such as vowel signs of Hindi and accents: lists and stemmers have them there.
    """

    def __init__(self, rules: Callable[[str], list[str]]):
        super().__init__()
        self._rules = rules

    def read(self, text: str) -> list[str]:
        runs = LETTERS.findall(unicodedata.normalize("NFC", text).lower())
        return [word for run in runs for word in self._rules(run)]


def words_of_text(text: str) -> list[str]:
    """Return the lower-cased words of a text; Chinese ones are cut by rjieba."""
    return _ChineseWords().read(text)


_READERS = {"unicode": _Words, "rjieba": _ChineseWords}


def _ngrams(
    units: np.ndarray, lengths: np.ndarray, low: int, high: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (n, starts of the n-grams, their hashes); n-grams do not cross texts of these lengths."""
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
    """Counts of k distinct n-grams, sorted by hash.

    Attributes:
        hashes: (k,) uint64, ascending.
        frequency: (k,) occurrences.
        documents: (k,) texts that contain the n-gram.
        place: (k,) first occurrence, text << 32 | position.
    """

    hashes: np.ndarray
    frequency: np.ndarray
    documents: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray, places: np.ndarray) -> Counts:
        """Count n-grams at these places, which ascend."""
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

    def merged_with(self, more: Counts) -> Counts:
        """Return the sum with the counts of later texts."""
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
    """Running sum of counts; only counts of similar size are merged, so each is moved O(log n) times."""

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
        self._parts[-1] = self._parts[-1].merged_with(last)

    def total(self) -> Counts:
        while len(self._parts) > 1:
            self._join()
        nothing = np.zeros(0, dtype=np.int64)
        return self._parts[0] if self._parts else Counts(nothing.view("u8"), *[nothing] * 3)
