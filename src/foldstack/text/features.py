"""Surface features of texts for stacks: lengths, readability, character classes.

Texts are processed as arrays of code points, about 200,000 characters at a time.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations

import numpy as np
import regex

from foldstack.rows import Rows
from foldstack.text.augment.split import is_unspaced

CHUNK = 200_000  # characters; their arrays fit the CPU cache

# Character classes. The first four and marks form words. In scripts without spaces, each letter or
# number is a word.
(
    UPPER,
    LOWER,
    CASELESS,
    DIGIT,
    UNSPACED,
    MARK,
    APOSTROPHE,
    STOP,
    PUNCTUATION,
    SPACE,
    EMOJI,
    OTHER,
) = range(12)
CLASSES = 12
CASES = {"Lu": UPPER, "Lt": UPPER, "Ll": LOWER}
STOPS = ".!?…。！？｡؟।"
PICTURE = regex.compile(r"\p{Extended_Pictographic}")
LATIN = regex.compile(r"\p{Latin}")

PLACES = ("first", "second", "third")  # of segments

NAMES = (
    "log_characters",
    "log_words",
    "log_sentences",
    "log_lines",
    "mean_word_length",
    "readability",
    "distinct_words",
    "digits",
    "upper_case",
    "upper_words",
    "punctuation",
    "spaces",
    "not_latin",
    "unspaced_script",
    "repeated",
    "exclamations",
    "questions",
    "emoji",
    "urls",
    "mentions",
    "hashtags",
)


def text_features(rows: Rows) -> np.ndarray:
    """Return (n, f) finite float64 features; `feature_names` names the columns.

    `log_` is log(1 + count). `readability` is the automated readability index (Smith & Senter
    1967): 4.71 letters and digits per word + .5 words per sentence - 21.43. `distinct_words` and
    `upper_words` (at least two capitals) are shares of words. `upper_case`, `not_latin` and
    `unspaced_script` (Han, kana, Thai and the like) are shares of letters. `repeated` (characters
    equal to the two before) and the other shares are of all characters. The last six are counts.
    Segments have the features of each and, for every two of them, `shared_words`, the Jaccard
    similarity of their sets of words (Jaccard 1901).
    """
    sizes = np.cumsum([sum(map(len, texts)) for texts in rows.texts], dtype=np.int64)
    ends = [*np.flatnonzero(np.diff(sizes // CHUNK)) + 1, len(rows)]
    starts = [0, *ends[:-1]]
    parts = [_columns(rows.texts[a:b]) for a, b in zip(starts, ends, strict=True) if b > a]
    return np.concatenate(parts) if parts else np.empty((0, len(NAMES)))


def feature_names(segments: int) -> tuple[str, ...]:
    """Return the column names of `text_features` of rows of this many texts."""
    if segments == 1:
        return tuple(f"text:{name}" for name in NAMES)
    places = PLACES[:segments]
    both = ["pair"] if segments == 2 else [f"{a}+{b}" for a, b in combinations(places, 2)]
    return (
        *(f"{text}:{name}" for text in places for name in NAMES),
        *(f"{two}:shared_words" for two in both),
    )


def _columns(texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    found = [Characters.of(column) for column in zip(*texts, strict=True)]
    tables = [_table(each) for each in found]
    return np.hstack([*tables, *(_shared_words(*two)[:, None] for two in combinations(found, 2))])


def shared_words(texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Return (n, pairs of segments) Jaccard similarities of the sets of words of every two segments."""
    found = [Characters.of(column) for column in zip(*texts, strict=True)]
    return np.column_stack([_shared_words(*two) for two in combinations(found, 2)])


@dataclass(frozen=True)
class Characters:
    """Characters of n texts, concatenated with a space before, between and after them.

    Attributes:
        points: (c,) code points.
        kinds: (c,) character classes.
        text: (c,) index of the text, -1 for a separating space.
        in_word: (c,) whether the character is inside a word.
        first: (c,) whether it is the first of a word.
    """

    n: int
    points: np.ndarray
    kinds: np.ndarray
    text: np.ndarray
    in_word: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Characters:
        joined = " ".join(("", *texts, ""))
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.array([len(text) for text in texts])
        # Each text comes after the space before it.
        text = np.append(np.repeat(np.arange(len(texts)), lengths + 1), -1)
        text[np.cumsum(lengths + 1) - lengths - 1] = -1
        kinds = _kinds()[points]
        return cls(len(texts), points, kinds, text, *_find_words(kinds))

    def count(self, mask: np.ndarray) -> np.ndarray:
        """Return (n,) counts per text of the characters that a (c,) mask selects."""
        return np.bincount(self.text[mask & (self.text >= 0)], minlength=self.n)

    @cached_property
    def words(self) -> tuple[np.ndarray, np.ndarray]:
        """(w,) text indices and (w,) 64-bit hashes of all words, lower-cased."""
        inside = np.flatnonzero(self.in_word)
        starts = np.flatnonzero(self.first[inside])
        if not len(starts):
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        lengths = np.diff(np.append(starts, len(inside)))
        place = (np.arange(len(inside)) - np.repeat(starts, lengths)).astype(np.uint64)
        letters = _lower()[self.points[inside]].astype(np.uint64)
        hashes = np.add.reduceat(_mix(letters | (place << np.uint64(21))), starts)
        return self.text[inside[starts]], hashes

    @cached_property
    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """`words` without repeats within a text, sorted."""
        text, words = self.words
        order = np.lexsort((words, text))
        text, words = text[order], words[order]
        new = ~_as_before(text, words)
        return text[new], words[new]

    @property
    def upper_words(self) -> np.ndarray:
        """(n,) counts of words with at least two letters, all of them capitals."""
        inside = np.flatnonzero(self.in_word)
        starts = np.flatnonzero(self.first[inside])
        if not len(starts):
            return np.zeros(self.n, np.int64)
        kinds = self.kinds[inside]
        capitals = np.add.reduceat(kinds == UPPER, starts, dtype=np.int64)
        others = (kinds == LOWER) | (kinds == CASELESS)
        others = np.add.reduceat(others, starts, dtype=np.int64)
        upper = (capitals > 1) & (others == 0)
        return np.bincount(self.text[inside[starts[upper]]], minlength=self.n)

    def is_one_of(self, characters: str) -> np.ndarray:
        """Return a (c,) mask of these characters."""
        return np.logical_or.reduce([self.points == ord(c) for c in characters])

    def starts_of(self, string: str) -> np.ndarray:
        """Return a (c,) mask of the starts of this ASCII string, ignoring case."""
        lower, found = _lower()[self.points], np.zeros(len(self.points), bool)
        count = len(self.points) - len(string) + 1
        if count > 0:
            each = [lower[k : k + count] == ord(letter) for k, letter in enumerate(string)]
            found[:count] = np.logical_and.reduce(each)
        return found


def _find_words(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (c,) masks: inside a word, first of a word; word boundaries as in `augment.split`."""
    unspaced, mark = kinds == UNSPACED, kinds == MARK
    # A combining mark belongs to the last character before it that is not a mark.
    bearer = np.maximum.accumulate(np.where(mark, 0, np.arange(len(kinds))))
    carried = mark & unspaced[bearer]
    run = (kinds <= DIGIT) | (mark & ~carried)
    joint = kinds == APOSTROPHE
    joint[1:-1] &= run[:-2] & run[2:]
    run |= joint
    first = unspaced | run
    first[1:] &= unspaced[1:] | ~run[:-1]
    return run | unspaced | carried, first


def _table(found: Characters) -> np.ndarray:
    """Return (n, NAMES) features."""
    n, kinds = found.n, found.kinds
    real = found.text >= 0
    places = found.text[real] * CLASSES + kinds[real]
    count = np.bincount(places, minlength=n * CLASSES).reshape(n, CLASSES)
    size, words = count.sum(axis=1), found.count(found.first)
    letters = count[:, [UPPER, LOWER, CASELESS, UNSPACED]].sum(axis=1)
    stops = (kinds == STOP) & ~(_next(kinds) <= DIGIT) & (_next(kinds) != STOP)
    sentences = found.count(stops)
    a_word = _share(letters + count[:, DIGIT], words)
    word_before = _before(found.in_word)
    starts_word = ~word_before & _next(found.in_word)
    urls = found.starts_of("://") & word_before
    urls |= found.starts_of("www.") & found.first & (_before(found.points) != ord("/"))
    columns = {
        "log_characters": np.log1p(size),
        "log_words": np.log1p(words),
        "log_sentences": np.log1p(sentences),
        "log_lines": np.log1p(found.count(found.points == ord("\n"))),
        "mean_word_length": a_word,
        "readability": 4.71 * a_word + 0.5 * words / np.maximum(sentences, 1) - 21.43,
        "distinct_words": _share(np.bincount(found.distinct[0], minlength=n), words),
        "digits": _share(count[:, DIGIT], size),
        "upper_case": _share(count[:, UPPER], letters),
        "upper_words": _share(found.upper_words, words),
        "punctuation": _share(count[:, [APOSTROPHE, STOP, PUNCTUATION]].sum(axis=1), size),
        "spaces": _share(count[:, SPACE], size),
        "not_latin": _share(letters - found.count(_latin()[found.points]), letters),
        "unspaced_script": _share(count[:, UNSPACED], letters),
        "repeated": _share(found.count(_repeated(found)), size),
        "exclamations": found.count(found.is_one_of("!！")),
        "questions": found.count(found.is_one_of("?？؟")),
        "emoji": count[:, EMOJI],
        "urls": found.count(urls),
        "mentions": found.count((found.points == ord("@")) & starts_word),
        "hashtags": found.count((found.points == ord("#")) & starts_word),
    }
    return np.column_stack([columns[name] for name in NAMES]).astype(float)


def _shared_words(one: Characters, other: Characters) -> np.ndarray:
    """Return (n,) Jaccard similarities of the sets of words; 0 without words."""
    text = np.concatenate([one.distinct[0], other.distinct[0]])
    words = np.concatenate([one.distinct[1], other.distinct[1]])
    order = np.lexsort((words, text))
    shared = np.bincount(text[order][_as_before(text[order], words[order])], minlength=one.n)
    return _share(shared, np.bincount(text, minlength=one.n) - shared)


def _as_before(text: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return a (w,) mask of words equal to the previous one in the same text."""
    same = np.zeros(len(text), bool)
    same[1:] = (text[1:] == text[:-1]) & (words[1:] == words[:-1])
    return same


def _repeated(found: Characters) -> np.ndarray:
    same = (found.points == _before(found.points)) & (found.kinds != SPACE)
    return same & _before(same)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _before(values: np.ndarray) -> np.ndarray:
    """Return the previous value of each; the first, a separating space, is kept."""
    return np.concatenate([values[:1], values[:-1]])


def _next(values: np.ndarray) -> np.ndarray:
    """Return the next value of each; the last, a separating space, is kept."""
    return np.concatenate([values[1:], values[-1:]])


def _mix(values: np.ndarray) -> np.ndarray:
    """Hash values by splitmix64's finaliser (Steele, Lea & Flood 2014); sums rarely collide."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _kinds() -> np.ndarray:
    """Return (code points,) uint8 character classes."""
    return np.array([_kind(chr(point)) for point in range(sys.maxunicode + 1)], np.uint8)


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if character in STOPS:
        return STOP
    if character in "'’":
        return APOSTROPHE
    if character.isspace():
        return SPACE
    if category[0] in "LN":
        if is_unspaced(character):
            return UNSPACED
        return DIGIT if category[0] == "N" else CASES.get(category, CASELESS)
    if category[0] == "S":
        return EMOJI if PICTURE.match(character) else OTHER
    return {"M": MARK, "P": PUNCTUATION}.get(category[0], OTHER)


@cache
def _lower() -> np.ndarray:
    """Return (code points,) uint32 lower-case forms, if they are one character."""
    lower = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    for point in np.flatnonzero(_kinds() == UPPER):
        if len(changed := chr(point).lower()) == 1:
            lower[point] = ord(changed)
    return lower


@cache
def _latin() -> np.ndarray:
    """Return a (code points,) mask of letters of the Latin script."""
    latin = np.zeros(sys.maxunicode + 1, bool)
    letters = np.flatnonzero(_kinds() <= CASELESS)
    latin[letters] = [LATIN.match(chr(point)) is not None for point in letters]
    return latin
