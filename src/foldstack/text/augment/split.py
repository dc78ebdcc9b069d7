"""Lossless word tokenizer: words and the gaps between them, so that unchanged text stays identical.

nlpaug's tokenizer drops white space, splits "don't" into three, and takes a whole clause for one
word in scripts without spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

# Scripts without spaces between words: each letter, with its combining marks, is a word.
_UNSPACED = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = r"\p{L}\p{M}\p{N}"
_SPACED_RUN = rf"[[{_LETTERS}]--[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]]+"
_WORD = regex.compile(
    rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*|{_SPACED_RUN}(?:['’]{_SPACED_RUN})*", regex.V1
)
_UNSPACED_WORD = regex.compile(rf"[{_UNSPACED}]", regex.V1)


@dataclass(frozen=True)
class SplitText:
    """Text of n words and the n + 1 gaps before, between and after them (spaces, punctuation, emoji)."""

    words: list[str]
    gaps: list[str]

    def __len__(self) -> int:
        return len(self.words)

    def __str__(self) -> str:
        return self.gaps[0] + "".join(w + g for w, g in zip(self.words, self.gaps[1:], strict=True))

    def replaced(self, words: Sequence[str]) -> str:
        """Return the text with its words replaced by these n words."""
        return str(SplitText(list(words), self.gaps))

    def kept(self, which: Sequence[int]) -> str:
        """Return the text with only these words; the space before a deleted word goes too."""
        keep = set(which)
        parts = [
            gap + word if i in keep else gap.rstrip()
            for i, (gap, word) in enumerate(zip(self.gaps, self.words, strict=False))
        ]
        return ("".join(parts) + self.gaps[-1]).strip()

    def inserted(self, at: dict[int, str]) -> str:
        """Return the text with at[i] inserted before word i; spaces as the word's script has."""
        words = [
            f"{at[i]}{'' if is_unspaced(word) else ' '}{word}" if i in at else word
            for i, word in enumerate(self.words)
        ]
        return self.replaced(words)


def split_words(text: str) -> SplitText:
    """Split a text into words and gaps; `str` of the result is the text."""
    words, gaps, end = [], [], 0
    for match in _WORD.finditer(text):
        words.append(match.group())
        gaps.append(text[end : match.start()])
        end = match.end()
    return SplitText(words, [*gaps, text[end:]])


def is_unspaced(word: str) -> bool:
    """Return whether the word's script has no spaces between words."""
    return _UNSPACED_WORD.match(word) is not None
