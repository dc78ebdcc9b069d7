"""The second level by regression: ridge for numbers, logistic for everything else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.linear_model import LogisticRegression, Ridge

from foldstack.ensemble.members import Inputs
from foldstack.ensemble.search import normalised
from foldstack.ensemble.tables import MANY, LevelReader, Sample, Scaling, joined, of_output
from foldstack.kinds import Kind

PENALTIES = (1.0, 10.0, 100.0, 1000.0)  # on squared coefficients, relative to the sum of row losses
ABSENT = -1e3  # logit of a class without rows: its probability is 0
MOST_STEPS = 1000


@dataclass(frozen=True)
class LinearLevel:
    """Regressions with an L2 penalty (Hoerl & Kennard 1970; le Cessie & van Houwelingen 1992).

    A few classes share one multinomial regression over all predictions. Otherwise each output has its
    own over `of_output`; classes are then normalised to sum to one.

    Attributes:
        parts: one, or one per output.
    """

    reader: LevelReader
    outputs: int
    parts: list[Regression]

    @classmethod
    def train(cls, sample: Sample) -> LinearLevel:
        outputs = sample.targets.shape[1]
        if _is_joint(sample.reader, outputs):
            table = joined(sample.values, sample.features)
            return cls(sample.reader, outputs, [Regression.train(sample, table, sample.targets)])
        tables = (of_output(sample.values, sample.features, k) for k in range(outputs))
        targets = np.hsplit(sample.targets, outputs)
        parts = [Regression.train(sample, *each) for each in zip(tables, targets, strict=True)]
        return cls(sample.reader, outputs, parts)

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Return predictions (n, outputs)."""
        values, features = self.reader.values(inputs), inputs.features
        if _is_joint(self.reader, self.outputs):
            return softmax(self.parts[0].scores(joined(values, features)), axis=1)
        tables = (of_output(values, features, k) for k in range(self.outputs))
        scores = [part.scores(table) for part, table in zip(self.parts, tables, strict=True)]
        found = np.hstack(scores)
        if self.reader.kind.is_values:
            return found
        return normalised(expit(found), axis=1) if self.reader.kind.is_one_hot else expit(found)

    @property
    def parameters(self) -> dict:
        return {"parts": [asdict(part) for part in self.parts]}

    def save(self, directory: Path, stem: str) -> list[Path]:
        return []

    @classmethod
    def load(
        cls, parameters: dict, reader: LevelReader, outputs: int, directory: Path, stem: str
    ) -> LinearLevel:
        parts = [
            Regression(**stored | {"scaling": Scaling(**stored["scaling"])})
            for stored in parameters["parts"]
        ]
        return cls(reader, outputs, parts)


def _is_joint(reader: LevelReader, outputs: int) -> bool:
    return reader.kind.is_one_hot and outputs <= MANY


@dataclass(frozen=True)
class Regression:
    """One regression.

    Attributes:
        coefficients: (scores, width), of the scaled table; intercepts: (scores,).
        penalty: the best of `PENALTIES` on a held-back fifth of the groups, by log loss or squared
            error; the coefficients are then fitted on all rows.
    """

    scaling: Scaling
    coefficients: list[list[float]]
    intercepts: list[float]
    penalty: float

    @classmethod
    def train(cls, sample: Sample, table: np.ndarray, targets: np.ndarray) -> Regression:
        """Fit to a table (n, columns) and targets (n, 1), or (n, classes)."""
        kind = sample.reader.kind
        learned, judged = sample.hold_back()
        codes = sample.reader.codes(table.shape[1], sample.features)
        losses = []
        scaling = Scaling.of(table[learned], codes)
        x, y = scaling.apply(table[learned]), targets[learned]
        held = scaling.apply(table[judged])
        for penalty in PENALTIES:
            coefficients, intercepts = _fit(kind, x, y, penalty)
            losses.append(loss(kind, held @ coefficients.T + intercepts, targets[judged]))
        penalty = PENALTIES[::-1][int(np.argmin(losses[::-1]))]  # of equals the largest
        scaling = Scaling.of(table, codes)
        coefficients, intercepts = _fit(kind, scaling.apply(table), targets, penalty)
        return cls(scaling, coefficients.tolist(), intercepts.tolist(), penalty)

    def scores(self, table: np.ndarray) -> np.ndarray:
        """Return (n, scores): logits, or values for regression."""
        x = self.scaling.apply(table)
        return x @ np.array(self.coefficients).T + np.array(self.intercepts)


def _fit(
    kind: Kind, x: np.ndarray, targets: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients (scores, width) and intercepts (scores,)."""
    if kind.is_values:
        ridge = Ridge(alpha=penalty).fit(x, targets[:, 0])
        return ridge.coef_[None, :], np.array([ridge.intercept_])
    if targets.shape[1] > 1:
        return _fit_classes(x, targets, penalty)
    rate = targets.mean()
    if rate in (0, 1):
        return np.zeros((1, x.shape[1])), np.array([ABSENT if rate == 0 else -ABSENT])
    model = LogisticRegression(C=1 / penalty, solver="newton-cholesky", max_iter=MOST_STEPS)
    model.fit(x, targets[:, 0])
    return model.coef_, model.intercept_


def _fit_classes(
    x: np.ndarray, targets: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    classes = targets.shape[1]
    coefficients, intercepts = np.zeros((classes, x.shape[1])), np.full(classes, ABSENT)
    found = np.flatnonzero(targets.any(axis=0))
    intercepts[found] = 0.0
    if len(found) > 1:
        model = LogisticRegression(C=1 / penalty, max_iter=MOST_STEPS)
        model.fit(x, targets.argmax(axis=1))
        # For two classes scikit-learn returns the difference.
        rows = found[1:] if len(found) == 2 else found
        coefficients[rows], intercepts[rows] = model.coef_, model.intercept_
    return coefficients, intercepts


def loss(kind: Kind, scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean squared error, or the log loss of logits; both arrays (n, outputs)."""
    if kind.is_values:
        return float(np.mean((scores - targets) ** 2))
    if kind.is_one_hot and targets.shape[1] > 1:
        return float(-np.mean(np.sum(targets * log_softmax(scores, axis=1), axis=1)))
    return float(-np.mean(targets * log_expit(scores) + (1 - targets) * log_expit(-scores)))
