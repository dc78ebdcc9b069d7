"""Nearest neighbours of vectors by cosine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, vstack
from sklearn.metrics import pairwise_distances_chunked

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

    Soft targets are averaged as they are. A row of weight 0 is nobody's neighbour. Of rows at the
    distance of the k-th one, such as copies, all are neighbours, and share the places that are left.
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
        k = min(self.settings.k, len(self.vectors))
        parts = pairwise_distances_chunked(
            np.asarray(x, np.float32),
            self.vectors,
            reduce_func=lambda distance, _: self._votes(distance, k),
            metric="cosine",
            working_memory=MEMORY_MB,
        )
        votes = vstack(list(parts), format="csr")
        found, total = votes @ self.targets, votes @ np.ones((len(self.vectors), 1))
        if self.task.kind.is_values:
            return found / total
        prior = self.settings.prior * total / k
        shares = np.average(self.targets, axis=0, weights=self.weights)
        p = (found + prior * shares) / (total + prior)
        return np.log(np.maximum(p, LEAST)) if self.task.kind.is_one_hot else to_logits(p, LEAST)

    def _votes(self, distance: np.ndarray, k: int) -> csr_matrix:
        """Return the (n, rows) votes of k neighbours, by (n, rows) distances."""
        last = np.partition(distance, k - 1, axis=1)[:, k - 1, None]
        row, column = np.nonzero(distance <= last + SMALLEST)
        near = distance[row, column]
        tied = near >= last[row, 0] - SMALLEST
        count = np.bincount(row[tied], minlength=len(distance))
        left = k - np.bincount(row[~tied], minlength=len(distance))
        votes = self.weights[column] / np.maximum(near.astype(np.float64), SMALLEST)
        votes[tied] *= (left / count)[row[tied]]
        return csr_matrix((votes, (row, column)), shape=distance.shape)

    def save(self, folder: Path) -> None:
        tensors = {"vectors": self.vectors, "targets": self.targets, "weights": self.weights}
        with placing(folder / "fitted.safetensors") as beside:
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, beside)

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "fitted.safetensors")
        self.vectors, self.targets, self.weights = (
            tensors[name] for name in ("vectors", "targets", "weights")
        )
