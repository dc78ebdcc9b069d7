"""Feature columns as numbers that a network can read beside a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foldstack.rows import Rows

MOST_VALUES = 100  # per categorical column; each has its own weight, which a few rows cannot train
FARTHEST = 10.0  # standard deviations


@dataclass(frozen=True)
class FeatureColumns:
    """Encoding of m numeric columns and the categorical ones after them, fitted on training rows.

    Numbers are standardised and clipped to 10 standard deviations. A missing number is replaced by
    the mean; an indicator column marks it if the column has missing numbers in the training rows. A
    category is one-hot encoded among the 100 most frequent of the training rows; any other
    category, or none, is all zeros.

    mean, unit: (m,). lacking: the numeric columns with an indicator. values: the known names of
    each categorical column; names, because the codes of another test file may differ.
    """

    mean: tuple[float, ...]
    unit: tuple[float, ...]
    lacking: tuple[int, ...]
    values: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, rows: Rows, categories: Sequence[Sequence[str]]) -> FeatureColumns:
        """Fit on the rows of positive weight; categories: the names of each column's codes."""
        counted = rows.take(np.flatnonzero(rows.weights > 0))
        numbers, codes = _split(counted.features, len(categories))
        known = np.ma.masked_invalid(numbers)
        mean = np.ma.average(known, axis=0, weights=counted.weights)
        std = np.ma.sqrt(np.ma.average((known - mean) ** 2, axis=0, weights=counted.weights))
        changes = np.ma.ptp(known, axis=0) > 0
        return cls(
            tuple(np.ma.filled(mean, 0.0).tolist()),
            tuple(np.where(np.ma.filled(changes, False), np.ma.filled(std, 1.0), 1.0).tolist()),
            tuple(np.flatnonzero(np.isnan(numbers).any(axis=0)).tolist()),
            tuple(_frequent(c, names) for c, names in zip(codes.T, categories, strict=True)),
        )

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> FeatureColumns:
        values = tuple(tuple(v) for v in stored["values"])
        mean, unit, lacking = (tuple(stored[k]) for k in ("mean", "unit", "lacking"))
        return cls(mean, unit, lacking, values)

    @property
    def width(self) -> int:
        """Number of columns that `apply` returns."""
        return len(self.mean) + len(self.lacking) + sum(map(len, self.values))

    def apply(self, features: np.ndarray, categories: Sequence[Sequence[str]]) -> np.ndarray:
        """Return (n, width) float32 from `Rows.features`, whose codes index these categories."""
        numbers, codes = _split(features, len(categories))
        unknown = np.isnan(numbers)
        scaled = np.clip((numbers - np.array(self.mean)) / self.unit, -FARTHEST, FARTHEST)
        parts = [np.where(unknown, 0.0, scaled), unknown[:, list(self.lacking)]]
        for column, values, names in zip(codes.T, self.values, categories, strict=True):
            parts.append(_one_hot(column, values, names))
        return np.concatenate(parts, axis=1, dtype=np.float32)


def _split(features: np.ndarray, categorical: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numeric columns, and the categorical columns after them."""
    numeric = features.shape[1] - categorical
    return features[:, :numeric], features[:, numeric:]


def _frequent(codes: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the most frequent codes; ties are broken by the lower code."""
    counts = np.bincount(codes[~np.isnan(codes)].astype(int), minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:MOST_VALUES]
    return tuple(names[i] for i in order if counts[i])


def _one_hot(codes: np.ndarray, values: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Return (n, values) booleans for (n,) codes; NaN and unknown names give a row of zeros."""
    place = {name: i for i, name in enumerate(values)}
    places = np.array([*(place.get(name, -1) for name in names), -1])
    found = places[np.where(np.isnan(codes), len(names), codes).astype(int)]
    return found[:, None] == np.arange(len(values))
