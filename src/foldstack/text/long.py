"""What is read of a text that is longer than the model's input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError
from foldstack.rows import Rows
from foldstack.techniques import HeadTail, Keywords, Long, RandomWindow, Terms, Windows
from foldstack.text.cache import TokenCache
from foldstack.text.keywords import KeywordTable, as_tokens, find_terms
from foldstack.text.sequences import Frame, Frames, Stretches, columns_of, encode

PAIRED_LONG = ("head", "tail", "head_tail")
STREAM = 5  # tells the windows' random numbers from those of the batches


@dataclass(frozen=True)
class Texts:
    """n rows' texts as whole token sequences, one or (sentence pairs) two each, without special ones.

    fixed: tokens of the prefix that every first text begins with, and that stay whatever is cut.
    """

    rows: Rows
    columns: tuple[Stretches, ...]
    fixed: int
    frames: Frames
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def read(
        cls,
        rows: Rows,
        tokenizer: PreTrainedTokenizerBase,
        prefix: str = "",
        cache: TokenCache | None = None,
    ) -> Texts:
        if cache is None:
            columns = tuple(encode(texts, tokenizer) for texts in columns_of(rows, prefix))
        else:
            columns = cache.read(rows, tokenizer, prefix)
        # A space that ends the prefix may be a part of the token after it.
        fixed = int(encode([prefix.rstrip()], tokenizer).lengths[0]) if prefix else 0
        return cls(rows, columns, fixed, Frames.of(tokenizer), tokenizer)

    @property
    def frame(self) -> Frame:
        return self.frames.two if len(self.columns) == 2 else self.frames.one

    @property
    def paired(self) -> np.ndarray:
        """(n,) whether a row has two texts."""
        return np.full(len(self.columns[0]), len(self.columns) == 2)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) tokens of whole rows, special ones included."""
        return sum(c.lengths for c in self.columns) + self.frame.size


@dataclass(frozen=True)
class Cut:
    """What goes into m sequences: the parts of each one's first text, and of its second.

    paired: (m,) whether there is a second, which may be empty. cut: rows of which a part is not read.
    rows: (m,) the row that each is from, None where each row has one. redraw: (seed, epoch) to another
    cut of the same sizes, None where there is none.
    """

    first: tuple[Stretches, ...]
    second: tuple[Stretches, ...]
    paired: np.ndarray
    cut: int
    rows: np.ndarray | None = None
    redraw: Callable[[int, int], Cut] | None = None


def auto_length(texts: Texts, quantile: float) -> int:
    """The least length, special tokens included, in which that share of the rows finds room."""
    return max(4, int(np.quantile(texts.lengths, quantile, method="inverted_cdf")))


def fit_keywords(long: Long, rows: Rows) -> KeywordTable | None:
    """What the strategy must know of the rows to learn from."""
    return KeywordTable.fit(rows.joined_texts()) if isinstance(long, Keywords) else None


def cut_texts(
    texts: Texts,
    max_length: int,
    long: Long,
    *,
    keywords: KeywordTable | None = None,
    training: bool = False,
) -> Cut:
    """Every row in one sequence, or some, of at most `max_length` tokens.

    Raises InputError where the strategy is not for sentence pairs, or leaves no token for the text.
    """
    pairs = len(texts.columns) == 2
    if pairs and long.name not in PAIRED_LONG:
        raise InputError(
            f"long {long.name} is for single texts, but this competition has sentence pairs: take one "
            f"of {', '.join(PAIRED_LONG)}"
        )
    room = max(max_length - texts.frame.size, 0)
    if long.name != "head" and room <= texts.fixed:
        raise InputError(
            f"training.max_length {max_length} leaves no token for the text beside the special ones "
            "and the prefix: raise it"
        )
    if pairs:
        return _pairs(texts, room, _head_share(long))
    if isinstance(long, Windows):
        return _windows(texts, room, long.most, long.overlap)
    if isinstance(long, RandomWindow):
        return _random(texts, room) if training else _windows(texts, room, long.most, 0.0)
    if isinstance(long, Keywords | Terms):
        return _with_words(texts, max_length, long, keywords)
    return _ends(texts, room, _head_share(long))


def _head_share(long: Long) -> float:
    """Of the length that is kept, the beginning's share."""
    return long.share if isinstance(long, HeadTail) else float(long.name == "head")


def _ends(texts: Texts, room: int, share: float) -> Cut:
    """Each text by itself: its beginning, its end, or some of both."""
    text = texts.columns[0]
    cut = int((text.lengths > room).sum())
    return Cut(_keep_ends(text, room, share, texts.fixed), (), texts.paired, cut)


def _pairs(texts: Texts, room: int, share: float) -> Cut:
    """The longer text loses tokens until both fit, as tokenizers do, each in the same way."""
    a, b = (column.lengths for column in texts.columns)
    short = np.minimum(np.minimum(a, b), room // 2)
    room_a = np.where(a <= b, short, room - short)
    first = _keep_ends(texts.columns[0], room_a, share, texts.fixed)
    second = _keep_ends(texts.columns[1], room - room_a, share, 0)
    return Cut(first, second, texts.paired, int((a + b > room).sum()))


def _keep_ends(
    text: Stretches, room: np.ndarray | int, share: float, fixed: int
) -> tuple[Stretches, Stretches, Stretches]:
    """The prefix, the beginning and the end of each text: all of it, or `room` tokens."""
    prefix, rest = _parted(text, np.minimum(fixed, room))
    room = room - prefix.lengths
    head = np.where(rest.lengths > room, np.floor(share * room + 0.5).astype(np.int64), room)
    head, tail = _parted(rest, head)
    return prefix, head, tail.last(room - head.lengths)


def _parted(text: Stretches, at: np.ndarray | int) -> tuple[Stretches, Stretches]:
    """The first `at` tokens of each text, and the others."""
    return text.part(0, at), text.part(at, text.lengths)


def _windows(texts: Texts, room: int, most: int, overlap: float) -> Cut:
    """Windows in equal steps from the beginning to the end, as many as the overlap asks for.

    Of a text that would have more than `most`, so many, with gaps between them.
    """
    prefix, rest = _parted(texts.columns[0], texts.fixed)
    size = room - texts.fixed
    step = max(1, size - round(size * overlap))
    beyond = np.maximum(rest.lengths - size, 0)
    wanted = -(-beyond // step) + 1
    counts = np.minimum(wanted, most)
    rows = np.repeat(np.arange(len(rest)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = number * beyond[rows] // np.maximum(counts[rows] - 1, 1)
    first = (prefix.take(rows), rest.take(rows).part(starts, size))
    return Cut(first, (), texts.paired[rows], int((counts < wanted).sum()), rows)


def _random(texts: Texts, room: int) -> Cut:
    """The beginning, until `redraw` takes a window from anywhere, each place as likely."""
    prefix, rest = _parted(texts.columns[0], texts.fixed)
    size = room - texts.fixed
    places = np.maximum(rest.lengths - size, 0) + 1

    def at(starts: np.ndarray | int) -> Cut:
        first = (prefix, rest.part(starts, size))
        return Cut(first, (), texts.paired, int((places > 1).sum()), redraw=draw)

    def draw(seed: int, epoch: int) -> Cut:
        chance = np.random.default_rng([seed, epoch, STREAM]).random(len(places))
        return at((chance * places).astype(np.int64))

    return at(0)


def _with_words(
    texts: Texts, max_length: int, long: Keywords | Terms, table: KeywordTable | None
) -> Cut:
    """The beginning, and after it the words found in the text, which take half of the room at most."""
    text, frames = texts.columns[0], texts.frames
    segment = isinstance(long, Terms) or long.segment
    alone, beside = max_length - frames.one.size, max_length - frames.two.size
    if isinstance(long, Terms):
        some = np.arange(len(text))
        found = find_terms([row[0] for row in texts.rows.texts], long.terms)
    else:
        some = np.flatnonzero(text.lengths > alone)
        found = table.top([texts.rows.texts[i][0] for i in some], long.count)
    separator = frames.two.ids[1] if segment else frames.two.ids[1][:0]
    at_most = (beside if segment else alone) // 2
    words = as_tokens(found, texts.tokenizer, at_most, separator).placed(some, len(text))
    paired = segment & (words.lengths > 0)
    room = np.where(paired, beside, alone) - words.lengths
    first = _keep_ends(text, room, 1.0, texts.fixed)
    parts = (first, (words,)) if segment else ((*first, words), ())
    return Cut(*parts, paired, int((text.lengths > room).sum()))
