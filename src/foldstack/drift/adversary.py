"""Adversarial validation: can a linear model tell test rows from training rows, and by what?

A classifier two-sample test (Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests"): an
out-of-fold AUC of .5 means that the files look alike. Its odds weight the training rows to the test
file (Sugiyama et al. 2012, "Density ratio estimation in machine learning"; Bickel et al. 2009). No
label, id or order of rows is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import logsumexp
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize, scale
from threadpoolctl import threadpool_limits

from foldstack.drift.both_files import Files, independent_groups
from foldstack.drift.drift_table import DriftColumn, table_of
from foldstack.drift.giveaways import Reason, reasons
from foldstack.errors import InputError
from foldstack.stratify import assign_folds

FEWEST = 100  # rows of each file: fewer cannot show a difference
FOLDS = 5
# The interval of the AUC lies above this if drift is claimed. At .55, normal densities that differ by
# a shift give weights with 97 % of the rows as effective sample size: reweighting changes nothing.
CLAIMED = 0.55
C = 1.0
CERTAIN = 1e-6  # distance of p from 0 and 1
TOPICS = 10  # latent dimensions, and clusters in them, whose means are balanced
SLACK = 0.01  # ridge penalty of the balance, which leaves small differences of means


@dataclass(frozen=True)
class Drift:
    """How a linear model tells test rows from training rows.

    Attributes:
        values: (c,) out-of-fold logits of the compared rows to be test rows.
        is_test: (c,) bool.
        groups: (c,) rows that share a text, a sentence or a group value.
        p: (n,) calibrated out-of-fold probability of each training row to be a test row.
        weights: (n,) importance weights of mean 1, clipped.
        reasons: the features that tell the files apart, by contribution.
    """

    values: np.ndarray
    is_test: np.ndarray
    groups: np.ndarray
    p: np.ndarray
    weights: np.ndarray
    reasons: tuple[Reason, ...]


class TooFewGroups(InputError):
    """The rows of a file stand in too few independent groups to be told apart out of fold."""


def compare(files: Files, *, rows: int, clip: float, seed: int) -> Drift:
    """Fit the model out of fold and return what it finds.

    Args:
        files: at least `FEWEST` rows of each file.
        rows: groups of rows are drawn until they have this many; the others are predicted only.
        clip: quantile of the weights above which they are clipped.
        seed: of the folds and of the draw.

    Returns:
        The predictions of the compared rows, probabilities and weights of the training rows, reasons.

    Raises:
        TooFewGroups: the learned part of a fold would have rows of one file only.
    """
    groups = independent_groups(files, FOLDS)
    x, columns = table_of(files)
    drawn = _draw(groups, rows, seed)
    folds = np.full(len(groups), -1)
    both = np.column_stack([~files.is_test, files.is_test])[drawn]
    if len(drawn):
        folds[drawn] = assign_folds(groups[drawn], both, FOLDS, seed)
    _check_groups(files.is_test, folds)
    with threadpool_limits(1):  # the order of sums changes their bytes
        values, coefficients = _out_of_fold(x, files.is_test, folds)
        p = _calibrated(values, files.is_test, drawn)[~files.is_test]
    weights = importance_weights(p, float(files.is_test[drawn].mean()))
    weights = balanced(weights, _to_balance(x, columns, seed), files.is_test)
    found = reasons(files, x, columns, coefficients)
    return Drift(
        values[drawn], files.is_test[drawn], groups[drawn], p, clipped(weights, clip), found
    )


def importance_weights(p: np.ndarray, share: float) -> np.ndarray:
    """Return p / (1 - p) times the train rows per test row.

    Args:
        p: (n,) probabilities of the training rows to be test rows.
        share: of the test rows among all rows.
    """
    return p / (1 - p) * (1 - share) / share


def clipped(weights: np.ndarray, quantile: float) -> np.ndarray:
    """Return the weights clipped at a quantile, scaled to mean 1."""
    weights = np.minimum(weights, np.quantile(weights, quantile))
    return weights / weights.mean()


def balanced(weights: np.ndarray, values: np.ndarray, is_test: np.ndarray) -> np.ndarray:
    """Return weights nearest to these that give the training rows the test rows' means.

    Entropy balancing (Hainmueller 2012, "Entropy balancing for causal effects"): a classifier that is
    fitted on few rows shrinks its odds, so they remove a part of the difference only. The dual has a
    ridge penalty, which leaves small differences and exists if the files have nothing in common.

    Args:
        weights: (n,) positive.
        values: (n + t, columns) of standard deviation 1.
        is_test: (n + t,) bool.

    Returns:
        (n,) weights of mean 1.
    """
    train, target = values[~is_test], values[is_test].mean(axis=0)
    start = np.log(weights)

    def dual(b: np.ndarray) -> tuple[float, np.ndarray]:
        tilted = start + train @ b
        total = logsumexp(tilted)
        gradient = np.exp(tilted - total) @ train - target + SLACK * b
        return total - b @ target + SLACK / 2 * b @ b, gradient

    tilted = start + train @ minimize(dual, np.zeros(train.shape[1]), jac=True, method="L-BFGS-B").x
    found = np.exp(tilted - tilted.max())
    return found / found.mean()


def _to_balance(x: csr_matrix, columns: list[DriftColumn], seed: int) -> np.ndarray:
    """Return (n + t, q) standardised columns: dense ones, latent topics, their clusters."""
    ngrams = sum(column.is_ngram for column in columns)
    dense = x[:, ngrams:].toarray()
    if ngrams <= TOPICS:
        return dense
    topics = scale(TruncatedSVD(TOPICS, random_state=seed).fit_transform(x[:, :ngrams]))
    clusters = KMeans(TOPICS, n_init=1, random_state=seed).fit_predict(normalize(topics))
    return np.hstack([dense, topics, scale(np.eye(TOPICS)[clusters])])


def effective_rows(weights: np.ndarray) -> float:
    """Return (Σw)² / Σw², the number of equally weighted rows of the same variance (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _draw(groups: np.ndarray, rows: int, seed: int) -> np.ndarray:
    """Return ascending positions of the rows of randomly drawn groups; all rows if they are few."""
    if len(groups) <= rows:
        return np.arange(len(groups))
    sizes, chosen = np.bincount(groups), []
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= rows:
            chosen.append(group)
            rows -= sizes[group]
    return np.flatnonzero(np.isin(groups, chosen))


def _check_groups(is_test: np.ndarray, folds: np.ndarray) -> None:
    """Raise TooFewGroups unless rows of both files stand outside each fold."""
    for fold in range(FOLDS):
        if len(np.unique(is_test[(folds >= 0) & (folds != fold)])) < 2:
            raise TooFewGroups(
                "the test file cannot be compared with the training file: rows that share a text or a "
                f"group stay together, and too few such groups are left for {FOLDS} folds of both files"
            )


def _out_of_fold(
    x: csr_matrix, is_test: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n + t,) logits, and (columns,) coefficients, the mean over the models of the folds.

    A row of no fold gets the mean of all models.
    """
    values, coefficients = np.zeros(len(folds)), np.zeros(x.shape[1])
    for fold in range(FOLDS):
        learned = (folds >= 0) & (folds != fold)
        model = LogisticRegression(C=C, max_iter=1000)
        model.fit(x[learned], is_test[learned])
        coefficients += model.coef_[0] / FOLDS
        for rows, share in ((folds == fold, 1), (folds < 0, FOLDS)):
            if rows.any():
                values[rows] += model.decision_function(x[rows]) / share
    return values, coefficients


def _calibrated(values: np.ndarray, is_test: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return (n + t,) probabilities by Platt scaling of out-of-fold logits (Platt 1999).

    A slope below 0, by chance, becomes 0.
    """
    model = LogisticRegression(C=1e6).fit(values[drawn, None], is_test[drawn])
    p = model.predict_proba(values[:, None])[:, 1]
    if model.coef_[0, 0] <= 0:
        p = np.full(len(values), is_test[drawn].mean())
    return np.clip(p, CERTAIN, 1 - CERTAIN)
