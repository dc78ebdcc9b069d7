"""Truncation and windowing of texts that are longer than the model's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError
from foldstack.rows import Rows
from foldstack.techniques import (
    Beginning,
    End,
    HeadTail,
    Keywords,
    Long,
    RandomWindow,
    Terms,
    Windows,
)
from foldstack.text.cache import TokenCache
from foldstack.text.keywords import KeywordTable, as_tokens
from foldstack.text.laid import Laid
from foldstack.text.sequences import Frame, Frames, Stretches, columns_of, encode
from foldstack.text.terms import find_terms

STREAM = 5  # separates this random stream from that of the batches


@dataclass(frozen=True)
class Texts:
    """Token sequences of n rows, one to three segments each, untruncated, without special tokens.

    fixed: number of tokens of the prefix, with which every first text begins and which is never
    cut. laid: the template that the texts are in, if there is one; a row is one sequence then, and
    `columns` are the texts in its places.
    """

    rows: Rows
    columns: tuple[Stretches, ...]
    fixed: int
    frames: Frames
    tokenizer: PreTrainedTokenizerBase
    laid: Laid | None = None

    @classmethod
    def read(
        cls,
        rows: Rows,
        tokenizer: PreTrainedTokenizerBase,
        prefix: str = "",
        cache: TokenCache | None = None,
        laid: Laid | None = None,
    ) -> Texts:
        """Return the tokenised texts of these rows.

        Args:
            rows: n rows.
            tokenizer: the backbone's.
            prefix: put before each first text.
            cache: of tokenised texts, if they are to be read from it and added to it.
            laid: the template around the texts, instead of a prefix.
        """
        of_rows = laid.columns if laid else partial(columns_of, prefix=prefix)
        if cache is None:
            columns = tuple(encode(texts, tokenizer) for texts in of_rows(rows))
        else:
            columns = cache.read(rows, tokenizer, of_rows)
        # A space at the end of the prefix may belong to the next token.
        fixed = int(encode([prefix.rstrip()], tokenizer).lengths[0]) if prefix else 0
        return cls(rows, columns, fixed, Frames.of(tokenizer), tokenizer, laid)

    @property
    def frame(self) -> Frame:
        return self.frames.two if self.is_joined else self.frames.one

    @property
    def is_joined(self) -> bool:
        """Whether separators of the tokenizer join several segments."""
        return len(self.columns) > 1 and self.laid is None

    @property
    def special(self) -> int:
        """The number of tokens of a row beside its texts: special ones, those between two segments at
        each such place, and those of the template."""
        if self.laid is not None:
            return self.frame.size + self.laid.size
        return self.frame.size + len(self.frame.ids[1]) * max(len(self.columns) - 2, 0)

    @property
    def paired(self) -> np.ndarray:
        """(n,) whether each row has several segments."""
        return np.full(len(self.columns[0]), self.is_joined)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) number of tokens per row, special tokens included, untruncated."""
        return sum(c.lengths for c in self.columns) + self.special

    def joining(self, types: bool) -> str | None:
        """Return how the segments are joined, for the user; None if there is one."""
        if not self.is_joined:
            return None
        between = "".join(self.tokenizer.convert_ids_to_tokens(self.frame.ids[1].tolist()))
        between = between or "nothing, as the tokenizer has no separator"
        first, other = self.frame.text_types
        told = ", ".join(map(str, [first, *[other] * (len(self.columns) - 1)]))
        kinds = f"token types {told}" if types and other != first else "no token types"
        return f"{len(self.columns)} segments, joined by {between}; {kinds}"


@dataclass(frozen=True)
class Cut:
    """The contents of m sequences: the parts of each one's first text, and of its second.

    Of three segments the third, and the separator before it, are parts of the second text. paired:
    (m,) whether there is a second text, which may be empty. cut: number of rows that are not read
    in full. rows: (m,) the row of each sequence; None if there is one per row. redraw: from
    (seed, epoch) to another cut of the same sizes; None if it does not change.
    """

    first: tuple[Stretches, ...]
    second: tuple[Stretches, ...]
    paired: np.ndarray
    cut: int
    rows: np.ndarray | None = None
    redraw: Callable[[int, int], Cut] | None = None


@dataclass(frozen=True)
class ToCut:
    """Input of a technique for long texts.

    room: tokens of a sequence besides the special ones. keywords: the table fitted on the training
    rows, if the technique has one. training: the sequences are learned from, not predicted.
    """

    texts: Texts
    max_length: int
    room: int
    keywords: KeywordTable | None
    training: bool


def auto_length(texts: Texts, quantile: float) -> int:
    """Return the minimum length, special tokens included, that does not cut this share of the rows."""
    return max(4, int(np.quantile(texts.lengths, quantile, method="inverted_cdf")))


def fit_keywords(long: Long, rows: Rows) -> KeywordTable | None:
    """Return the keyword table of the training rows, if the technique requires one."""
    return KeywordTable.fit(rows.joined_texts()) if long.fits_keywords else None


def cut_texts(
    texts: Texts,
    max_length: int,
    long: Long,
    *,
    keywords: KeywordTable | None = None,
    training: bool = False,
) -> Cut:
    """Return every row as one or several sequences of at most `max_length` tokens.

    Args:
        texts: n rows.
        max_length: tokens per sequence, special ones included.
        long: the technique.
        keywords: what `fit_keywords` returned for the training rows.
        training: the sequences are learned from, not predicted.

    Raises:
        InputError: the technique is not for sentence pairs, or no token is left for the text.
    """
    count = len(texts.columns)
    if count > 1 and not long.for_pairs:
        several = "sentence pairs" if count == 2 else f"{count} segments"
        raise InputError(
            f"long {long.name} is for single texts, but this competition has {several}: take one "
            f"of {', '.join(long.with_trait('for_pairs'))}"
        )
    room = max(max_length - texts.special, 0)
    if texts.laid is not None and room < count:
        raise InputError(
            f"training.max_length {max_length} leaves less than a token for each text beside the "
            f"{texts.special} of the template and the special ones: raise it"
        )
    if not long.may_be_empty and room <= texts.fixed:
        raise InputError(
            f"training.max_length {max_length} leaves no token for the text beside the special ones "
            "and the prefix: raise it"
        )
    cut = long.load()(long, ToCut(texts, max_length, room, keywords, training))
    return cut if texts.laid is None or count > 1 else _in_place(cut, texts.laid)


def _in_place(cut: Cut, laid: Laid) -> Cut:
    """Return the sequences with the template around the text."""
    redraw = None
    if cut.redraw:
        redraw = lambda seed, epoch: _in_place(cut.redraw(seed, epoch), laid)  # noqa: E731
    return replace(cut, first=laid.whole([cut.first]), redraw=redraw)


def cut_ends(long: Beginning | End | HeadTail, given: ToCut) -> Cut:
    """Return each text's beginning, its end, or some of both; of several segments each one's."""
    texts, room, share = given.texts, given.room, long.head_share
    count = len(texts.columns)
    if long.parts and len(long.parts) != count:
        raise InputError(
            f"long.parts shares the length among {len(long.parts)} texts, but a row has {count}: write "
            "a number for each, or leave it out"
        )
    if count > 1:
        return _segments(texts, room, share, long.parts)
    text = texts.columns[0]
    cut = int((text.lengths > room).sum())
    return Cut(_keep_ends(text, room, share, texts.fixed), (), texts.paired, cut)


def cut_windows(long: Windows, given: ToCut) -> Cut:
    """Return overlapping windows of each text."""
    return _windows(given.texts, given.room, long.most, long.overlap)


def cut_random_window(long: RandomWindow, given: ToCut) -> Cut:
    """Return one random window in training, and consecutive windows for prediction."""
    if given.training:
        return _random(given.texts, given.room)
    return _windows(given.texts, given.room, long.most, 0.0)


def cut_with_keywords(long: Keywords, given: ToCut) -> Cut:
    """Return the beginning of each text and, if it is cut, its keywords."""
    text = given.texts.columns[0]
    some = np.flatnonzero(text.lengths > given.max_length - given.texts.frames.one.size)
    found = given.keywords.top([given.texts.rows.texts[i][0] for i in some], long.count)
    return _with_words(given, some, found, segment=long.segment)


def cut_with_terms(long: Terms, given: ToCut) -> Cut:
    """Return the beginning of each text and the listed terms that it contains."""
    rows = given.texts.rows
    found = find_terms([row[0] for row in rows.texts], long.terms)
    return _with_words(given, np.arange(len(rows)), found, segment=True)


def _segments(texts: Texts, room: int, share: float, parts: Sequence[int]) -> Cut:
    """Remove tokens from the longest segment until all fit, as tokenizers do with two.

    parts: the length that each segment counts against, if they are not equal.
    """
    lengths = np.stack([column.lengths for column in texts.columns])
    rooms = fair_rooms(lengths, room, parts)
    first, *others = parts = [
        _keep_ends(column, own, share, 0 if number else texts.fixed)
        for number, (column, own) in enumerate(zip(texts.columns, rooms, strict=True))
    ]
    cut = int((lengths.sum(axis=0) > room).sum())
    if texts.laid is not None:
        return Cut(texts.laid.whole(parts), (), texts.paired, cut)
    separator = Stretches.repeat(texts.frame.ids[1], len(lengths.T))
    second = [part for parts in others for part in (separator, *parts)][1:]
    return Cut(first, tuple(second), texts.paired, cut)


def fair_rooms(lengths: np.ndarray, room: int, parts: Sequence[int] = ()) -> np.ndarray:
    """Return (k, n) tokens that each segment keeps, at most `room` per row.

    They are what is left if tokens are removed one by one from the longest segment; among equally
    long ones from the one that was shortest, then from the first. With parts it is the longest one for
    its part.

    Args:
        lengths: (k, n) tokens of the k segments of n rows.
        room: most tokens per row.
        parts: (k,) shares of the room; equal by default.
    """
    shares = np.array(parts or [1] * len(lengths))
    order = np.argsort(lengths / shares[:, None], axis=0, kind="stable")
    kept, left = np.zeros_like(lengths), np.full(lengths.shape[1], room)
    others = np.full(lengths.shape[1], shares.sum())  # shares of the segments that are left
    for segment in order:  # the shortest of each row first
        at, own = (segment, np.arange(lengths.shape[1])), shares[segment]
        kept[at] = np.minimum(lengths[at], left * own // others)
        left, others = left - kept[at], others - own
    return kept


def _keep_ends(
    text: Stretches, room: np.ndarray | int, share: float, fixed: int
) -> tuple[Stretches, Stretches, Stretches]:
    """Return the prefix, the beginning and the end of each text: all of it, or `room` tokens."""
    prefix, rest = _parted(text, np.minimum(fixed, room))
    room = room - prefix.lengths
    head = np.where(rest.lengths > room, np.floor(share * room + 0.5).astype(np.int64), room)
    head, tail = _parted(rest, head)
    return prefix, head, tail.last(room - head.lengths)


def _parted(text: Stretches, at: np.ndarray | int) -> tuple[Stretches, Stretches]:
    """Return the first `at` tokens of each text, and the others."""
    return text.part(0, at), text.part(at, text.lengths)


def _windows(texts: Texts, room: int, most: int, overlap: float) -> Cut:
    """Return windows at equal steps from the beginning to the end, as many as the overlap requires.

    A text that requires more than `most` has `most`, with gaps between them.
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
    """Return the beginning; `redraw` takes a window from anywhere, uniformly."""
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


def _with_words(given: ToCut, some: np.ndarray, found: list, *, segment: bool) -> Cut:
    """Return the beginning and after it the words found in the text, at most half of the room.

    some: numbers of the rows in which words were searched; found: the words of each. segment: they
    are a second text, with a separator after each.
    """
    texts, max_length = given.texts, given.max_length
    text, frames = texts.columns[0], texts.frames
    alone, beside = max_length - frames.one.size, max_length - frames.two.size
    separator = frames.two.ids[1] if segment else frames.two.ids[1][:0]
    at_most = (beside if segment else alone) // 2
    words = as_tokens(found, texts.tokenizer, at_most, separator).placed(some, len(text))
    paired = segment & (words.lengths > 0)
    room = np.where(paired, beside, alone) - words.lengths
    first = _keep_ends(text, room, 1.0, texts.fixed)
    parts = (first, (words,)) if segment else ((*first, words), ())
    return Cut(*parts, paired, int((text.lengths > room).sum()))
