"""The inputs of a blend, and the protocol of candidates.

A candidate is fitted on some rows and predicts any. It reads targets, folds and groups of the fitted
rows only, which `nested.py` relies on for honest scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from foldstack.kinds import Kind
from foldstack.metrics import Metric


@dataclass(frozen=True)
class Inputs:
    """The inputs of a blend for n rows.

    probabilities: (n, models, outputs), values for regression; ranks: the same shape, within a run,
    scaled to (0, 1]; features: (n, f) of the competition's own columns, or None.
    """

    probabilities: np.ndarray
    ranks: np.ndarray
    features: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Inputs:
        features = None if self.features is None else self.features[rows]
        return Inputs(self.probabilities[rows], self.ranks[rows], features)


@dataclass(frozen=True)
class RunTests:
    """Predictions of single runs for some test rows, to see how runs differ; no label is needed.

    rows: (s,) positions of the test rows. probabilities, ranks: (folds, s, models, outputs), for each
    fold those of the runs that left it out, in the order of the folds' numbers. share_labels: whether
    two runs learn from each other's held-out rows, as they do unless folds are in time order.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    ranks: np.ndarray
    share_labels: bool = True


@dataclass(frozen=True)
class Members:
    """Predictions of the models to blend, aligned by row.

    The out-of-fold prediction of a row comes from runs that left its fold out.

    Attributes:
        names: the models.
        probabilities: (n, models, outputs) out-of-fold.
        ranks: the same shape; ranks within a run, scaled to (0, 1].
        test_probabilities, test_ranks: (t, models, outputs).
        targets: (n, outputs) of 0/1, or of numbers for regression.
        folds: (n,) integers.
        groups: (n,) integers, the duplicate groups.
        kind: 'binary', 'multiclass', 'multilabel' or 'regression'.
        seed_variance: variance of a score over training seeds, added to intervals.
        features, test_features: (n, f) and (t, f) feature columns, nan if unknown, or None.
        categorical: which of the features are codes of categories.
        runs: the test predictions of single runs; None if they are not known.
        scored: the columns that some fold defines the metric for, see `defined.py`; None for all.
        cells: the columns of these rows that a user's metric reads, see `Metric.given`; None for others.

    Raises:
        ValueError: shapes disagree, or a prediction is not a number between 0 and 1 (for regression:
            not finite).
    """

    names: list[str]
    probabilities: np.ndarray
    ranks: np.ndarray
    test_probabilities: np.ndarray
    test_ranks: np.ndarray
    targets: np.ndarray
    folds: np.ndarray
    groups: np.ndarray
    kind: Kind
    seed_variance: float = 0.0
    features: np.ndarray | None = None
    test_features: np.ndarray | None = None
    categorical: tuple[int, ...] = ()
    runs: RunTests | None = None
    scored: tuple[int, ...] | None = None
    cells: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        n, outputs = self.targets.shape
        inner = (len(self.names), outputs)
        wanted = {
            "probabilities": (n, *inner),
            "ranks": (n, *inner),
            "test_probabilities": (len(self.test_probabilities), *inner),
            "test_ranks": (len(self.test_probabilities), *inner),
            "folds": (n,),
            "groups": (n,),
        }
        for name, shape in wanted.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise ValueError(f"{name} {values.shape} should be {shape}")
            if len(shape) < 3:
                continue
            if self.kind.is_values and not name.endswith("ranks"):
                if not np.isfinite(values).all():
                    raise ValueError(f"{name} must be finite")
            elif not ((values >= 0) & (values <= 1)).all():  # written so that nan fails too
                raise ValueError(f"{name} must be numbers between 0 and 1")

    @property
    def inputs(self) -> Inputs:
        return Inputs(self.probabilities, self.ranks, self.features)

    @property
    def test_inputs(self) -> Inputs:
        return Inputs(self.test_probabilities, self.test_ranks, self.test_features)

    def run_inputs(self, fold: int) -> Inputs:
        """Return the inputs of the rows of `runs` by the runs that left out one fold (a position)."""
        runs = self.runs
        features = None if self.test_features is None else self.test_features[runs.rows]
        return Inputs(runs.probabilities[fold], runs.ranks[fold], features)


class Fitted(Protocol):
    """A candidate fitted on some rows.

    Attributes:
        crossfit: predictions (rows, outputs) for the fitted rows, to fit a decision rule on; if the
            candidate can overfit, each is by a fit that did not see the row.
        parameters: what was fitted, JSON-able.
        scale: 'probability' or 'rank', the scale of its predictions.
    """

    parameters: dict
    scale: str

    @property
    def crossfit(self) -> np.ndarray: ...

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Return predictions (n, outputs)."""

    def save(self, directory: Path) -> list[Path]:
        """Write what `parameters` cannot hold into the directory; return the files written."""


class Candidate(Protocol):
    """A way to combine models; of two with equal scores the less complex one is preferred."""

    name: str
    complexity: int

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Fitted:
        """Fit on some rows.

        Args:
            members: of which nothing but these rows may be read.
            rows: (k,) row indices.
            metric: to optimise, of all rows of the members.
            seed: of whatever is random.

        Returns:
            The fitted candidate.
        """
