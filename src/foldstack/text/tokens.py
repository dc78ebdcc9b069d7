"""Tokenisation: texts to token ids, and ids to padded tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from foldstack.rows import Rows
from foldstack.techniques import Beginning, Long
from foldstack.text.cutting import Cut, Texts, cut_texts

HEAD = Beginning()


@dataclass(frozen=True)
class Tokens:
    """Ragged array of n token sequences with special tokens: one flat array and n + 1 offsets.

    rows: (n,) ascending, the row of each sequence (a window of it); None: one sequence per row.
    redraw: maps (seed, epoch) to resampled flat, offsets and types of the same lengths; or None.
    """

    flat: np.ndarray
    offsets: np.ndarray
    pad_id: int
    cut: int  # number of truncated rows
    types: np.ndarray | None = None  # aligned with `flat`: token type ids
    features: np.ndarray | None = None  # (n, f) float32, inputs of the head
    rows: np.ndarray | None = None
    redraw: Callable[[int, int], tuple] | None = None

    def for_epoch(self, seed: int, epoch: int) -> Tokens:
        """Return the tokens of an epoch: windows resampled from seed, epoch and row, or the same."""
        if self.redraw is None:
            return self
        flat, offsets, types = self.redraw(seed, epoch)
        return replace(self, flat=flat, offsets=offsets, types=types)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    def taken(self, which: np.ndarray) -> Tokens:
        """Return these sequences, which may repeat, with their features and rows."""
        starts, lengths = self.offsets[which], self.lengths[which]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(
            self,
            flat=self.flat[places],
            offsets=offsets,
            types=None if self.types is None else self.types[places],
            features=None if self.features is None else self.features[which],
            rows=None if self.rows is None else self.rows[which],
            redraw=None,
        )

    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (m,) positions of distinct sequences and (n,) the index among them of each one.

        Sequences are equal if their tokens, types and features are.
        """
        known: dict[tuple[bytes, ...], int] = {}
        bounds = self.offsets.tolist()
        by_token = [a for a in (self.flat, self.types) if a is not None]
        which = np.empty(len(bounds) - 1, dtype=np.int64)
        for i, (start, end) in enumerate(pairwise(bounds)):
            key = [a[start:end].tobytes() for a in by_token]
            if self.features is not None:
                key.append(self.features[i].tobytes())
            which[i] = known.setdefault(tuple(key), len(known))
        return np.unique(which, return_index=True)[1], which

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        """Return (b, t) input_ids and attention_mask, padded on the right; t <= `longest`.

        t is the length of the longest row of the batch, rounded up to a multiple. If present,
        token_type_ids (b, t) and features (b, f) are added.
        """
        lengths = self.lengths[rows]
        width = min(-(-lengths.max() // multiple) * multiple, self.longest)
        mask = np.arange(width)[None, :] < lengths[:, None]
        out = {
            "input_ids": self._padded(self.flat, rows, mask, self.pad_id),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if self.types is not None:
            out["token_type_ids"] = self._padded(self.types, rows, mask, 0)
        if self.features is not None:
            out["features"] = torch.from_numpy(self.features[rows])
        return out

    def _padded(self, flat: np.ndarray, rows: np.ndarray, mask: np.ndarray, fill: int) -> Tensor:
        out = np.full(mask.shape, fill, dtype=np.int64)
        out[mask] = np.concatenate([flat[self.offsets[r] : self.offsets[r + 1]] for r in rows])
        return torch.from_numpy(out)


def tokenise(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    prefix: str = "",
    types: bool = False,
    long: Long = HEAD,
) -> Tokens:
    """Tokenise each row's text, or two or three segments, with special tokens.

    Args:
        rows: n rows.
        tokenizer: of the backbone.
        max_length: most tokens per sequence, special tokens included.
        prefix: text before each first text.
        types: keep token type ids, unless all are zero (the default of backbones).
        long: strategy for longer texts.

    Returns:
        One sequence per row, or several windows per row.
    """
    texts = Texts.read(rows, tokenizer, prefix)
    return to_tokens(texts, cut_texts(texts, max_length, long), types)


def to_tokens(texts: Texts, cut: Cut, types: bool, *, fill: bool = True) -> Tokens:
    """Return the sequences of a cut with special tokens.

    fill: a sequence without any token, as of an empty text if the tokenizer adds none, has that of the
        end, or else the padding token.
    """
    pad_id, end = texts.tokenizer.pad_token_id or 0, texts.tokenizer.eos_token_id
    filler = pad_id if end is None else end

    def built(some: Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        made = texts.frames.build(some.first, some.second, some.paired, types)
        return _filled(*made, filler) if fill else made

    redraw = None
    if cut.redraw:
        redraw = lambda seed, epoch: built(cut.redraw(seed, epoch))  # noqa: E731
    flat, offsets, kinds = built(cut)
    return Tokens(flat, offsets, pad_id, cut.cut, kinds, rows=cut.rows, redraw=redraw)


def _filled(
    flat: np.ndarray, offsets: np.ndarray, types: np.ndarray | None, filler: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the sequences with this token in each empty one."""
    empty = np.diff(offsets) == 0
    if not empty.any():
        return flat, offsets, types
    at = offsets[:-1][empty]
    types = None if types is None else np.insert(types, at, 0)
    more = np.concatenate([[0], np.cumsum(empty)])
    return np.insert(flat, at, filler), offsets + more, types


def in_one(tokens: Tokens, others: Tokens) -> Tokens:
    """Return all sequences of two readings of the same n rows, those of `others` after the first.

    Each has its row. A row that either reading cuts is cut once.
    """

    def both(name: str) -> np.ndarray | None:
        sides = [getattr(tokens, name), getattr(others, name)]
        return None if sides[0] is None else np.concatenate(sides)

    rows = [np.arange(len(t.lengths)) if t.rows is None else t.rows for t in (tokens, others)]
    return replace(
        tokens,
        flat=both("flat"),
        offsets=np.concatenate([tokens.offsets, tokens.offsets[-1] + others.offsets[1:]]),
        cut=max(tokens.cut, others.cut),
        types=both("types"),
        features=both("features"),
        rows=np.concatenate(rows),
        redraw=None,
    )


def mean_by_row(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """Average (m, outputs) logits over the sequences of each row; return (n, outputs), same dtype.

    rows: (m,) ascending, as in `Tokens`; None if each row has one sequence.
    """
    if rows is None:
        return values
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    counts = np.diff(starts, append=len(rows))
    sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
    return (sums / counts[:, None]).astype(values.dtype)
