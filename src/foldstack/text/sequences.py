"""Token sequences as stretches of one flat array, cut without copying, and their special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from transformers import PreTrainedTokenizerBase

CHUNK = (
    2000  # texts at once: the tokenizer's lists of Python numbers take ten times an array's room
)


@dataclass(frozen=True)
class Stretches:
    """n sequences: sequence i is flat[starts[i] : ends[i]]; they may overlap or be empty."""

    flat: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts

    @classmethod
    def of(cls, flat: np.ndarray, lengths: Sequence[int] | np.ndarray) -> Stretches:
        """Sequences that follow each other."""
        bounds = np.cumsum([0, *lengths])
        return cls(flat, bounds[:-1], bounds[1:])

    @classmethod
    def repeat(cls, ids: np.ndarray, n: int) -> Stretches:
        """One sequence n times."""
        return cls(ids, np.zeros(n, dtype=np.int64), np.full(n, len(ids)))

    def take(self, index: np.ndarray) -> Stretches:
        return Stretches(self.flat, self.starts[index], self.ends[index])

    def part(self, begin: np.ndarray | int, length: np.ndarray | int) -> Stretches:
        """Of each sequence so many tokens from `begin` on, or as many as there are."""
        starts = np.minimum(self.starts + begin, self.ends)
        return Stretches(self.flat, starts, np.minimum(starts + length, self.ends))

    def last(self, length: np.ndarray | int) -> Stretches:
        return Stretches(self.flat, np.maximum(self.ends - length, self.starts), self.ends)

    def kept(self, mask: np.ndarray) -> Stretches:
        """Empty where the mask says no."""
        return Stretches(self.flat, self.starts, np.where(mask, self.ends, self.starts))

    def placed(self, index: np.ndarray, n: int) -> Stretches:
        """n sequences: these at the places of `index`, empty ones elsewhere."""
        starts, ends = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        starts[index], ends[index] = self.starts, self.ends
        return Stretches(self.flat, starts, ends)

    def filled(self, value: int) -> Stretches:
        """The same stretches with one value throughout, which takes no room."""
        flat = np.broadcast_to(np.int8(value), self.flat.shape)
        return Stretches(flat, self.starts, self.ends)


def join(parts: Sequence[Stretches]) -> tuple[np.ndarray, np.ndarray]:
    """(flat, offsets): the parts' sequences side by side, one row after the other, copied once."""
    lengths = np.sum([p.lengths for p in parts], axis=0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = zip(*(zip(p.starts.tolist(), p.ends.tolist(), strict=True) for p in parts), strict=True)
    flats = [p.flat for p in parts]
    pieces = [f[a:b] for row in rows for f, (a, b) in zip(flats, row, strict=True)]
    flat = np.concatenate(pieces) if pieces else flats[0][:0]
    return flat, offsets


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Stretches:
    """The int32 tokens of each text, whole and without special tokens."""
    flats, lengths = [np.zeros(0, dtype=np.int32)], []
    for start in range(0, len(texts), CHUNK):
        ids = tokenizer(
            list(texts[start : start + CHUNK]),
            add_special_tokens=False,
            truncation=False,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        lengths += map(len, ids)
        flats.append(np.fromiter(chain.from_iterable(ids), np.int32))
    return Stretches.of(np.concatenate(flats), lengths)


@dataclass(frozen=True)
class Frame:
    """A tokenizer's special tokens around one or two texts, and the token types of all.

    ids, types: before the first text, between the two (empty for one), after the last. text_types: of
    the texts' own tokens.
    """

    ids: tuple[np.ndarray, np.ndarray, np.ndarray]
    types: tuple[np.ndarray, np.ndarray, np.ndarray]
    text_types: tuple[int, int]

    @property
    def size(self) -> int:
        return sum(map(len, self.ids))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, texts: int) -> Frame:
        """Read off what the tokenizer itself puts around one letter, or around two texts of one.

        The one way for every kind of tokenizer: fast ones have no function that takes ids
        (transformers 5).
        """
        letter = encode(["a"], tokenizer).flat
        out = tokenizer(*([["a"]] * texts), add_special_tokens=True, return_token_type_ids=True)
        ids, types = (np.array(out[k][0]) for k in ("input_ids", "token_type_ids"))
        places = np.lib.stride_tricks.sliding_window_view(ids, len(letter))
        found = np.flatnonzero((places == letter).all(axis=1))
        first, last = found[0], found[-1]
        cuts = (slice(first), slice(first + len(letter), last), slice(last + len(letter), None))
        return cls(
            tuple(ids[c].astype(np.int32) for c in cuts),
            tuple(types[c].astype(np.int8) for c in cuts),
            (int(types[first]), int(types[last])),
        )


@dataclass(frozen=True)
class Frames:
    """The frame of a text alone and that of two; each row takes one of them."""

    one: Frame
    two: Frame

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Frames:
        return cls(Frame.of(tokenizer, 1), Frame.of(tokenizer, 2))

    def build(
        self,
        first: Sequence[Stretches],
        second: Sequence[Stretches],
        paired: np.ndarray,
        types: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(flat, offsets, types or None) of whole sequences, special tokens in place.

        first, second: the parts of each text; the second's are empty where `paired` is not.
        types None: not asked for, or zero throughout, which backbones take for granted.
        """

        def around(what: str, a: Sequence[Stretches], b: Sequence[Stretches]) -> tuple:
            before, between, after = (self._special(place, what, paired) for place in range(3))
            return join([before, *a, between, *b, after])

        flat, offsets = around("ids", first, second)
        if not types:
            return flat, offsets, None
        a, b = self.two.text_types
        of_first, of_second = [p.filled(a) for p in first], [p.filled(b) for p in second]
        kinds, _ = around("types", of_first, of_second)
        return flat, offsets, kinds if kinds.any() else None

    def _special(self, place: int, what: str, paired: np.ndarray) -> Stretches:
        one, two = getattr(self.one, what)[place], getattr(self.two, what)[place]
        starts = np.where(paired, len(one), 0)
        ends = np.where(paired, len(one) + len(two), len(one))
        return Stretches(np.concatenate([one, two]), starts, ends)
