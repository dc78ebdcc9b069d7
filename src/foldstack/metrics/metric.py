"""A metric, and scorers that compute what they can before they know the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from foldstack.costs import Costs

Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """A metric, made for one kind of target by `get`.

    Attributes:
        name: scikit-learn's name for it.
        kinds: the kinds of target it is defined for: 'binary', 'multiclass', 'multilabel',
            'regression'.
        wants: what it scores: 'ranking' (only the order within a column counts), 'probability',
            'labels' (decisions 0/1, one-hot for multiclass, one of `levels` for regression), or 'value'
            (a number, for regression).
        greater_is_better: False for losses and errors.
        bounds: its lowest and highest value.
        costs: of decisions, see `foldstack.costs`; only for the metric `cost`.
        columns: the columns that are scored; None for all.
        reads: names of the columns of the rows that the user's function takes beside the predictions.
        cells: those columns of the rows that are scored, by their ids; see `given` and `take`.
        levels: for regression with decisions, the ascending values to decide among; None for other
            metrics.
        top: the number of labels per row that it reads, the most probable first; None for other metrics.
    """

    name: str
    kinds: frozenset[str]
    wants: str
    greater_is_better: bool
    bounds: tuple[float, float]
    scorer: Scorer = field(repr=False)
    costs: Costs | None = None
    columns: tuple[int, ...] | None = None
    reads: tuple[str, ...] = ()
    cells: pd.DataFrame | None = field(default=None, repr=False, compare=False)
    levels: tuple[float, ...] | None = None
    top: int | None = None

    def score(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return the metric of predictions (n, outputs) against targets (n, outputs).

        Args:
            weights: (n,) row weights, None for ones. A row of weight 0 counts as absent.

        Returns:
            The score; nan if it is undefined, such as roc_auc with one class absent, and every metric if
            no row has a weight.

        Raises:
            ValueError: the shapes differ or are not (n, outputs).
            InputError: a user's own metric does not support these weights, or returned no number.
        """
        if targets.ndim != 2 or targets.shape != predictions.shape:
            # Numpy would silently broadcast (n,) against (n, 1) to a wrong score.
            raise ValueError(
                f"targets {targets.shape} and predictions {predictions.shape} "
                "must both be (n, outputs)"
            )
        weights = np.ones(len(targets)) if weights is None else np.asarray(weights, float)
        if not weights.any():
            return float("nan")
        if self.columns is not None:
            targets, predictions = (x[:, list(self.columns)] for x in (targets, predictions))
        return float(self.scorer(targets, predictions, weights, *self._beside(len(targets))))

    def _beside(self, rows: int) -> tuple[pd.DataFrame, ...]:
        """Return the columns that the scorer takes as a fourth argument, if any."""
        if not self.reads:
            return ()
        if self.cells is None or len(self.cells) != rows:
            # A metric of other rows would silently read their columns.
            found = None if self.cells is None else len(self.cells)
            raise ValueError(f"{self.name} has columns of {found} rows, but scores {rows}")
        return (self.cells,)

    def given(self, cells: pd.DataFrame) -> Metric:
        """Return the metric of other rows, with their columns `reads`, indexed by the rows' ids."""
        return replace(self, cells=cells[list(self.reads)]) if self.reads else self

    def take(self, rows: np.ndarray) -> Metric:
        """Return the metric of those of its rows at these positions, in this order."""
        return replace(self, cells=self.cells.iloc[rows]) if self.reads else self

    def of_ids(self, ids: np.ndarray) -> Metric:
        """Return the metric of those of its rows that have these ids, in this order."""
        return replace(self, cells=self.cells.loc[ids]) if self.reads else self

    def of_rows(
        self, targets: np.ndarray, predictions: np.ndarray
    ) -> Callable[[np.ndarray], float]:
        """Return `score` of these rows as a function of weights (n,) float64, to call many times.

        What does not depend on weights is computed once: sorted rankings, losses per row.
        """
        if not isinstance(self.scorer, (Prepared, OfSums)):
            return lambda weights: self.score(targets, predictions, weights)
        if self.columns is not None:
            targets, predictions = (x[:, list(self.columns)] for x in (targets, predictions))
        scorer = self.scorer.of_rows(targets, predictions)
        return lambda weights: float(scorer(weights)) if weights.any() else float("nan")

    def signed(
        self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None
    ) -> float:
        """Return `score`, negated for losses: larger is always better."""
        return self.sign * self.score(targets, predictions, weights)

    def ranked(self, targets: np.ndarray, predictions: np.ndarray) -> float:
        """Return `signed` to choose by: an undefined score is -inf, worse than any other."""
        score = self.signed(targets, predictions)
        return -np.inf if np.isnan(score) else score

    def over(self, columns: tuple[int, ...] | None) -> Metric:
        """Return this mean over columns as one over some of them; undefined for none, None for all."""
        if columns is None:
            return self
        return replace(self, columns=columns, scorer=self.scorer if columns else _never)

    def of_decisions(self, decide: Callable[[np.ndarray], np.ndarray]) -> Metric:
        """Return this metric of labels as one of probabilities, which are decided first."""
        of = self.scorer
        if isinstance(of, OfSums):
            scorer = replace(of, parts=lambda t, p: of.parts(t, decide(p)))
        else:
            scorer = lambda t, p, *rest: of(t, decide(p), *rest)  # noqa: E731
        return replace(self, wants="probability", scorer=scorer)

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's."""
        return self.name.startswith("metrics.py:")

    @property
    def sign(self) -> float:
        """1.0 if greater is better, else -1.0."""
        return 1.0 if self.greater_is_better else -1.0


def _never(targets: np.ndarray, predictions: np.ndarray, *weights_and_cells) -> float:
    return float("nan")


@dataclass(frozen=True)
class Prepared:
    """A scorer that prepares the rows before it knows the weights.

    of_rows: from targets and predictions (n, outputs) to a function of weights (n,).
    """

    of_rows: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], float]]

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        return self.of_rows(targets, predictions)(weights)


@dataclass(frozen=True)
class OfSums:
    """A scorer that needs only sums over rows, which a bootstrap adds up without the rows.

    Attributes:
        parts: from (targets, predictions) to each row's summands: arrays (n,) or (n, k).
        score: from the sums over rows, () or (k,) each, to the score.
    """

    parts: Callable[[np.ndarray, np.ndarray], list[np.ndarray]]
    score: Callable[..., float]

    def of_rows(
        self, targets: np.ndarray, predictions: np.ndarray
    ) -> Callable[[np.ndarray], float]:
        """Return a function of weights, see `Prepared.of_rows`."""
        parts = self.parts(targets, predictions)
        return lambda weights: self.score(*(weighted_sum(weights, part) for part in parts))

    def __call__(self, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> float:
        return self.of_rows(targets, predictions)(weights)


def weighted_sum(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return `weights @ values`, (n,) by (n,) or (n, k), without BLAS.

    From 10,000 rows on BLAS uses threads, which on busy cores wait a hundred times as long as the sum
    takes.
    """
    return np.einsum("n,n...->...", weights, values)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    # 0 where the denominator is 0: scikit-learn's zero_division=0.
    denominator = np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator != 0)


def mean_of_rows(value: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> OfSums:
    """Return a scorer: the mean over rows of a function of (targets, predictions) to (n,)."""

    def parts(targets: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
        return [value(targets, predictions), np.ones(len(targets))]

    return OfSums(parts, lambda total, weight: total / weight)
