"""Nearest neighbours of vectors by cosine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn import config_context
from sklearn.neighbors import NearestNeighbors

from foldstack.files import placing
from foldstack.learners import Task
from foldstack.links import to_logits
from foldstack.rows import Rows
from foldstack.techniques import NeighboursClassifier

SMALLEST = 1e-6  # distance; the same text has it within the rounding of float32
LEAST = 1e-6  # probability
MEMORY_MB = 128  # of distances in float64 at once; the library's gigabyte is no faster


class NeighboursFit:
    """Means of the neighbours' targets, weighted by row weight over cosine distance.

    Soft targets are averaged as they are. A row of weight 0 is nobody's neighbour.
    """

    def __init__(self, settings: NeighboursClassifier, task: Task, seed: int, threads: int):
        self.settings, self.task = settings, task
        self.vectors = self.targets = self.weights = np.zeros(0)

    def fit(self, x: np.ndarray, rows: Rows) -> dict:
        counted = rows.weights > 0
        self.vectors = np.ascontiguousarray(x[counted], np.float32)
        self.targets, self.weights = rows.targets[counted], rows.weights[counted]
        return {}

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return (n, outputs) logits of the weighted means; values as they are."""
        if not len(x):
            return np.zeros((0, self.targets.shape[1]))
        search = NearestNeighbors(
            n_neighbors=min(self.settings.k, len(self.vectors)), metric="cosine", algorithm="brute"
        )
        with config_context(working_memory=MEMORY_MB):
            distance, near = search.fit(self.vectors).kneighbors(x.astype(np.float32))
        votes = self.weights[near] / np.maximum(distance.astype(np.float64), SMALLEST)
        found = np.einsum("nk,nko->no", votes, self.targets[near])
        total = votes.sum(axis=1, keepdims=True)
        if self.task.kind.is_values:
            return found / total
        prior = self.settings.prior * votes.mean(axis=1, keepdims=True)
        shares = np.average(self.targets, axis=0, weights=self.weights)
        p = (found + prior * shares) / (total + prior)
        return np.log(np.maximum(p, LEAST)) if self.task.kind.is_one_hot else to_logits(p, LEAST)

    def save(self, folder: Path) -> None:
        tensors = {"vectors": self.vectors, "targets": self.targets, "weights": self.weights}
        with placing(folder / "fitted.safetensors") as beside:
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, beside)

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "fitted.safetensors")
        self.vectors, self.targets, self.weights = (
            tensors[name] for name in ("vectors", "targets", "weights")
        )
