"""The rows of both files without targets, and the groups that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldstack.near import merge_groups
from foldstack.rows import Rows, connected_groups, duplicate_groups


@dataclass(frozen=True)
class Files:
    """The rows of both files, training rows first, without targets.

    Attributes:
        rows: n + t rows.
        is_test: (n + t,) bool.
        keys: n + t values of the group column; None if a file lacks it.
        train_keys: n values of the group column of the training file; None without.
        numeric, categorical: names of the columns of `rows.features`, in this order.
        categories: the values behind the codes of each categorical column.
    """

    rows: Rows
    is_test: np.ndarray
    keys: list[str] | None = None
    train_keys: list[str] | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    categories: tuple[Sequence[str], ...] = ()

    @classmethod
    def of(cls, train: Rows, test: Rows, **columns) -> Files:
        """Return both files without targets; columns: the other attributes."""
        nothing = {"targets": None, "auxiliary": None, "difficulty": None}
        is_test = np.repeat([False, True], [len(train), len(test)])
        return cls(
            replace(train, **nothing).concatenated(replace(test, **nothing)), is_test, **columns
        )

    @property
    def segment_count(self) -> int:
        return len(self.rows.texts[0])


def independent_groups(files: Files, folds: int) -> np.ndarray:
    """Return (n + t,) groups: rows of both files that share a text, a sentence or a group value.

    Rows are joined by their segments, sentences of a pair, unless one component would fill a fold.
    """
    texts = files.rows.texts
    keys = files.keys
    if keys is None and files.train_keys is not None:  # each test row is a group of its own
        keys = [
            *(f"={key}" for key in files.train_keys),
            *map(str, range(int(files.is_test.sum()))),
        ]
    groups = duplicate_groups(texts, keys)
    if files.segment_count > 1:
        connected = merge_groups(groups, connected_groups(texts))
        if np.bincount(connected).max() * folds <= len(texts):
            return connected
    return groups
