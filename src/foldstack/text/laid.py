"""Texts laid into a template: the tokens around them, and the texts as they are tokenised there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from foldstack.rows import Rows
from foldstack.techniques import Template
from foldstack.text.sequences import Stretches, encode

MARK = "▁"  # with it SentencePiece begins each text, as if a space were there


@dataclass(frozen=True)
class Laid:
    """A template in the tokens of a tokenizer.

    Each literal and each text is tokenised by itself, so that a text can be cut inside its place, and
    that a special token is one in the template only. The spaces before a place are tokenised with
    its text, as byte-level tokenizers do with the whole.

    around: k + 1 arrays of ids, before, between and after the k places. spaces: (k,) what is put
    before each text.
    """

    around: tuple[np.ndarray, ...]
    places: tuple[int, ...]
    spaces: tuple[str, ...]

    @classmethod
    def of(cls, template: Template, tokenizer: PreTrainedTokenizerBase) -> Laid:
        read = as_written(template.literals, tokenizer)
        around = [read.flat[a:b] for a, b in zip(read.starts, read.ends, strict=True)]
        spaces = [spaces_read(each, tokenizer) for each in template.spaces]
        return cls(tuple(around), template.places, tuple(spaces))

    @property
    def size(self) -> int:
        """The number of tokens around the texts."""
        return sum(map(len, self.around))

    def columns(self, rows: Rows) -> list[list[str]]:
        """Return the text of each row in each place."""
        return [
            [space + text[place] for text in rows.texts]
            for place, space in zip(self.places, self.spaces, strict=True)
        ]

    def whole(self, parts: Sequence[Sequence[Stretches]]) -> tuple[Stretches, ...]:
        """Return the parts of m whole sequences, of the parts of the text in each place."""
        m = len(parts[0][0])
        literals = [(Stretches.repeat(ids, m),) for ids in self.around]
        mixed = zip(literals[:-1], parts, strict=True)
        return (*(s for pair in mixed for part in pair for s in part), *literals[-1])


def as_written(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Stretches:
    """Return the ids of the user's own texts, in which special tokens are tokens."""
    splits = tokenizer.split_special_tokens
    tokenizer.split_special_tokens = False
    try:
        return encode(texts, tokenizer)
    finally:
        tokenizer.split_special_tokens = splits


def spaces_read(spaces: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return these spaces less the one that the tokenizer puts before each text by itself."""
    first = tokenizer.convert_ids_to_tokens(encode(["a"], tokenizer).flat[:1].tolist())
    return spaces[1:] if any(token.startswith(MARK) for token in first) else spaces
