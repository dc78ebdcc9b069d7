"""Columns of the user's keywords: which of them a text holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.preprocessing import normalize

from foldstack.progress import say
from foldstack.text.terms import find_terms, read_keywords

KEYWORDS = "keyword_columns.json"


@dataclass(frozen=True)
class KeywordColumns:
    """The keywords that occur in the training texts.

    Attributes:
        keywords: as they are listed.
        categories: of each keyword; one without a category is its own.
    """

    keywords: tuple[str, ...]
    categories: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, texts: Sequence[str]) -> KeywordColumns:
        """Read the file and keep the keywords that the training texts hold."""
        listed = read_keywords(path)
        held = set(find_terms(texts, list(listed)).words)
        kept = {word: category or word for word, category in listed.items() if word in held}
        say(f"{len(kept):,} of {len(listed):,} keywords occur in the training texts")
        return cls(tuple(kept), tuple(kept.values()))

    @classmethod
    def from_json(cls, stored: dict[str, list[str]]) -> KeywordColumns:
        return cls(*(tuple(stored[name]) for name in ("keywords", "categories")))

    @property
    def width(self) -> int:
        """Number of columns that `apply` returns."""
        return len(self.keywords)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The distinct categories, in the file's order."""
        return tuple(dict.fromkeys(self.categories))

    def apply(self, texts: Sequence[str]) -> csr_matrix:
        """Return (n, width) float64: 1 where a text holds a keyword."""
        found = find_terms(texts, self.keywords)
        place = {word: i for i, word in enumerate(self.keywords)}
        columns = np.array([place[word] for word in found.words], dtype=np.int32)
        rows = np.repeat(np.arange(len(texts)), found.counts)
        shape = (len(texts), self.width)
        return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)

    def wide_and_deep(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, width + groups) float32: what `apply` does, and the share of each category.

        Shares are those of the keywords that the text holds.
        """
        wide = self.apply(texts)
        group = {name: i for i, name in enumerate(self.groups)}
        of = np.array([group[name] for name in self.categories], dtype=np.int64)
        membership = csr_matrix(
            (np.ones(self.width), (np.arange(self.width), of)), shape=(self.width, len(group))
        )
        deep = normalize(wide @ membership, norm="l1") if self.width else wide
        return np.hstack([wide.toarray(), deep.toarray()]).astype(np.float32)
