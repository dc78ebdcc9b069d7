"""Zero-shot classification: cosine of a text's vector and of those of the labels' texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from foldstack.errors import InputError, cut, some
from foldstack.files import placing
from foldstack.learners import Task
from foldstack.learners.vectors import normalised
from foldstack.rows import Rows
from foldstack.techniques import LabelTextsClassifier


class LabelTextsFit:
    """Cosines to the labels' texts times a factor.

    Attributes:
        texts: of the labels, in the order of the classes; of a binary competition that of the negative
            class before that of the positive one.
        vectors: (labels, width) of length 1.
    """

    def __init__(self, settings: LabelTextsClassifier, task: Task, seed: int, threads: int):
        self.settings, self.task = settings, task
        given = settings.labels or {}
        wrong = next((label for label in given if label not in task.labels), None)
        if wrong is not None:
            raise InputError(
                f"classifier.labels names '{cut(wrong)}', which is no label of the competition, whose "
                f"labels are {some(task.labels)}"
            )
        self.texts = [given.get(label, label) for label in task.labels]
        self.vectors = np.zeros((len(self.texts), 0))

    def describe(self, vectors: np.ndarray) -> None:
        """Take the (labels, width) vectors of `texts`."""
        self.vectors = normalised(vectors)

    def fit(self, x: np.ndarray, rows: Rows) -> dict:
        """Learn nothing."""
        return {}

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return (n, outputs) logits; of two labels those of the difference of their cosines."""
        found = self.settings.scale * normalised(x) @ self.vectors.T
        return found[:, 1:] - found[:, :1] if self.task.kind.has_positive_class else found

    def save(self, folder: Path) -> None:
        with placing(folder / "fitted.safetensors") as beside:
            save_file({"vectors": np.ascontiguousarray(self.vectors)}, beside)

    def load(self, folder: Path) -> None:
        self.vectors = load_file(folder / "fitted.safetensors")["vectors"]
