"""Tokenising: texts to token ids, and ids to padded tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from foldstack.rows import Rows


@dataclass(frozen=True)
class Tokens:
    """n token sequences with special tokens, in one flat array and n + 1 offsets into it."""

    flat: np.ndarray
    offsets: np.ndarray
    pad_id: int
    cut: int  # texts that were longer than the limit

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """(b, t) input_ids and attention_mask, padded on the right to the longest of the batch."""
        lengths = self.lengths[rows]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        ids = np.full(mask.shape, self.pad_id, dtype=np.int64)
        ids[mask] = np.concatenate([self.flat[self.offsets[r] : self.offsets[r + 1]] for r in rows])
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }


def tokenise(
    rows: Rows, tokenizer: PreTrainedTokenizerBase, *, max_length: int, prefix: str = ""
) -> Tokens:
    """Prefix + text columns joined by a space, cut at `max_length` tokens, special ones included."""
    texts = [prefix + text for text in rows.joined_texts()]
    ids = tokenizer(
        texts,
        add_special_tokens=True,
        truncation=False,
        verbose=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    long = [i for i, row in enumerate(ids) if len(row) > max_length]
    if long:  # truncated by the tokenizer itself, which knows where the special tokens go
        short = tokenizer(
            [texts[i] for i in long],
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        for i, row in zip(long, short, strict=True):
            ids[i] = row
    flat = np.fromiter((t for row in ids for t in row), dtype=np.int32)
    offsets = np.cumsum([0, *map(len, ids)])
    return Tokens(flat, offsets, tokenizer.pad_token_id or 0, len(long))
