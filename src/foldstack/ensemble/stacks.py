"""Stacks: a second level learns from the models' out-of-fold predictions (Wolpert 1992, "Stacked
generalization").

The second level's folds are the first level's. Fitted on the rows of several folds, a stack trains a
model for each of them on the others; a row's crossfit is by the model that left its fold out, and
what none of them saw is predicted by their mean. What a model tunes itself by (rounds, epochs, a
penalty) is a part held back of its own rows, never the fold it leaves out.
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
from foldstack.ensemble.network import Network
from foldstack.ensemble.tables import LevelReader, Sample
from foldstack.metrics import Metric

SPLITS = 5  # where there are rows of one fold only


class Level(Protocol):
    """A second level trained on some rows.

    Attributes:
        parameters: what was fitted, JSON-able, but for what `save` writes.
    """

    parameters: dict

    @classmethod
    def train(cls, sample: Sample) -> Level: ...

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Predictions (n, outputs)."""

    def save(self, directory: Path, stem: str) -> list[Path]:
        """Writes what `parameters` cannot hold to files whose names begin with the stem."""

    @classmethod
    def load(
        cls, parameters: dict, reader: LevelReader, outputs: int, directory: Path, stem: str
    ) -> Level:
        """Load what `save` wrote."""


@dataclass(frozen=True)
class ConstantLevel:
    """The mean of the targets, where rows of one group, or of one target, teach nothing else."""

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
SIMPLEST = 3  # the complexity of the first of them; the next ones have one more each


class Stack:
    """One of `STACKS`, over logits or probabilities and the feature columns.

    Models are remembered by the rows they were trained on, since the fits of a nesting share most of
    theirs: without folds 1 and 2 is what a fit on all folds but 1 trains to leave out 2.
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
        with threadpool_limits(1):  # sums in another order are other bytes
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
    """Positions among the rows to learn from and to leave out: fold by fold, or, of rows of a
    single fold, in group-wise splits.
    """
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
    """The mean of second-level models, one for each fold left out.

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
        """Writes `stack<m>…` for each model m that its parameters do not tell in full."""
        return [
            path
            for m, model in enumerate(self.models)
            for path in model.save(Path(directory), f"stack{m}")
        ]


def load_stack(name: str, parameters: dict, outputs: int, directory: Path) -> Stacked:
    """The stack of which `parameters` were stored, and whose `save` wrote to the directory."""
    stored = parameters["reader"]
    reader = LevelReader(**stored | {"categorical": tuple(stored["categorical"])})
    models = [
        ConstantLevel(np.array(each["means"]))
        if "means" in each
        else STACKS[name].load(each, reader, outputs, directory, f"stack{m}")
        for m, each in enumerate(parameters["models"])
    ]
    return Stacked(reader, models, crossfit=np.empty((0, outputs)))
