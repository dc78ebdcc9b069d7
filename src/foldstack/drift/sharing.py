"""Sentences and groups that stand on both sides: of a fold, and of training and test."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.drift.both_files import Files
from foldstack.drift.drift_table import repeatable

APART = 0.1  # shares that differ by more than this are worth a warning


@dataclass(frozen=True)
class Sharing:
    """How many rows share a sentence, a segment or a group with rows that a run learned from.

    Attributes:
        what: 'sentence' (of a pair), 'segment' (of three) or 'group'.
        held_out: share of the training rows, each compared with the rows of the other folds.
        test: share of the test rows, compared with all training rows.
    """

    what: str
    held_out: float
    test: float

    @property
    def differs(self) -> bool:
        return abs(self.held_out - self.test) > APART


def sharing(files: Files, folds: np.ndarray) -> list[Sharing]:
    """Return how sentences of pairs, segments, and groups are shared.

    Args:
        files: both files.
        folds: (n,) fold of each training row; -1 for rows that are never held out.
    """
    found = []
    for what, columns in repeatable(files).items():
        if what in ("sentence", "segment", "group"):
            found.append(_sharing(what, columns, files.is_test, folds))
    return found


def _sharing(
    what: str, columns: list[Sequence[Hashable]], is_test: np.ndarray, folds: np.ndarray
) -> Sharing:
    n = len(folds)
    number: dict[Hashable, int] = {}
    codes = np.array(
        [[number.setdefault(value, len(number)) if value else -1 for value in c] for c in columns]
    )
    train, test = codes[:, :n], codes[:, n:]
    known = np.isin(test, train[train >= 0]).any(axis=0)
    # A value stands in other folds too if the folds that it stands in are not this one alone.
    low, high = np.full(len(number) + 1, n), np.full(len(number) + 1, -2)
    of_fold = np.broadcast_to(folds, train.shape)
    np.minimum.at(low, train, of_fold)
    np.maximum.at(high, train, of_fold)
    elsewhere = ((low[train] != folds) | (high[train] != folds)) & (train >= 0)
    scored = folds >= 0
    return Sharing(what, float(elsewhere.any(axis=0)[scored].mean()), float(known.mean()))
