"""Stacks: a second level learns from the models' out-of-fold predictions (Wolpert 1992, "Stacked
generalization").

The second level uses the first level's folds. Fitted on the rows of several folds, a stack trains one
model per fold, on the other folds; a row's crossfit is by the model without its fold, and unseen rows
are predicted by the models' mean. A model tunes itself (rounds, epochs, penalty) on a held-back part
of its own rows, never on the fold it leaves out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from foldstack.ensemble.blends import NO_OPTIONS, BlendOptions
from foldstack.ensemble.boosting import Boosters
from foldstack.ensemble.linear import LinearLevel
from foldstack.ensemble.members import Inputs, Members
from foldstack.ensemble.stack_network import Network
from foldstack.ensemble.tables import LevelReader, Sample
from foldstack.metrics import Metric

SPLITS = 5  # if all rows are of one fold


class Level(Protocol):
    """A second-level model trained on some rows.

    Attributes:
        parameters: what was fitted, JSON-able, apart from what `save` writes.
    """

    parameters: dict

    @classmethod
    def train(cls, sample: Sample) -> Level: ...

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Return predictions (n, outputs)."""

    def save(self, directory: Path, stem: str) -> list[Path]:
        """Write what `parameters` cannot hold to files whose names begin with the stem; return them."""

    @classmethod
    def load(
        cls, parameters: dict, reader: LevelReader, outputs: int, directory: Path, stem: str
    ) -> Level:
        """Load a fitted level.

        Args:
            parameters: as stored.
            reader: of its inputs.
            outputs: number of outputs.
            directory: the files that `save` wrote.
            stem: of their names.

        Returns:
            The level.
        """


@dataclass(frozen=True)
class ConstantLevel:
    """The mean of the targets, if rows of one group, or of one target, allow nothing else."""

    means: np.ndarray

    @property
    def parameters(self) -> dict:
        return {"means": self.means.tolist()}

    @classmethod
    def train(cls, sample: Sample) -> ConstantLevel:
        return cls(sample.targets.mean(axis=0))

    def predict(self, inputs: Inputs) -> np.ndarray:
        return np.tile(self.means, (len(inputs.ranks), 1))

    def save(self, directory: Path, stem: str) -> list[Path]:
        return []


STACKS: dict[str, type[Level]] = {
    "stack_linear": LinearLevel,
    "stack": Boosters,
    "stack_mlp": Network,
}
SIMPLEST = 3  # the complexity of the first of them; it grows by one per method


class Stack:
    """One of `STACKS`, over logits or probabilities and the feature columns.

    Models are cached by their training rows, since the fits of a nesting share most of theirs: the
    model without folds 1 and 2 is what a fit on all folds but 1 trains to leave out 2.
    """

    def __init__(self, name: str = "stack", options: BlendOptions = NO_OPTIONS):
        self.name, self.options, self._level = name, options, STACKS[name]
        self.complexity = SIMPLEST + list(STACKS).index(name)
        self._members: Members | None = None
        self._trained: dict[tuple[int, bytes], Level] = {}

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Stacked:
        if members is not self._members:
            self._members, self._trained = members, {}
        monotone = self.options.stack_monotone and self._level is Boosters
        reader = LevelReader(members.kind, self.options.stack_inputs, members.categorical, monotone)
        models, crossfit = [], np.empty((len(rows), members.targets.shape[1]))
        with threadpool_limits(1):  # the order of sums changes their bytes
            for learned, left_out in _splits(members, rows, seed):
                model = self._train(rows[learned], reader, seed)
                crossfit[left_out] = model.predict(members.inputs.take(rows[left_out]))
                models.append(model)
        return Stacked(reader, models, crossfit)

    def _train(self, rows: np.ndarray, reader: LevelReader, seed: int) -> Level:
        key = seed, hashlib.sha256(np.ascontiguousarray(rows).tobytes()).digest()
        if key not in self._trained:
            sample = Sample.of(self._members, rows, reader, seed)
            alike = np.ptp(sample.targets, axis=0).max() == 0 or len(np.unique(sample.groups)) == 1
            train = ConstantLevel.train if alike else self._level.train
            self._trained[key] = train(sample)
        return self._trained[key]


def _splits(
    members: Members, rows: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions to learn from and to leave out: per fold, or group-wise within one fold."""
    folds = members.folds[rows]
    names = np.unique(folds)
    if len(names) > 1:
        for name in names:
            yield np.flatnonzero(folds != name), np.flatnonzero(folds == name)
        return
    groups = members.groups[rows]
    splits = min(SPLITS, len(np.unique(groups)))
    if splits == 1:
        yield np.arange(len(rows)), np.arange(len(rows))
        return
    splitter = GroupKFold(splits, shuffle=True, random_state=seed)
    yield from splitter.split(rows, groups=groups)


@dataclass(frozen=True)
class Stacked:
    """The mean of second-level models, one per fold left out.

    Attributes:
        models: in the order of the folds.
    """

    reader: LevelReader
    models: list[Level]
    crossfit: np.ndarray = field(repr=False)
    scale: ClassVar[str] = "probability"

    @property
    def parameters(self) -> dict:
        return {"reader": asdict(self.reader), "models": [m.parameters for m in self.models]}

    def predict(self, inputs: Inputs) -> np.ndarray:
        with threadpool_limits(1):
            return np.mean([model.predict(inputs) for model in self.models], axis=0)

    def save(self, directory: Path) -> list[Path]:
        """Write files `stack<m>…` of each model m that has some; return their paths."""
        return [
            path
            for m, model in enumerate(self.models)
            for path in model.save(Path(directory), f"stack{m}")
        ]


def load_stack(name: str, parameters: dict, outputs: int, directory: Path) -> Stacked:
    """Load a stack.

    Args:
        name: of `STACKS`.
        parameters: as stored.
        outputs: number of outputs.
        directory: the files that `Stacked.save` wrote.

    Returns:
        The stack, without its crossfit.
    """
    stored = parameters["reader"]
    reader = LevelReader(**stored | {"categorical": tuple(stored["categorical"])})
    models = [
        ConstantLevel(np.array(each["means"]))
        if "means" in each
        else STACKS[name].load(each, reader, outputs, directory, f"stack{m}")
        for m, each in enumerate(parameters["models"])
    ]
    return Stacked(reader, models, crossfit=np.empty((0, outputs)))
