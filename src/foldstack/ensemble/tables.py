"""The tables that a second level reads: the models' predictions, then the feature columns.

An output is a class, a label or a regression target; binary competitions have one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupShuffleSplit

from foldstack.ensemble.members import Inputs, Members
from foldstack.kinds import Kind
from foldstack.links import to_logits

MANY = 8  # with more outputs, each one reads only the mean and the maximum of the others
HELD_BACK = 0.2  # of the groups
MOST_VALUES = 100  # of a categorical column; rarer ones have too few rows
FARTHEST = 10.0  # standard deviations


@dataclass(frozen=True)
class LevelReader:
    """The settings with which a second level reads its inputs.

    Attributes:
        kind: of the competition.
        scale: 'logits' or 'probabilities'; values of a regression are read unchanged.
        categorical: which of the feature columns are codes of categories.
        monotone: an output may only rise with the models' predictions of it (boosters only).
    """

    kind: Kind
    scale: str = "logits"
    categorical: tuple[int, ...] = ()
    monotone: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))  # text if read from JSON

    def values(self, inputs: Inputs) -> np.ndarray:
        """Return (n, models, outputs) of the models' predictions."""
        values = inputs.probabilities.astype(float)
        if self.kind.is_values or self.scale == "probabilities":
            return values
        return to_logits(values)

    def codes(self, width: int, features: np.ndarray | None) -> list[int]:
        """Return the categorical columns of a table of this width that ends with the features."""
        if features is None:
            return []
        return [width - features.shape[1] + k for k in self.categorical]


@dataclass(frozen=True)
class Sample:
    """n rows to train a second level on, and nothing of any other row.

    Attributes:
        values: (n, models, outputs), by the reader.
        features: (n, f), or None.
        targets: (n, outputs).
        groups: (n,), at least two different ones.
    """

    reader: LevelReader
    values: np.ndarray
    features: np.ndarray | None
    targets: np.ndarray
    groups: np.ndarray
    seed: int

    @classmethod
    def of(cls, members: Members, rows: np.ndarray, reader: LevelReader, seed: int) -> Sample:
        """Take the sample of these rows.

        Args:
            members: the models' predictions.
            rows: (n,) row indices.
            reader: of the predictions.
            seed: of the second level's training.

        Returns:
            The sample.
        """
        inputs = members.inputs.take(rows)
        values, targets = reader.values(inputs), members.targets[rows]
        return cls(reader, values, inputs.features, targets, members.groups[rows], seed)

    def __len__(self) -> int:
        return len(self.targets)

    def hold_back(self) -> tuple[np.ndarray, np.ndarray]:
        """Return positions to learn from, and those of a fifth of the groups for early stopping."""
        splitter = GroupShuffleSplit(1, test_size=HELD_BACK, random_state=self.seed)
        return next(splitter.split(self.targets, groups=self.groups))


def joined(values: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Return (n, models x outputs + f): every prediction, then the features."""
    flat = values.reshape(len(values), -1)
    return flat if features is None else np.hstack([flat, features])


def of_output(values: np.ndarray, features: np.ndarray | None, output: int) -> np.ndarray:
    """Return (n, models + others + f): the models' predictions of one output, then the other outputs,
    then the features.

    Another output is represented by its mean over the models; more than `MANY` outputs by the mean
    and the maximum over the others of these means.
    """
    parts = [values[:, :, output]]
    if values.shape[2] > 1:
        others = np.delete(values.mean(axis=1), output, axis=1)
        if values.shape[2] > MANY:
            others = np.column_stack([others.mean(axis=1), others.max(axis=1)])
        parts.append(others)
    return np.hstack(parts if features is None else [*parts, features])


def pairs(values: np.ndarray, features: np.ndarray | None) -> np.ndarray:
    """Return (n x outputs, w + 1) float32: `of_output` per output of each row, and its number.

    All outputs of the first row come first, then those of the second.
    """
    count = values.shape[2]
    tables = [
        np.column_stack([of_output(values, features, k), np.full(len(values), k)]).astype("f4")
        for k in range(count)
    ]
    return np.stack(tables, axis=1).reshape(-1, tables[0].shape[1])


def directions(kind: Kind, models: int, outputs: int, width: int) -> list[int]:
    """Return monotone constraints: 1 for columns that may only raise the prediction.

    For classes, another class may only lower it (-1): so a rising class still rises after
    normalisation.

    Args:
        kind: of the competition.
        models: number of models.
        outputs: number of outputs.
        width: number of columns of `of_output`.

    Returns:
        One of 1, -1 and 0 per column.
    """
    others = min(outputs - 1, 2 if outputs > MANY else outputs)
    other = -1 if kind.is_one_hot else 0
    return [1] * models + [other] * others + [0] * (width - models - others)


@dataclass(frozen=True)
class Scaling:
    """Preprocessing of a table for linear models and networks, fitted on the training rows.

    Numbers are standardised and clipped to 10 standard deviations; a missing one becomes the mean, with
    an indicator if the training rows had missing ones. A category is one-hot among the 100 most
    frequent, and all zeros otherwise.

    Attributes:
        numbers: columns of numbers; mean, unit: of each.
        lacking: those of them with an indicator.
        codes: columns of categories; values: the known codes of each.
    """

    numbers: list[int]
    mean: list[float]
    unit: list[float]
    lacking: list[int]
    codes: list[int]
    values: list[list[float]]

    @classmethod
    def of(cls, table: np.ndarray, codes: list[int]) -> Scaling:
        numbers = [k for k in range(table.shape[1]) if k not in codes]
        known = np.ma.masked_invalid(table[:, numbers])
        unit = np.ma.filled(known.std(axis=0), 0.0)
        lacking = np.ma.getmaskarray(known).any(axis=0)
        return cls(
            numbers,
            np.ma.filled(known.mean(axis=0), 0.0).tolist(),
            np.where(unit > 0, unit, 1.0).tolist(),
            [column for column, some in zip(numbers, lacking, strict=True) if some],
            codes,
            [_frequent(table[:, k]) for k in codes],
        )

    def apply(self, table: np.ndarray) -> np.ndarray:
        """Return (n, width) from a table (n, columns)."""
        numbers = table[:, self.numbers]
        scaled = np.clip((numbers - self.mean) / self.unit, -FARTHEST, FARTHEST)
        parts = [np.where(np.isnan(numbers), 0.0, scaled), np.isnan(table[:, self.lacking])]
        for column, values in zip(self.codes, self.values, strict=True):
            parts.append(table[:, column, None] == np.array(values))
        return np.hstack(parts)


def _frequent(codes: np.ndarray) -> list[float]:
    values, counts = np.unique(codes[~np.isnan(codes)], return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:MOST_VALUES]].tolist()
