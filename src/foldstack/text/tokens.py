"""Tokenising: texts to token ids, and ids to padded tensors."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

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
    types: np.ndarray | None = None  # beside `flat`: which text of a pair a token is from

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """(b, t) input_ids and attention_mask, padded on the right to the longest of the batch.

        With token_type_ids, of the same shape, where there are any.
        """
        lengths = self.lengths[rows]
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        out = {
            "input_ids": self._padded(self.flat, rows, mask, self.pad_id),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if self.types is not None:
            out["token_type_ids"] = self._padded(self.types, rows, mask, 0)
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
) -> Tokens:
    """The tokens of each row's text or sentence pair, special ones included, at most `max_length`.

    A text loses its end; of a pair, the longer text loses tokens until both fit. The prefix stands
    before the first text. types: keep the tokenizer's token types, unless they are zero throughout
    (which backbones take for granted).
    """
    texts = [[prefix + text[0] for text in rows.texts]]
    if len(rows) and len(rows.texts[0]) == 2:
        texts.append([text[1] for text in rows.texts])
    options = {"return_attention_mask": False, "return_token_type_ids": types}
    encoded = tokenizer(*texts, add_special_tokens=True, truncation=False, verbose=False, **options)
    long = [i for i, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
    if long:  # truncated by the tokenizer itself, which knows where the special tokens go
        some = ([column[i] for i in long] for column in texts)
        short = tokenizer(*some, truncation="longest_first", max_length=max_length, **options)
        for key, column in short.items():
            for i, row in zip(long, column, strict=True):
                encoded[key][i] = row
    ids = encoded["input_ids"]
    offsets = np.cumsum([0, *map(len, ids)])
    flat = np.fromiter(chain.from_iterable(ids), np.int32, offsets[-1])
    kinds = None
    if types:
        kinds = np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.int8, offsets[-1])
        kinds = kinds if kinds.any() else None
    return Tokens(flat, offsets, tokenizer.pad_token_id or 0, len(long), kinds)
