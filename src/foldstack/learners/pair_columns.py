"""Columns of how alike every two segments of a row are, fitted on training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foldstack.learners.columns import FeatureColumns
from foldstack.rows import Rows
from foldstack.text.features import shared_words
from foldstack.text.pair_features import WordWeights, edits, overlaps

PAIRS = "pair_columns.json"


@dataclass(frozen=True)
class PairColumns:
    """Standardised columns of every two segments: overlaps, weighed words, and edits if asked for.

    Attributes:
        weights: of the words.
        scales: of the columns.
        edits: whether edit distances are among them.
    """

    weights: WordWeights
    scales: FeatureColumns
    edits: bool

    @classmethod
    def of(cls, rows: Rows, with_edits: bool) -> PairColumns:
        """Fit on n training rows of several segments each."""
        weights = WordWeights.of(rows.texts)
        found = _columns(rows.texts, weights, with_edits)
        return cls(weights, FeatureColumns.of(replace(rows, features=found), ()), with_edits)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> PairColumns:
        weights = WordWeights.from_json(stored["weights"])
        return cls(weights, FeatureColumns.from_json(stored["scales"]), stored["edits"])

    @property
    def width(self) -> int:
        """Number of columns that `apply` returns."""
        return self.scales.width

    def apply(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return (n, width) float32."""
        return self.scales.apply(_columns(texts, self.weights, self.edits), ())


def _columns(
    texts: Sequence[tuple[str, ...]], weights: WordWeights, with_edits: bool
) -> np.ndarray:
    further = [edits(texts)] if with_edits else []
    return np.hstack([shared_words(texts), overlaps(texts), weights.apply(texts), *further])
