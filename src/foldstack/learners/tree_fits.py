"""Gradient boosting on vectors by LightGBM."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np

from foldstack.files import read_json, write_json, write_text
from foldstack.learners import Task
from foldstack.rows import Rows
from foldstack.techniques import LightgbmClassifier

NUMBERS = "trees.json"


class TreesFit:
    """One booster of all classes, or one per output.

    A soft target of several classes is a row of each class with that weight; other soft targets are
    learned by cross-entropy as they are. An output that is constant has its log odds, or its value.
    """

    def __init__(self, settings: LightgbmClassifier, task: Task, seed: int, threads: int):
        self.settings, self.task, self.seed, self.threads = settings, task, seed, threads
        self.models: list[lgb.Booster | list[float]] = []

    def fit(self, x: np.ndarray, rows: Rows) -> dict:
        if self.task.kind.is_one_hot:
            self.models = [self._classes(x, rows)]
        else:
            self.models = [self._output(x, target, rows.weights) for target in rows.targets.T]
        return {}

    def _classes(self, x: np.ndarray, rows: Rows) -> lgb.Booster | list[float]:
        n, classes = rows.targets.shape
        weights = (rows.targets * rows.weights[:, None]).T.ravel()
        keep = np.flatnonzero(weights > 0)
        y = np.repeat(np.arange(classes), n)[keep]
        if len(np.unique(y)) == 1:
            return np.log(np.bincount(y, weights[keep], minlength=classes) + 0.5).tolist()
        objective = {"objective": "multiclass", "num_class": classes}
        return self._boost(x[keep % n], y, weights[keep], objective)

    def _output(
        self, x: np.ndarray, target: np.ndarray, weights: np.ndarray
    ) -> lgb.Booster | list[float]:
        counted = weights > 0
        y, w = target[counted], weights[counted]
        values = self.task.kind.is_values
        if np.ptp(y) == 0:
            ones = float(y @ w)
            odds = np.log((ones + 0.5) / (w.sum() - ones + 0.5)) if not values else y[0]
            return [float(odds)]
        objective = {"objective": "regression" if values else "cross_entropy"}
        return self._boost(x[counted], y, w, objective)

    def _boost(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, objective: dict
    ) -> lgb.Booster:
        s = self.settings
        settings = objective | {
            "num_leaves": s.leaves,
            "learning_rate": s.learning_rate,
            "min_data_in_leaf": max(1, min(s.min_leaf_rows, len(x) // 20)),
            "feature_fraction": s.features,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": self.threads,
            "seed": self.seed,
            "verbose": -1,
        }
        made = lgb.train(settings, lgb.Dataset(x, y, weight=weights), s.rounds)
        return lgb.Booster(model_str=made.model_to_string())  # predicts as the stored one does

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return (n, outputs) logits, or values."""
        if not len(x):
            return np.zeros((0, len(self.task.outputs)))
        found = [self._predicted(model, x) for model in self.models]
        return np.concatenate(found, axis=1)

    def _predicted(self, model: lgb.Booster | list[float], x: np.ndarray) -> np.ndarray:
        if isinstance(model, list):
            return np.tile(model, (len(x), 1))
        found = model.predict(x, raw_score=True, num_threads=self.threads)
        return found.reshape(len(x), -1)

    def save(self, folder: Path) -> None:
        constants = [m if isinstance(m, list) else None for m in self.models]
        write_json(folder / NUMBERS, {"constants": constants})
        for k, model in enumerate(self.models):
            if isinstance(model, lgb.Booster):
                write_text(folder / f"trees-{k}.txt", model.model_to_string())

    def load(self, folder: Path) -> None:
        constants = read_json(folder / NUMBERS)["constants"]
        self.models = [
            lgb.Booster(model_file=folder / f"trees-{k}.txt") if constant is None else constant
            for k, constant in enumerate(constants)
        ]
