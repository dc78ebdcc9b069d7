"""Ragged token sequences as views of one flat array, and the special tokens around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from foldstack.progress import Progress
from foldstack.rows import Rows
from foldstack.text.special import Speller, kept_tokens

CHUNK = 2000  # texts per call: a tokenizer's results take far more memory than an array
BLOCK = 2**20  # tokens per copy


@dataclass(frozen=True)
class Stretches:
    """Ragged array: sequence i is flat[starts[i] : ends[i]]; sequences may overlap or be empty."""

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
        """Return consecutive sequences of these lengths."""
        bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return cls(flat, bounds[:-1], bounds[1:])

    @classmethod
    def repeat(cls, ids: np.ndarray, n: int) -> Stretches:
        """Return one sequence n times."""
        return cls(ids, np.zeros(n, dtype=np.int64), np.full(n, len(ids)))

    def take(self, index: np.ndarray) -> Stretches:
        return Stretches(self.flat, self.starts[index], self.ends[index])

    def part(self, begin: np.ndarray | int, length: np.ndarray | int) -> Stretches:
        """Return at most `length` tokens of each sequence, from `begin` on."""
        starts = np.minimum(self.starts + begin, self.ends)
        return Stretches(self.flat, starts, np.minimum(starts + length, self.ends))

    def last(self, length: np.ndarray | int) -> Stretches:
        return Stretches(self.flat, np.maximum(self.ends - length, self.starts), self.ends)

    def kept(self, mask: np.ndarray) -> Stretches:
        """Return the sequences that a mask selects, empty ones for the others."""
        return Stretches(self.flat, self.starts, np.where(mask, self.ends, self.starts))

    def placed(self, index: np.ndarray, n: int) -> Stretches:
        """Return n sequences: these at the positions of `index`, empty ones elsewhere."""
        starts, ends = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        starts[index], ends[index] = self.starts, self.ends
        return Stretches(self.flat, starts, ends)

    def filled(self, value: int) -> Stretches:
        """Return sequences of the same lengths with a constant value, without allocating them."""
        flat = np.broadcast_to(np.int8(value), self.flat.shape)
        return Stretches(flat, self.starts, self.ends)


def join(parts: Sequence[Stretches]) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate the parts row by row; return (flat, offsets)."""
    at = np.concatenate([[0], np.cumsum(np.sum([p.lengths for p in parts], axis=0))])
    flat = np.empty(at[-1], np.result_type(*(p.flat for p in parts)))
    offsets, at = at, at[:-1]
    for part in parts:
        copy_to(flat, at, part)
        at = at + part.lengths
    return flat, offsets


def copy_to(out: np.ndarray, at: np.ndarray, part: Stretches) -> None:
    """Write each sequence i to `out` from at[i] on, vectorised."""
    ends = np.cumsum(part.lengths)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(0, total, BLOCK), side="right")
    for first, last in pairwise([*cuts, len(ends)]):
        rows = slice(first, last)
        lengths = part.lengths[rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        out[np.repeat(at[rows], lengths) + within] = part.flat[
            np.repeat(part.starts[rows], lengths) + within
        ]


def columns_of(rows: Rows, prefix: str = "") -> list[list[str]]:
    """Return the first texts of all rows with the prefix, then the further segments, if any."""
    segments = len(rows.texts[0]) if len(rows) else 1
    further = ([text[place] for text in rows.texts] for place in range(1, segments))
    return [[prefix + text[0] for text in rows.texts], *further]


def backend_of(tokenizer: PreTrainedTokenizerBase) -> Tokenizer | None:
    """Return a fast tokenizer's backend, set to whole texts; None if Python code is involved."""
    kind = type(tokenizer)
    if (
        not isinstance(tokenizer, PreTrainedTokenizerFast)
        or kind._encode_plus is not PreTrainedTokenizerFast._encode_plus
        or kind.__call__ is not PreTrainedTokenizerBase.__call__
    ):
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens and not kept_tokens(tokenizer)
    return backend


def encode_each(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (int32 ids of a chunk of texts, tokens per text), showing progress.

    The backend, which is multithreaded, is called directly: a `BatchEncoding` also builds offsets
    and masks, which is slow.
    """
    backend = backend_of(tokenizer)
    speller = Speller(tokenizer) if tokenizer.split_special_tokens else None
    with Progress("tokenising", len(texts), "texts") as progress:
        for start in range(0, len(texts), CHUNK):
            some = list(texts[start : start + CHUNK])
            if backend is not None:
                encoded = backend.encode_batch_fast(some, add_special_tokens=False)
                ids = [e.ids for e in encoded]
            else:
                ids = tokenizer(
                    some,
                    add_special_tokens=False,
                    truncation=False,
                    verbose=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                )["input_ids"]
            found = _flat(ids)
            if speller and (typed := speller.typed_in(some, *found)):
                found = _flat(speller.spell(some, ids, typed))
            yield found
            progress.add(len(some))


def _flat(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    flat = np.fromiter(chain.from_iterable(ids), np.int32)
    return flat, np.fromiter(map(len, ids), np.int64, len(ids))


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Stretches:
    """Return the int32 ids of each text, whole and without special tokens."""
    flats, lengths = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
    for some, some_lengths in encode_each(texts, tokenizer):
        flats.append(some)
        lengths.append(some_lengths)
    return Stretches.of(np.concatenate(flats), np.concatenate(lengths))


@dataclass(frozen=True)
class Frame:
    """Special tokens that a tokenizer adds around one or two texts, and the token type ids.

    ids, types: before the first text, between the two (empty for one), after the last. text_types:
    type ids of the two texts.
    """

    ids: tuple[np.ndarray, np.ndarray, np.ndarray]
    types: tuple[np.ndarray, np.ndarray, np.ndarray]
    text_types: tuple[int, int]

    @property
    def size(self) -> int:
        return sum(map(len, self.ids))

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, texts: int) -> Frame:
        """Infer the special tokens from an encoded text, or pair of texts, of one letter.

        This works for every tokenizer: fast ones cannot add special tokens to ids (transformers 5).
        """
        text = getattr(tokenizer, "letter", "a")
        letter = encode([text], tokenizer).flat
        out = tokenizer(*([[text]] * texts), add_special_tokens=True, return_token_type_ids=True)
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
    """Frames of a single text and of a pair; each row uses one of them."""

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
        """Assemble whole sequences with special tokens.

        Args:
            first: parts of each row's first text, concatenated.
            second: parts of each row's second text, with a separator and the third, if there is one;
                empty if the row is not paired.
            paired: (n,) whether the row has several texts.
            types: whether to return token type ids.

        Returns:
            (flat ids, n + 1 offsets, token type ids); the types are None if not requested or all zero,
            the default of backbones.
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
