"""Masked words to be told from the rest of a text (BERT, Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError
from foldstack.text.tokens import Tokens

MASKED, KEPT = 0.8, 0.1  # shares of the asked tokens; the rest becomes any other token
NOT_ASKED = -100  # what torch's cross-entropy passes over


@dataclass(frozen=True)
class Masked:
    """Tokens, some of them masked, and beside each what it was, NOT_ASKED where that is not asked."""

    tokens: Tokens
    labels: Tokens

    @property
    def lengths(self) -> np.ndarray:
        return self.tokens.lengths

    @property
    def asked(self) -> np.ndarray:
        """(n,) how many tokens of each sequence are to be told."""
        ends = np.concatenate([[0], np.cumsum(self.labels.flat != NOT_ASKED)])
        return np.diff(ends[self.labels.offsets])

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        """What `Tokens.batch` gives, with labels (b, t)."""
        labels = self.labels.batch(rows, multiple)["input_ids"]
        return self.tokens.batch(rows, multiple) | {"labels": labels}


def mask_words(
    tokens: Tokens,
    tokenizer: PreTrainedTokenizerBase,
    prefix: str,
    share: float,
    seed: int,
    epoch: int,
) -> Masked:
    """So large a share of the tokens is asked, drawn from seed and epoch.

    Of those, MASKED become the mask, KEPT stay, and the others become any that occurs. Special tokens
    and those of the prefix, which stands before each text, are neither asked nor drawn.

    Raises InputError where the tokenizer has no mask.
    """
    if tokenizer.mask_token_id is None:
        raise InputError(
            "pretrain masks words, but this backbone's tokenizer has no mask token: leave it out"
        )
    free = ~np.isin(tokens.flat, tokenizer.all_special_ids)
    before = len(tokenizer(prefix.rstrip(), add_special_tokens=False)["input_ids"]) if prefix else 0
    if before:
        so_far = np.concatenate([[0], np.cumsum(free)])
        in_sequence = so_far[1:] - np.repeat(so_far[tokens.offsets[:-1]], tokens.lengths)
        free &= in_sequence > before
    rng = np.random.default_rng([seed, epoch])
    asked = free & (rng.random(len(free)) < share)
    fate = rng.random(len(free))
    becomes_mask, becomes_any = asked & (fate < MASKED), asked & (fate >= MASKED + KEPT)
    flat = np.array(tokens.flat)
    flat[becomes_mask] = tokenizer.mask_token_id
    if becomes_any.any():
        flat[becomes_any] = rng.choice(np.unique(tokens.flat[free]), becomes_any.sum())
    labels = np.where(asked, tokens.flat, NOT_ASKED)
    return Masked(
        replace(tokens, flat=flat, redraw=None),
        replace(tokens, flat=labels, pad_id=NOT_ASKED, types=None, features=None, redraw=None),
    )
