"""Logistic and ridge regressions on given features, with soft targets and row weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import log_expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from foldstack.kinds import Kind
from foldstack.progress import say

MANY_COEFFICIENTS = 5_000_000  # of classes and features, for which L-BFGS would take a gigabyte
Features = csr_matrix | np.ndarray
RowsOf = Callable[[np.ndarray], Features]  # from row numbers to their features


def log_count_ratios(x: csr_matrix, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (width,) log-count ratios of features between rows of class 1 and rows of class 0.

    ln p_j / Σp − ln q_j / Σq, where p_j and q_j are one plus the total weight of each class's rows
    that contain the feature (Wang and Manning 2012, Baselines and Bigrams, with f̂ and α = 1).
    """
    of_entry, length = np.diff(x.indptr), x.shape[1]
    p, q = (
        1 + np.bincount(x.indices, np.repeat(weights * (y == one), of_entry), length)
        for one in (1, 0)
    )
    return np.log(p / p.sum()) - np.log(q / q.sum())


def sides(target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions of rows, classes and weights: a soft target t is a row of class 1 and weight t
    and one of class 0 and weight 1 − t; those without weight are left away.
    """
    w = np.concatenate([weights * (1 - target), weights * target])
    keep = np.flatnonzero(w > 0)
    return keep % len(target), np.repeat([0, 1], len(target))[keep], w[keep]


@dataclass(frozen=True)
class LinearModel:
    """Fits of one regression per output, or of one multinomial regression.

    The ridge penalty is 1/(2C): both models minimise the sum of the rows' losses plus the squared
    coefficients times that penalty.

    Attributes:
        kind: of the competition.
        C: inverse strength of the L2 penalty.
        naive_bayes: multiply features by their log-count ratios; one regression per class, too.
        seed: of SAG.
        iterations: most iterations of a logistic regression.
        quiet: whether nothing is said of iterations and memory.
        learner: the name that these lines begin with.
    """

    kind: Kind
    C: float
    naive_bayes: bool = False
    seed: int = 0
    iterations: int = 300
    quiet: bool = False
    learner: str = "tfidf"

    @property
    def one_versus_rest(self) -> bool:
        """Whether each class has a regression of its own, against all others."""
        return self.kind.is_one_hot and self.naive_bayes

    @property
    def reads_rows_once(self) -> bool:
        """Whether features are read for one regression only."""
        return self.kind.has_positive_class or (self.kind.is_one_hot and not self.naive_bayes)

    def fit(
        self, rows_of: RowsOf, width: int, targets: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit all outputs.

        Args:
            rows_of: from row numbers to their features, which may be changed.
            width: number of features.
            targets: (n, outputs), soft ones allowed.
            weights: (n,).

        Returns:
            (outputs, width) coefficients and (outputs,) intercepts.
        """
        if self.kind.is_values:
            return self._values(rows_of, width, targets, weights)
        if self.kind.is_one_hot and not self.naive_bayes:
            return self._classes(rows_of, width, targets, weights)
        fits = [self._label(rows_of, width, target, weights) for target in targets.T]
        coef, intercept = zip(*fits, strict=True)
        return np.stack(coef), np.stack(intercept)

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Return logits of (n, outputs) decision values.

        One-versus-rest probabilities σ(v) are normalised over the classes: their logits are ln σ(v).
        """
        return log_expit(values) if self.one_versus_rest else values

    def _label(self, rows_of: RowsOf, width: int, target: np.ndarray, weights: np.ndarray):
        keep, y, w = sides(target, weights)
        total = np.bincount(y, w, minlength=2)
        if width == 0 or min(total) == 0:  # nothing to learn from: the smoothed log odds
            return np.zeros(width), np.log((total[1] + 0.5) / (total[0] + 0.5))
        x, ratios = rows_of(keep), np.ones(width)
        if self.naive_bayes:
            ratios = log_count_ratios(x, y, w)
            x.data *= ratios[x.indices]
        model = self.solve(x, y, w)
        return model.coef_[0] * ratios, model.intercept_[0]

    def _classes(self, rows_of: RowsOf, width: int, targets: np.ndarray, weights: np.ndarray):
        n, classes = targets.shape
        w = (targets * weights[:, None]).T.ravel()
        keep = np.flatnonzero(w > 0)
        y = np.repeat(np.arange(classes), n)[keep]
        seen = np.unique(y)
        coef = np.zeros((classes, width))
        # A class without rows gets the log odds of half a row.
        intercept = np.full(classes, np.log(0.5 / (n + 0.5)))
        if width and len(seen) > 1:
            model = self.solve(rows_of(keep % n), y, w[keep])
            if len(seen) == 2:  # scikit-learn keeps one row for two classes
                coef[seen] = np.stack([-model.coef_[0], model.coef_[0]]) / 2
                intercept[seen] = np.array([-model.intercept_[0], model.intercept_[0]]) / 2
            else:
                coef[seen], intercept[seen] = model.coef_, model.intercept_
        else:
            intercept = np.log(np.bincount(y, w[keep], minlength=classes) + 0.5)
        return coef, intercept

    def _values(self, rows_of: RowsOf, width: int, targets: np.ndarray, weights: np.ndarray):
        if width == 0:
            mean = np.average(targets, axis=0, weights=weights)
            return np.zeros((len(mean), 0)), mean
        # Conjugate gradients, which need no dense copy and no random numbers.
        model = Ridge(alpha=1 / (2 * self.C), solver="sparse_cg", tol=1e-6)
        model.fit(rows_of(np.arange(len(targets))), targets, sample_weight=weights)
        return model.coef_.reshape(len(model.intercept_), -1), model.intercept_

    def solve(self, x: Features, y: np.ndarray, weights: np.ndarray) -> LogisticRegression:
        """Fit by L-BFGS; many coefficients by SAG, which keeps two copies of them instead of 25."""
        classes, solver = int(y.max()) + 1, "lbfgs"
        if classes > 2 and classes * x.shape[1] > MANY_COEFFICIENTS:
            solver, megabytes = "sag", 3 * 8 * classes * x.shape[1] / 2**20
            self._say(
                f"{self.learner}: {classes:,} classes with {x.shape[1]:,} features are solved by SAG, "
                f"in about {megabytes + 8 * classes * len(y) / 2**20:,.0f} MB; a larger min_count or a "
                "smaller max_features needs less"
            )
        model = LogisticRegression(
            C=self.C, max_iter=self.iterations, random_state=self.seed, solver=solver
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(x, y, sample_weight=weights)
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                self._say(
                    f"{self.learner}: the regression stopped at {self.iterations} iterations before "
                    "it had converged"
                )
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        return model

    def _say(self, line: str) -> None:
        if not self.quiet:
            say(line)
