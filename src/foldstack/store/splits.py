"""The folds of the training rows: which rows a run learns from, and which it holds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Folds:
    """The splits of the training rows, in the order of the training file, and their settings.

    Attributes:
        splits: (n, repeats) the fold of each row in each split, numbered consecutively over splits; -1
            for early rows that time order never holds out.
        settings: the `folds` section of competition.yaml; empty without folds.json.
        hash: see `Store.folds_hash`.
        groups: (n,) groups that must not occur both in training and in held-out rows in time order;
            None for the other kinds, which keep a group in one fold.
        chosen: the folds that are held out and scored; None for all.
    """

    splits: np.ndarray
    settings: dict[str, Any]
    hash: str
    groups: np.ndarray | None = None
    chosen: tuple[int, ...] | None = None

    @property
    def held(self) -> np.ndarray:
        """(n, splits with a chosen fold) the fold of each row; -1 for rows of other folds."""
        if self.chosen is None:
            return self.splits
        held = np.where(np.isin(self.splits, self.chosen), self.splits, -1)
        return held[:, (held >= 0).any(axis=0)]

    @property
    def fold(self) -> np.ndarray:
        """(n,) fold in the first split, which nests blends."""
        return self.held[:, 0]

    @property
    def count(self) -> int:
        """The number of folds of all splits together."""
        return int(self.splits.max()) + 1

    @property
    def numbers(self) -> list[int]:
        """All folds that are held out."""
        return np.unique(self.held[self.held >= 0]).tolist()

    @property
    def by_split(self) -> list[list[int]]:
        """The folds of each split that are held out."""
        return [np.unique(split[split >= 0]).tolist() for split in self.held.T]

    def only(self, numbers: Sequence[int]) -> Folds:
        """Return the same folds with only these held out and scored."""
        return replace(self, chosen=tuple(numbers))

    @property
    def in_time_order(self) -> bool:
        return self.groups is not None

    @property
    def scored(self) -> np.ndarray:
        """Positions of the rows that some run holds out; without time order, all rows."""
        return np.flatnonzero(self.fold >= 0)

    def held_out(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Return the positions of the rows in any of these folds."""
        return np.flatnonzero(self._in(left_out))

    def learned(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Return the positions of the other rows; in time order, only earlier ones of other groups."""
        held = self._in(left_out)
        if not self.in_time_order or not left_out:
            return np.flatnonzero(~held)
        earlier = self.splits[:, 0] < min(left_out)
        return np.flatnonzero(earlier & ~np.isin(self.groups, self.groups[held]))

    def split_of(self, left_out: tuple[int, ...]) -> np.ndarray:
        """Return (n,) the fold of each row in the split of these folds; the first split for none."""
        at = int(np.isin(self.splits, left_out).any(axis=0).argmax()) if left_out else 0
        return self.splits[:, at]

    def _in(self, left_out: tuple[int, ...]) -> np.ndarray:
        return np.isin(self.splits, left_out).any(axis=1)
