"""Unlabelled rows beside the labelled ones of an update, for consistency training.

Unsupervised Data Augmentation (Xie et al. 2020): the network learns to predict of a changed text what it
predicts of the text. All randomness depends on seed and epoch only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from foldstack.techniques import Consistency
from foldstack.text.batches import Sequences, rows_beside, rows_drawn


@dataclass(frozen=True)
class TextPairs:
    """The unlabelled rows of an update, each with its text and the changed text.

    texts, changed: sequences of more rows than those. rows: (u,) row numbers in `texts`, of those that
    are read. of_changed: (u,) the same in `changed`.
    """

    settings: Consistency
    texts: Sequences
    changed: Sequences
    rows: np.ndarray
    of_changed: np.ndarray

    def take(self, which: np.ndarray) -> TextPairs:
        """Return some of the rows, by their place in the update."""
        rows, of_changed = self.rows[which], self.of_changed[which]
        return TextPairs(self.settings, self.texts, self.changed, rows, of_changed)


@dataclass(frozen=True)
class Unlabelled:
    """Unlabelled rows for consistency training.

    texts: sequences of n rows. changed: from an epoch and (m,) row numbers to sequences of these rows,
    with the texts as they are changed in that epoch. seed: of all draws.
    """

    settings: Consistency
    texts: Sequences
    changed: Callable[[int, np.ndarray], Sequences]
    seed: int

    def per_update(self, batch_size: int) -> int:
        """Return the number of unlabelled rows in an update; a short last batch has as many."""
        return max(1, round(self.settings.ratio * batch_size))

    def drawn(self, epoch: int, updates: int, batch_size: int) -> np.ndarray:
        """Return the unique numbers, ascending, of the rows that an epoch of these updates reads."""
        count = updates * self.per_update(batch_size)
        start = epoch * count
        return np.unique(rows_drawn(len(self.texts.lengths), start, start + count, self.seed))

    def of_epoch(self, longest: Sequence[int], batch_size: int, epoch: int) -> list[TextPairs]:
        """Return the unlabelled rows of each update of an epoch, of similar length to its batch.

        Args:
            longest: (updates,) tokens of the longest row of each batch.
            batch_size: labelled rows per batch.
            epoch: from 0.
        """
        updates, size = len(longest), self.per_update(batch_size)
        drawn = self.drawn(epoch, updates, batch_size)
        changed = self.changed(epoch, drawn)
        bounds = np.arange(epoch * updates, (epoch + 1) * updates + 1) * size
        return [
            TextPairs(self.settings, self.texts, changed, rows, np.searchsorted(drawn, rows))
            for rows in rows_beside(longest, self.texts.lengths, bounds, self.seed)
        ]
