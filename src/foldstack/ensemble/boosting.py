"""The second level by gradient boosting: shallow LightGBM, stopped early."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np

from foldstack import cores
from foldstack.ensemble.members import Inputs
from foldstack.ensemble.search import normalised
from foldstack.ensemble.tables import (
    MANY,
    LevelReader,
    Sample,
    directions,
    joined,
    of_output,
    pairs,
)
from foldstack.files import write_text

SETTINGS = {"num_leaves": 7, "learning_rate": 0.05, "min_data_in_leaf": 50}
MOST_ROUNDS = 500
PATIENCE = 20  # rounds without improvement on the held-back rows
MANY_ROWS = 20_000  # from this many on several threads predict; results are the same
MOST_PAIRS = 2_000_000  # (row, output) pairs to train on; more cost time without better scores


@dataclass(frozen=True)
class Boosters:
    """Boosters of one layout.

    `joint`: one multiclass booster over all predictions. `outputs`: one booster per output, over
    `of_output`. `pairs`: one booster over all (row, output) pairs, with the output's number as a
    feature; rare labels profit from frequent ones, and there is one training instead of one per label.

    Each booster stops early (Prechelt 1998, "Early stopping, but when?") on a fifth of its groups. An
    output that is constant in the training rows is predicted by its mean.

    Attributes:
        models: boosters, or the mean of a constant output.
    """

    reader: LevelReader
    outputs: int
    layout: str
    models: list[lgb.Booster | float]

    @classmethod
    def train(cls, sample: Sample) -> Boosters:
        outputs = sample.targets.shape[1]
        layout = choose_layout(sample.reader, outputs)
        train = {"joint": _joint, "outputs": _by_output, "pairs": _of_pairs}[layout]
        return cls(sample.reader, outputs, layout, train(sample))

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Return predictions (n, outputs)."""
        # The table of pairs is `outputs` times as large as its source.
        step = max(1, MOST_PAIRS // self.outputs)
        starts = range(0, max(len(inputs.ranks), 1), step)
        return np.concatenate([self._predict(inputs.take(slice(s, s + step))) for s in starts])

    def _predict(self, inputs: Inputs) -> np.ndarray:
        values, features, n = self.reader.values(inputs), inputs.features, len(inputs.ranks)
        if not n:
            return np.empty((0, self.outputs))
        if self.layout == "joint":
            return _predicted(self.models[0], joined(values, features))
        if self.layout == "pairs":
            found = _predicted(self.models[0], pairs(values, features))
            found = found.reshape(n, self.outputs)
        else:
            found = np.empty((n, self.outputs))
            for k, model in enumerate(self.models):
                constant = isinstance(model, float)
                table = None if constant else of_output(values, features, k)
                found[:, k] = model if constant else _predicted(model, table)
        return normalised(found, axis=1) if self.reader.kind.is_one_hot else found

    @property
    def parameters(self) -> dict:
        constants = {str(k): m for k, m in enumerate(self.models) if isinstance(m, float)}
        rounds = [0 if isinstance(m, float) else m.best_iteration for m in self.models]
        return {"layout": self.layout, "rounds": rounds, "constants": constants}

    def save(self, directory: Path, stem: str) -> list[Path]:
        """Write LightGBM's text to `<stem>-<k>.txt` per booster; constants are parameters."""
        paths = []
        for k, model in enumerate(self.models):
            if isinstance(model, lgb.Booster):
                paths.append(Path(directory) / f"{stem}-{k}.txt")
                # LightGBM's own writer gives no reason for a failure and leaves a partial file.
                write_text(paths[-1], model.model_to_string())
        return paths

    @classmethod
    def load(
        cls, parameters: dict, reader: LevelReader, outputs: int, directory: Path, stem: str
    ) -> Boosters:
        constants = parameters["constants"]
        models = [
            constants[str(k)]
            if str(k) in constants
            else lgb.Booster(model_file=Path(directory) / f"{stem}-{k}.txt")
            for k in range(len(parameters["rounds"]))
        ]
        return cls(reader, outputs, parameters["layout"], models)


def _predicted(model: lgb.Booster, table: np.ndarray) -> np.ndarray:
    threads = cores.cpu_threads(0) if len(table) >= MANY_ROWS else 1
    return model.predict(table, num_threads=threads)


def choose_layout(reader: LevelReader, outputs: int) -> str:
    """Return 'joint' for classes (unless monotone), 'pairs' for many labels, otherwise 'outputs'."""
    if reader.kind.has_labels and outputs > MANY:  # values in different units are not pooled
        return "pairs"
    return "joint" if reader.kind.is_one_hot and not reader.monotone else "outputs"


def _joint(sample: Sample) -> list[lgb.Booster | float]:
    objective = {"objective": "multiclass", "num_class": sample.targets.shape[1]}
    table = joined(sample.values, sample.features)
    split = sample.hold_back()
    codes = sample.reader.codes(table.shape[1], sample.features)
    return [_boost(table, sample.targets.argmax(axis=1), split, objective, codes, sample.seed)]


def _by_output(sample: Sample) -> list[lgb.Booster | float]:
    split = sample.hold_back()
    models: list[lgb.Booster | float] = []
    for k, target in enumerate(sample.targets.T):
        if np.ptp(target[split[0]]) == 0:
            models.append(float(target.mean()))
            continue
        table = of_output(sample.values, sample.features, k)
        codes = sample.reader.codes(table.shape[1], sample.features)
        objective = _objective(sample, table)
        models.append(_boost(table, target, split, objective, codes, sample.seed))
    return models


def _of_pairs(sample: Sample) -> list[lgb.Booster | float]:
    outputs, rng = sample.targets.shape[1], np.random.default_rng(sample.seed)
    # Sampled before the table of pairs is built, which is `outputs` times as large.
    learned, stopped = (_draw(part, MOST_PAIRS // outputs, rng) for part in sample.hold_back())
    chosen = np.concatenate([learned, stopped])
    features = None if sample.features is None else sample.features[chosen]
    table = pairs(sample.values[chosen], features)
    target, border = sample.targets[chosen].ravel(), len(learned) * outputs
    split = np.arange(border), np.arange(border, len(target))
    codes = [*sample.reader.codes(table.shape[1] - 1, features), table.shape[1] - 1]
    objective = _objective(sample, table)
    return [_boost(table, target, split, objective, codes, sample.seed)]


def _draw(positions: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(positions) <= most:
        return positions
    return np.sort(rng.choice(positions, max(most, 1), replace=False))


def _objective(sample: Sample, table: np.ndarray) -> dict:
    kind, (_, models, outputs) = sample.reader.kind, sample.values.shape
    objective = {"objective": "regression" if kind.is_values else "binary"}
    if sample.reader.monotone:
        objective["monotone_constraints"] = directions(kind, models, outputs, table.shape[1])
    return objective


def _boost(
    table: np.ndarray,
    target: np.ndarray,
    split: tuple[np.ndarray, np.ndarray],
    objective: dict,
    codes: list[int],
    seed: int,
) -> lgb.Booster:
    learned, stopped = split
    settings = {
        **SETTINGS,
        **objective,
        "min_data_in_leaf": min_data_in_leaf(len(learned)),
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbose": -1,
    }
    data = lgb.Dataset(table[learned], target[learned], categorical_feature=codes)
    return lgb.train(
        settings,
        data,
        num_boost_round=MOST_ROUNDS,
        valid_sets=[data.create_valid(table[stopped], target[stopped])],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )


def min_data_in_leaf(rows: int) -> int:
    """Return the setting, 50; less below a thousand rows, which could not be split with it."""
    return max(1, min(SETTINGS["min_data_in_leaf"], rows // 20))
