"""Span masking of training texts (after SpanBERT, Joshi et al. 2020)."""

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

LONGEST = 10  # tokens, as in SpanBERT


def mask_spans(
    tokens: Tokens,
    ids: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    settings: SpanMasking,
    seed: int,
    epoch: int,
) -> Tokens:
    """Mask or drop random spans of tokens; special tokens and one other per sequence are kept.

    Spans depend on seed, epoch, row id and window only. They do not affect which windows
    `Tokens.for_epoch` samples.

    Args:
        tokens: sequences of the rows.
        ids: (n,) ids of the rows.
        tokenizer: of the backbone.
        settings: `training.mask_spans`.
        seed: of the run.
        epoch: from 0.

    Returns:
        The tokens with masked spans, or shorter ones with dropped spans.

    Raises:
        InputError: tokens are to be masked and the tokenizer has no mask token.
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
    """Sample spans of geometric length until they cover the share of n tokens; return positions."""
    budget = min(int(settings.share * n + rng.random()), n - 1)  # stochastic rounding
    chosen: set[int] = set()
    while len(chosen) < budget:
        length = 1
        while length < LONGEST and rng.random() < 1 - 1 / settings.mean:
            length += 1
        length = min(length, budget - len(chosen))
        start = rng.randrange(n - length + 1)
        chosen.update(range(start, start + length))
    return sorted(chosen)
