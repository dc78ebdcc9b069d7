"""The strength of a linear model's penalty, chosen by cross-validation inside a run's own rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from foldstack.kinds import Kind
from foldstack.learners import Task
from foldstack.learners.ngram_choice import AutoChoice
from foldstack.learners.regressions import LinearModel, log_count_ratios, sides
from foldstack.links import row_losses
from foldstack.rows import Rows

# Below 4 log loss may fall a little further, while labels at a threshold of .5 lose (.07 of F1 on
# tweeteval-offensive), and rankings gain nothing.
GRID = (4.0, 8.0, 16.0, 32.0, 64.0)
TIE = 0.01  # losses are equal within this share
DEFAULT = 4.0  # if nothing can be compared
FOLDS = 3
LEAST_ROWS = 60  # fewer, and the losses of inner folds are noise
MOST_ROWS = 1_000
MOST_CHARACTERS = 1_000_000
MOST_CLASSES = 10  # from here on fewer rows are compared
MOST_LABELS = 8
MOST_RATIOS = 4  # labels with features of their own, by naive_bayes
SAMPLE_SEED = 0  # seeds of a run differ in nothing else


def inner_folds(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of the rows to compare on, and their folds; whole groups share a fold.

    The number of rows is bounded, so that the comparison takes about as long as the final fit.
    """
    counted = np.flatnonzero(rows.weights > 0)
    _, group = np.unique(rows.groups[counted], return_inverse=True)
    place = np.random.default_rng(SAMPLE_SEED).permutation(group.max(initial=-1) + 1)[group]
    order = np.argsort(place, kind="stable")
    classes = rows.targets.shape[1]
    kept = order[: int(MOST_ROWS * min(1, MOST_CLASSES / classes) ** 0.5)]
    sizes = np.array([sum(map(len, rows.texts[i])) for i in counted[kept]], dtype=np.int64)
    kept = kept[: np.searchsorted(np.cumsum(sizes), MOST_CHARACTERS, side="right")]
    return counted[kept], place[kept] % FOLDS


def choose_penalty(
    model: LinearModel,
    task: Task,
    x: csr_matrix,
    rows: Rows,
    folds: np.ndarray,
    grid: tuple[float, ...] = GRID,
) -> AutoChoice:
    """Return the C of the lowest inner loss; of those within 1 % of it the strongest penalty.

    The loss is log loss; squared error for values, unless the metric reads only their order, which
    is then compared itself. Of many labels the most frequent are compared, each by itself with
    naive_bayes.

    Args:
        model: what is fitted, with another C.
        task: of the run.
        x: (n, width) features, with a vocabulary that may be fitted on all of the run's rows.
        rows: the n rows.
        folds: (n,) inner folds.
        grid: values of C, ascending.
    """
    model = replace(model, quiet=True)
    outputs = _compared(model, rows) if len(np.unique(folds)) == FOLDS else []
    if len(rows) < LEAST_ROWS or not len(outputs) or not x.shape[1]:
        return AutoChoice(DEFAULT, "too few rows for inner folds")
    targets = rows.targets[:, outputs]
    with threadpool_limits(1):  # for small products; and the choice does not depend on threads
        found = _inner_predictions(model, x, targets, rows.weights, folds, grid)
    losses, name = _losses(model, task, found, targets, rows)
    if not np.isfinite(losses).all():
        return AutoChoice(DEFAULT, f"the {name} of inner folds is not finite")
    best = np.flatnonzero(losses <= losses.min() + TIE * abs(losses.min()))[0]
    tried = ", ".join(f"C {c:g}: {abs(loss):.4f}" for c, loss in zip(grid, losses, strict=True))
    return AutoChoice(
        grid[best],
        f"the strongest penalty within 1 % of the best {name} of {FOLDS} inner folds of "
        f"{len(rows):,} rows ({tried})",
    )


def _inner_predictions(
    model: LinearModel,
    x: csr_matrix,
    targets: np.ndarray,
    weights: np.ndarray,
    folds: np.ndarray,
    grid: tuple[float, ...],
) -> np.ndarray:
    """Return (C, n, outputs) predictions of each row by the model of the other inner folds."""
    found = np.zeros((len(grid), *targets.shape))
    for columns, train, held, z in _parts(model, x, targets, weights, folds):
        for i, c in enumerate(grid):
            own = replace(model, C=c, kind=_kind(model), naive_bayes=False)
            coef, intercept = own.fit(
                z[train].__getitem__, z.shape[1], targets[train][:, columns], weights[train]
            )
            found[i][np.ix_(held, columns)] = z[held] @ coef.T + intercept
    return found


def _compared(model: LinearModel, rows: Rows) -> np.ndarray:
    """Return the outputs that are compared: all, or the most frequent labels."""
    shares = np.average(rows.targets, axis=0, weights=rows.weights)
    if model.kind.is_values:
        return np.flatnonzero(rows.targets.std(axis=0) > 0)
    varied = np.flatnonzero((shares > 0) & (shares < 1))
    if model.kind.is_one_hot and not model.naive_bayes:
        return np.arange(len(shares)) if len(varied) else varied
    rarer = np.minimum(shares, 1 - shares)[varied]
    most = MOST_RATIOS if model.naive_bayes else MOST_LABELS
    return np.sort(varied[np.argsort(-rarer, kind="stable")[:most]])


def _kind(model: LinearModel) -> Kind:
    return Kind.MULTILABEL if model.one_versus_rest else model.kind


def _parts(
    model: LinearModel, x: csr_matrix, targets: np.ndarray, weights: np.ndarray, folds: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (columns of the targets, rows to learn from, held-out rows, square features of all rows)."""
    z = None if model.naive_bayes else square_root(x)
    for fold in range(FOLDS):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if z is not None:
            yield np.arange(targets.shape[1]), train, held, z
            continue
        for column in range(targets.shape[1]):
            keep, y, w = sides(targets[train, column], weights[train])
            ratios = log_count_ratios(x[train[keep]], y, w)
            scaled = csr_matrix((x.data * ratios[x.indices], x.indices, x.indptr), x.shape)
            yield np.array([column]), train, held, square_root(scaled)


def square_root(x: csr_matrix) -> np.ndarray:
    """Return (n, n) features with the inner products of x, for which a linear model is the same.

    Its regressions take a thousandth of the coefficients of n-grams.
    """
    products = (x @ x.T).toarray()
    products[np.diag_indices_from(products)] += 1e-8 * max(products.diagonal().mean(), 1e-8)
    return np.linalg.cholesky(products)


def _losses(
    model: LinearModel, task: Task, found: np.ndarray, targets: np.ndarray, rows: Rows
) -> tuple[np.ndarray, str]:
    """Return (C,) losses of (C, n, outputs) held-out predictions, and what they are."""
    if model.kind.is_values and task.metric.wants == "ranking" and task.metric.columns is None:
        scores = [-task.metric.ranked(targets, values) for values in found]
        if np.isfinite(scores).all():
            return np.array(scores), task.metric.name
    link = _kind(model).link
    each = [row_losses(values, targets, link) for values in found]
    name = "squared error" if model.kind.is_values else "log loss"
    return np.average(each, axis=1, weights=rows.weights), name
