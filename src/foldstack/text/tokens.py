"""Tokenising: texts to token ids, and ids to padded tensors."""

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
    """n token sequences with special tokens, in one flat array and n + 1 offsets into it.

    rows: (n,) ascending, the row that each sequence is a window of; None where each row has one.
    redraw: (seed, epoch) to other flat, offsets and types of the same lengths, or None.
    """

    flat: np.ndarray
    offsets: np.ndarray
    pad_id: int
    cut: int  # rows of which a part is not read
    types: np.ndarray | None = None  # beside `flat`: which text of a pair a token is from
    features: np.ndarray | None = None  # (n, f) float32 that the head joins
    rows: np.ndarray | None = None
    redraw: Callable[[int, int], tuple] | None = None

    def for_epoch(self, seed: int, epoch: int) -> Tokens:
        """What an epoch reads: windows drawn from seed, epoch and row alone, or the same for all."""
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

    def distinct(self) -> tuple[np.ndarray, np.ndarray]:
        """(m,) the sequences unlike all before them, and (n,) which of these each one equals.

        Equal is what gives the network the same: tokens, types and features.
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
        """(b, t) input_ids and attention_mask, padded on the right to the longest of the batch.

        Or, if no sequence here is shorter, to the next multiple of so many tokens. With token_type_ids,
        of the same shape, and (b, f) features, where there are any.
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
    """The tokens of each row's text or sentence pair, special ones included, at most `max_length`.

    The prefix stands before the first text. types: keep the tokenizer's token types, unless they are
    zero throughout (which backbones take for granted). long: what is read of a longer text.
    """
    texts = Texts.read(rows, tokenizer, prefix)
    return to_tokens(texts, cut_texts(texts, max_length, long), types)


def to_tokens(texts: Texts, cut: Cut, types: bool) -> Tokens:
    """The sequences of a cut, with their special tokens."""

    def built(some: Cut) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return texts.frames.build(some.first, some.second, some.paired, types)

    redraw = None
    if cut.redraw:
        redraw = lambda seed, epoch: built(cut.redraw(seed, epoch))  # noqa: E731
    flat, offsets, kinds = built(cut)
    pad_id = texts.tokenizer.pad_token_id or 0
    return Tokens(flat, offsets, pad_id, cut.cut, kinds, rows=cut.rows, redraw=redraw)


def mean_by_row(values: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """(m, outputs) raw outputs to (n, outputs): the mean over each row's sequences, in their type.

    rows: (m,) ascending, as in `Tokens`; None: each row has one sequence.
    """
    if rows is None:
        return values
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    counts = np.diff(starts, append=len(rows))
    sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
    return (sums / counts[:, None]).astype(values.dtype)
