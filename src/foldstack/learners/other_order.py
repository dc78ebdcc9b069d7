"""Rows with two of their texts exchanged, and their targets and outputs with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foldstack.errors import InputError, cut, nearest
from foldstack.learners import Task
from foldstack.rows import Rows
from foldstack.techniques import BothOrders
from foldstack.techniques.both_orders import OPPOSITE


@dataclass(frozen=True)
class OtherOrder:
    """Exchange of two texts of a row; each of its changes is its own inverse.

    Attributes:
        texts: numbers of the two.
        opposite: the probability of the only output becomes that of the other label.
        outputs, numeric, auxiliary: (k,) which of the outputs, numeric columns and auxiliary targets
            stands in each one's place.
    """

    texts: tuple[int, int]
    opposite: bool
    outputs: np.ndarray
    numeric: np.ndarray
    auxiliary: np.ndarray

    @classmethod
    def of(cls, settings: BothOrders, task: Task) -> OtherOrder:
        """Return the change that the settings name; InputError if an output is unknown."""
        for name in [name for pair in settings.pairs.items() for name in pair]:
            if name not in task.outputs:
                raise InputError(
                    f"both_orders.exchange names '{cut(name)}', which is no output of the competition: "
                    f"{nearest(name, task.outputs)}"
                )
        first, second = map(task.texts.index, settings.texts) if settings.texts else (0, 1)
        return cls(
            (first, second),
            settings.exchange == OPPOSITE,
            _places(task.outputs, settings.pairs),
            _places(task.numeric, settings.column_pairs),
            _places(task.auxiliary, settings.column_pairs),
        )

    @property
    def changes_targets(self) -> bool:
        """Whether anything that is learned changes with the order."""
        moved = [self.outputs, self.auxiliary]
        return self.opposite or any((a != np.arange(len(a))).any() for a in moved)

    def rows(self, rows: Rows) -> Rows:
        """Return the rows with these texts exchanged, and all that belongs to them."""
        place = list(range(len(rows.texts[0]) if len(rows) else 0))
        if place:
            a, b = self.texts
            place[a], place[b] = b, a
        features, numeric = rows.features, len(self.numeric)
        if features is not None:
            features = np.hstack([features[:, self.numeric], features[:, numeric:]])
        return replace(
            rows,
            texts=[tuple(text[i] for i in place) for text in rows.texts],
            targets=self._targets(rows.targets),
            features=features,
            auxiliary=None if rows.auxiliary is None else exchanged(rows.auxiliary, self.auxiliary),
            taught=self._targets(rows.taught),
        )

    def _targets(self, targets: np.ndarray | None) -> np.ndarray | None:
        if targets is None:
            return None
        return 1 - targets if self.opposite else exchanged(targets, self.outputs)

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Return (n, outputs) logits or values of the other order as those of the order of the rows."""
        return -logits if self.opposite else exchanged(logits, self.outputs)


def exchanged(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return (n, k) values with columns in the place of others; as they are if no column has a name."""
    return values[:, places] if len(places) else values


def _places(names: Sequence[str], pairs: Mapping[str, str]) -> np.ndarray:
    """Return (k,) the number of the name that stands in the place of each."""
    other = {a: b for pair in pairs.items() for a, b in (pair, pair[::-1])}
    return np.array([names.index(other.get(name, name)) for name in names], dtype=np.int64)
