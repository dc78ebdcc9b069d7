"""A text as words and what stands between them, so that what is not touched stays as it was.

nlpaug's own tokenizer drops white space and breaks "don't" in three; and in scripts without spaces it
takes a whole clause for one word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import regex

# Scripts that write no spaces between words: each letter, with its combining marks, counts as a word.
_UNSPACED = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTERS = r"\p{L}\p{M}\p{N}"
_SPACED_RUN = rf"[[{_LETTERS}]--[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]]+"
_WORD = regex.compile(
    rf"[[{_UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*|{_SPACED_RUN}(?:['’]{_SPACED_RUN})*", regex.V1
)
_UNSPACED_WORD = regex.compile(rf"[{_UNSPACED}]", regex.V1)


@dataclass(frozen=True)
class Words:
    """n words, and the n + 1 gaps before, between and after them: spaces, punctuation, emoji."""

    words: list[str]
    gaps: list[str]

    def __len__(self) -> int:
        return len(self.words)

    def __str__(self) -> str:
        return self.gaps[0] + "".join(w + g for w, g in zip(self.words, self.gaps[1:], strict=True))

    def replaced(self, words: Sequence[str]) -> str:
        """The text with these n words in the places of its own."""
        return str(Words(list(words), self.gaps))

    def kept(self, which: Sequence[int]) -> str:
        """The text with these of its words only; a word that goes takes the space before it along."""
        keep = set(which)
        parts = [
            gap + word if i in keep else gap.rstrip()
            for i, (gap, word) in enumerate(zip(self.gaps, self.words, strict=False))
        ]
        return ("".join(parts) + self.gaps[-1]).strip()

    def inserted(self, at: dict[int, str]) -> str:
        """The text with something before word i, for each i of `at`, spaced as the word is."""
        words = [
            f"{at[i]}{'' if is_unspaced(word) else ' '}{word}" if i in at else word
            for i, word in enumerate(self.words)
        ]
        return self.replaced(words)


def split_words(text: str) -> Words:
    """The words of a text; joined again, they are the text to the letter."""
    words, gaps, end = [], [], 0
    for match in _WORD.finditer(text):
        words.append(match.group())
        gaps.append(text[end : match.start()])
        end = match.end()
    return Words(words, [*gaps, text[end:]])


def is_unspaced(word: str) -> bool:
    """Whether the word is of a script that writes no spaces between words."""
    return _UNSPACED_WORD.match(word) is not None
