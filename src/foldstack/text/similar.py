"""Search for the texts most like another, by the cosine of their TF-IDF vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from foldstack.guess.contents import LOOKED_AT, script_of
from foldstack.text.ngrams import NgramTfidf

# Letters of these scripts stand without spaces between words. Chinese ones are cut by rjieba.
UNSPACED = frozenset({"JAPANESE", "THAI", "LAO", "KHMER", "MYANMAR"})


class SimilarTexts:
    """An index of n texts, made when it is first asked."""

    def __init__(self, texts: Sequence[str]):
        self.texts = texts

    def nearest(self, text: str, most: int) -> list[tuple[int, float]]:
        """Return (position, cosine) of the most similar texts, the first of equals first.

        Texts without a word in common are left out.
        """
        if self._index is None:
            return []
        tfidf, known = self._index
        cosine = (known @ tfidf.transform([text]).T).toarray()[:, 0]
        order = np.argsort(-cosine, kind="stable")[:most]
        return [(int(k), min(float(cosine[k]), 1.0)) for k in order if cosine[k] > 0]

    @cached_property
    def _index(self) -> tuple[NgramTfidf, csr_matrix] | None:
        """The fitted vectorizer and (n, vocabulary); None if the texts have no words."""
        if script_of(self.texts[:LOOKED_AT]) in UNSPACED:
            tfidf = NgramTfidf("char", (2, 2))
        else:
            tfidf = NgramTfidf("word", (1, 1), words="rjieba")
        try:
            tfidf.fit(self.texts)
        except ValueError:
            return None
        return tfidf, tfidf.transform(self.texts)
