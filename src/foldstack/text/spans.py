"""Masking of spans of tokens in training (after SpanBERT, Joshi et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.errors import InputError
from foldstack.techniques import SpanMasking
from foldstack.text.augment import row_random
from foldstack.text.tokens import Tokens

LONGEST = 10  # tokens, SpanBERT's limit


def mask_spans(
    tokens: Tokens,
    ids: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: SpanMasking,
    seed: int,
    epoch: int,
) -> Tokens:
    """The tokens of rows with these (n,) ids, spans masked or dropped; special ones are never touched.

    Drawn from the seed, the epoch and the row's id, as texts are; each window of a long text for
    itself. One token of each sequence stays. What `Tokens.for_epoch` draws, it draws without spans.

    Raises InputError where tokens are to be masked and the tokenizer has no mask.
    """
    if settings.by == "mask" and tokenizer.mask_token_id is None:
        raise InputError(
            "training.mask_spans masks tokens, but this backbone's tokenizer has no mask token: set "
            "training.mask_spans.by=drop"
        )
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    free = ~np.isin(tokens.flat, list(special))
    hit = np.zeros(len(tokens.flat), dtype=bool)
    rows = range(len(ids)) if tokens.rows is None else tokens.rows
    window, last = 0, None
    for sequence, row in enumerate(rows):
        window, last = (window + 1 if row == last else 0), row
        rng = row_random(seed, epoch, f"{ids[row]}:spans:{window}")
        if rng.random() < settings.probability:
            start, end = tokens.offsets[sequence : sequence + 2]
            places = start + np.flatnonzero(free[start:end])
            hit[places[_spans(len(places), settings, rng)]] = True
    if settings.by == "mask":
        return replace(tokens, flat=np.where(hit, np.int32(tokenizer.mask_token_id), tokens.flat))
    left = np.concatenate([[0], np.cumsum(~hit)])
    types = None if tokens.types is None else tokens.types[~hit]
    return replace(tokens, flat=tokens.flat[~hit], offsets=left[tokens.offsets], types=types)


def _spans(n: int, settings: SpanMasking, rng: Random) -> list[int]:
    """Which of n tokens: spans of geometric length, until there are so many as the share says."""
    wanted = min(int(settings.share * n + rng.random()), n - 1)  # rounded up as often as is fair
    chosen: set[int] = set()
    while len(chosen) < wanted:
        length = 1
        while length < LONGEST and rng.random() < 1 - 1 / settings.mean:
            length += 1
        length = min(length, wanted - len(chosen))
        start = rng.randrange(n - length + 1)
        chosen.update(range(start, start + length))
    return sorted(chosen)
