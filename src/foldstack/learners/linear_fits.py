"""Linear models on vectors: logistic and ridge regression, linear SVMs with calibrated margins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix
from scipy.special import log_expit
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC

from foldstack import metrics
from foldstack.files import placing
from foldstack.kinds import Kind
from foldstack.learners import Task
from foldstack.learners.ngram_choice import AutoChoice
from foldstack.learners.penalty import choose_penalty, inner_folds
from foldstack.learners.regressions import LinearModel, sides
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import (
    AUTO,
    LogisticClassifier,
    RidgeVectorClassifier,
    SvmClassifier,
    VectorClassifier,
)

# The best are 1 to 4 for logistic regressions on minilm's vectors, and .25 or less for ridges.
GRID = (0.016, 0.06, 0.25, 1.0, 4.0, 16.0, 64.0)
ITERATIONS = 1000
CALIBRATION_FOLDS = 5
FOLD_SEED = 0  # seeds of a run differ in nothing else


class LinearFit:
    """Linear outputs of vectors; a subclass fits `coef` and `intercept`.

    one_versus_rest: whether the outputs of several classes are log odds of each against all others.
    """

    one_versus_rest = False

    def __init__(self, settings: VectorClassifier, task: Task, seed: int, threads: int):
        self.settings, self.task, self.seed = settings, task, seed
        self.coef = self.intercept = np.zeros(0)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return (n, outputs) logits; probabilities of one-versus-rest are normalised by the link."""
        values = x @ self.coef.T + self.intercept
        separate = self.task.kind.is_one_hot and self.one_versus_rest
        return log_expit(values) if separate else values

    def save(self, folder: Path) -> None:
        with placing(folder / "fitted.safetensors") as beside:
            save_file(
                {"coef": np.ascontiguousarray(self.coef), "intercept": self.intercept}, beside
            )

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "fitted.safetensors")
        self.coef, self.intercept = tensors["coef"], tensors["intercept"]

    def _fit_linear(self, model: LinearModel, x: np.ndarray, rows: Rows) -> None:
        self.coef, self.intercept = model.fit(x.__getitem__, x.shape[1], rows.targets, rows.weights)


def chosen_penalty(model: LinearModel, task: Task, x: np.ndarray, rows: Rows) -> AutoChoice:
    """Return the C that inner folds of the n rows with (n, width) vectors prefer."""
    sample, folds = inner_folds(rows)
    return choose_penalty(model, task, csr_matrix(x[sample]), rows.take(sample), folds, GRID)


class LogisticFit(LinearFit):
    """Logistic regression with soft targets as row weights."""

    settings: LogisticClassifier

    def fit(self, x: np.ndarray, rows: Rows) -> dict[str, AutoChoice]:
        model = LinearModel(
            self.task.kind, 1.0, seed=self.seed, iterations=ITERATIONS, learner="vectors"
        )
        made = {}
        if self.settings.C == AUTO:
            made["classifier.C"] = chosen_penalty(model, self.task, x, rows)
        chosen = made["classifier.C"].value if made else self.settings.C
        self._fit_linear(replace(model, C=chosen), x, rows)
        return made


class CalibratedFit(LinearFit):
    """One binary linear classifier per output, its decision values calibrated by inner folds.

    Platt's sigmoid of a linear decision value is a logistic model, so that what is stored is linear.
    """

    one_versus_rest = True

    def _estimator(self) -> BaseEstimator:
        """Return the classifier, with a linear decision function."""
        raise NotImplementedError

    def fit(self, x: np.ndarray, rows: Rows) -> dict[str, AutoChoice]:
        found = [self._output(k, x, rows) for k in range(rows.targets.shape[1])]
        self.coef, self.intercept = map(np.stack, zip(*found, strict=True))
        return {}

    def _output(self, k: int, x: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Return (width,) coefficients and the intercept of an output's log odds."""
        keep, y, weights = sides(rows.targets[:, k], rows.weights)
        total = np.bincount(y, weights, minlength=2)
        if min(total) == 0:  # nothing to learn from: the smoothed log odds
            return np.zeros(x.shape[1]), np.log((total[1] + 0.5) / (total[0] + 0.5))
        splits = list(_splits(y, rows.groups[keep]))
        if not splits:
            say(
                f"vectors: '{self.task.outputs[k]}' has rows in too few groups for inner folds: its "
                "margins are not calibrated"
            )
            model = self._estimator().fit(x[keep], y, sample_weight=weights)
            return model.coef_.ravel(), np.float64(model.intercept_.item())
        model = CalibratedClassifierCV(self._estimator(), cv=splits, ensemble=False)
        (fitted,) = model.fit(x[keep], y, sample_weight=weights).calibrated_classifiers_
        (sigmoid,), linear = fitted.calibrators, fitted.estimator
        slope, offset = -sigmoid.a_, -sigmoid.b_
        return slope * linear.coef_.ravel(), slope * linear.intercept_.item() + offset


def _splits(y: np.ndarray, groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield inner folds with both classes in each training part; none if groups are too few."""
    least = min(len(np.unique(groups[y == side])) for side in (0, 1))
    if least < 2:
        return
    count = min(CALIBRATION_FOLDS, least)
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=FOLD_SEED)
    made = [pair for pair in folds.split(y, y, groups) if len(pair[1])]
    if all(len(np.unique(y[train])) == 2 for train, _ in made):
        yield from made


class SvmFit(CalibratedFit):
    """Linear SVMs with squared hinge loss."""

    settings: SvmClassifier

    def _estimator(self) -> BaseEstimator:
        return LinearSVC(C=self.settings.C, random_state=self.seed, max_iter=ITERATIONS)


class RidgeFit(CalibratedFit):
    """Ridge regression; of labels one per output on targets of -1 and 1, calibrated."""

    settings: RidgeVectorClassifier
    C = 1.0

    def fit(self, x: np.ndarray, rows: Rows) -> dict[str, AutoChoice]:
        model, made = LinearModel(Kind.REGRESSION, 1.0, learner="vectors"), {}
        if self.settings.C == AUTO:
            task = self.task
            if task.kind.has_labels:  # outputs are compared by squared error
                metric = metrics.get("rmse", Kind.REGRESSION)
                task = replace(task, kind=Kind.REGRESSION, link="identity", metric=metric)
            made["classifier.C"] = chosen_penalty(model, task, x, rows)
        self.C = made["classifier.C"].value if made else self.settings.C
        if self.task.kind.is_values:
            self._fit_linear(replace(model, C=self.C), x, rows)
        else:
            super().fit(x, rows)
        return made

    def _estimator(self) -> BaseEstimator:
        return RidgeClassifier(alpha=1 / (2 * self.C))
