"""Masked language modelling: masked tokens and their labels (BERT, Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError
from foldstack.text.tokens import Tokens

MASKED, KEPT = 0.8, 0.1  # shares of the predicted tokens; the rest is replaced by random tokens
IGNORE_INDEX = -100  # the ignore_index of torch's cross-entropy


@dataclass(frozen=True)
class Masked:
    """Masked tokens and, aligned with them, labels: the original id, or IGNORE_INDEX."""

    tokens: Tokens
    labels: Tokens

    @property
    def lengths(self) -> np.ndarray:
        return self.tokens.lengths

    @property
    def predicted(self) -> np.ndarray:
        """(n,) number of tokens to predict per sequence."""
        ends = np.concatenate([[0], np.cumsum(self.labels.flat != IGNORE_INDEX)])
        return np.diff(ends[self.labels.offsets])

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        """Return the batch of `Tokens.batch` with labels (b, t)."""
        labels = self.labels.batch(rows, multiple)["input_ids"]
        return self.tokens.batch(rows, multiple) | {"labels": labels}


def mask_tokens(
    tokens: Tokens,
    tokenizer: PreTrainedTokenizerBase,
    prefix: str,
    share: float,
    seed: int,
    epoch: int,
) -> Masked:
    """Mask a share of the tokens, sampled from seed and epoch, and return them with their labels.

    Of the sampled tokens, a share MASKED becomes the mask token, KEPT stays, and the others become
    random tokens of these texts. Special tokens and tokens of the prefix are neither sampled nor
    inserted.

    Args:
        tokens: n sequences with special tokens.
        tokenizer: of the backbone.
        prefix: text before each text.
        share: probability of predicting a token.
        seed: of the run.
        epoch: from 0.

    Returns:
        The masked tokens and their labels.

    Raises:
        InputError: the tokenizer has no mask token.
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
    chosen = free & (rng.random(len(free)) < share)
    fate = rng.random(len(free))
    becomes_mask, becomes_any = chosen & (fate < MASKED), chosen & (fate >= MASKED + KEPT)
    flat = np.array(tokens.flat)
    flat[becomes_mask] = tokenizer.mask_token_id
    if becomes_any.any():
        flat[becomes_any] = rng.choice(np.unique(tokens.flat[free]), becomes_any.sum())
    labels = np.where(chosen, tokens.flat, IGNORE_INDEX)
    return Masked(
        replace(tokens, flat=flat, redraw=None),
        replace(tokens, flat=labels, pad_id=IGNORE_INDEX, types=None, features=None, redraw=None),
    )
