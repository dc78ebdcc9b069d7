"""Search for weights of means of fixed predictions, on the metric itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from foldstack.cores import cpu_threads
from foldstack.ensemble.search_objective import SearchObjective
from foldstack.kinds import Kind

TIE = 1e-12  # less is rounding of a mean, not an improvement
GAIN = 1e-6  # a step size is not repeated after a round with less
WAITED = 5  # additions without improvement before a selection stops
STEPS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
SHARES = np.arange(1, 51) / 100  # of a model added in a hill climb
HILL = 2e8  # values that a hill climb may evaluate: some seconds
ROUNDS = 12  # per step size
TRIES = 8  # best moves of a round that are applied in sequence
WORTH_THREADS = 20_000  # values per trial; fewer take less time than starting a thread
SMALL = 0.01  # smaller weights are pruned if the score does not decrease


def proper(values: np.ndarray, kind: Kind, axis: int) -> np.ndarray:
    """Return blended values as probabilities, for negative weights or weights per label.

    They are clipped to [0, 1]; over classes, which lie along the axis, they sum to one.
    """
    if kind.is_values:
        return values
    values = np.clip(values, 0, 1)
    return normalised(values, axis) if kind.is_one_hot else values


def normalised(values: np.ndarray, axis: int) -> np.ndarray:
    """Return values divided by their sum along the axis; uniform if that is 0."""
    total = values.sum(axis=axis, keepdims=True)
    uniform = np.full_like(values, 1 / values.shape[axis])
    return np.divide(values, total, out=uniform, where=total > 0)


class Search:
    """Blends of predictions (outputs, models, n), scored by an objective with several threads.

    Results do not depend on the number of threads: trials are scored independently and compared in
    their order.

    Args:
        lowest: the smallest weight, 0 or below.
        threads: 0 for one per core that this process may use.
    """

    def __init__(
        self,
        predictions: np.ndarray,
        objective: SearchObjective,
        kind: Kind,
        *,
        lowest: float = 0.0,
        threads: int = 0,
    ):
        self.predictions, self.objective, self.kind = predictions, objective, kind
        self.lowest = lowest
        self.threads = cpu_threads(threads)
        alone = self.threads == 1 or predictions[:, 0].size < WORTH_THREADS
        self._pool = None if alone else ThreadPoolExecutor(self.threads)
        self.models = predictions.shape[1]

    def sample(self, size: int, seed: int) -> Search | None:
        """Return the search on a sample of `size` rows; None with fewer than twice as many rows."""
        n = self.predictions.shape[2]
        if n < 2 * size:
            return None
        rows = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))
        return Search(
            np.ascontiguousarray(self.predictions[:, :, rows]),
            self.objective.take(rows),
            self.kind,
            lowest=self.lowest,
            threads=self.threads,
        )

    def score(self, values: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Score blended values (outputs, n), made proper if the weights call for it."""
        if weights is not None and (weights.min() < 0 or weights.shape[1] > 1):
            values = proper(values, self.kind, axis=0)
        return self.objective(values)

    def score_weights(self, weights: np.ndarray) -> float:
        """Score weights (models, 1), or (models, outputs)."""
        return self.score(self.blend(weights), weights)

    def blend(self, weights: np.ndarray) -> np.ndarray:
        """Return (outputs, n) blended by weights (models, 1), or (models, outputs)."""
        if weights.shape[1] == 1:
            return np.einsum("omn,m->on", self.predictions, weights[:, 0])
        return np.einsum("omn,mo->on", self.predictions, weights)

    def map(self, trials: Sequence[Callable[[], float]]) -> np.ndarray:
        """Return the scores of the trials, in their order."""
        # Sorting and array arithmetic release the GIL.
        run = map if self._pool is None else self._pool.map
        return np.array(list(run(lambda trial: trial(), trials)))

    def singles(self) -> np.ndarray:
        """Return (models,) scores of the single models."""
        columns = self.predictions.swapaxes(0, 1)
        return self.map([partial(self.score, column) for column in columns])

    # --- forward selection --------------------------------------------------------------------

    def select(self, models: Sequence[int], singles: np.ndarray, steps: int) -> np.ndarray:
        """Return how often each model (models,) is selected: the best single, then up to `steps` more.

        An addition may help only later: if the best model is added to itself, the next one joins with a
        smaller share. The best mean on the path counts, the first of equals.
        """
        counts, best, waited = np.zeros(self.models), -np.inf, 0
        for size in range(1, steps + 2):
            scores = singles[models] if size == 1 else self._joining(models, counts, size)
            chosen = _first_best(scores, counts[models] > 0)
            counts[models[chosen]] += 1
            if size == 1 or scores[chosen] > best + TIE:
                best, found, waited = scores[chosen], counts.copy(), 0
                continue
            waited += 1
            if waited == WAITED:
                break
        return found

    def _joining(self, models: Sequence[int], counts: np.ndarray, size: int) -> np.ndarray:
        total = self.blend(counts[:, None])

        def trial(model: int) -> float:
            return self.score((total + self.predictions[:, model]) / size)

        return self.map([partial(trial, model) for model in models])

    def hill(self, singles: np.ndarray) -> np.ndarray | None:
        """Return weights (models, 1) by hill climbing: each model once, at its best of 50 shares.

        It begins at the best single model. On few rows a metric is jagged, with peaks that small steps
        miss; on many rows it is smooth and this is too slow: None.
        """
        if self.models**2 * len(SHARES) * self.predictions[:, 0].size > HILL:
            return None
        left = np.argsort(-singles, kind="stable").tolist()
        weights = np.eye(self.models)[:, [left.pop(0)]]
        best = self.score_weights(weights)
        while left:
            values = self.blend(weights)
            moves = [(model, share) for model in left for share in SHARES]
            scores = self.map([partial(self._added, values, *move) for move in moves])
            model, share = moves[int(scores.argmax())]
            if not scores.max() > best + TIE:
                break
            best = scores.max()
            weights *= 1 - share
            weights[model] += share
            left.remove(model)
        return weights

    def _added(self, values: np.ndarray, model: int, share: float) -> float:
        return self.score((1 - share) * values + share * self.predictions[:, model])

    # --- coordinate search --------------------------------------------------------------------

    def best_of(self, starts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the first of the weights, (models, 1) or (models, outputs), with the best score."""
        return starts[int(np.argmax([self.score_weights(weights) for weights in starts]))]

    def climb(self, weights: np.ndarray, steps: Sequence[float] = STEPS) -> np.ndarray:
        """Return better weights, or the same: steps towards or away from one model, ever smaller.

        Superfluous weights are pruned. weights: (models, 1), or (models, outputs), columns of sum one.
        """
        best = self.score_weights(weights)
        for step in steps:
            for _ in range(ROUNDS):
                weights, better = self._round(weights, best, step)
                if not better > best + GAIN:
                    break
                best = better
        return self._prune(weights, best)

    def _round(self, weights: np.ndarray, best: float, step: float) -> tuple[np.ndarray, float]:
        """Try all steps separately, then the best few in sequence, while they improve."""
        values = self.blend(weights)
        moves = [
            (model, column, change)
            for column in range(weights.shape[1])
            for model in range(self.models)
            for change in (step, -step)
        ]
        moves = [move for move in moves if self._moved(weights, *move) is not None]
        scores = self.map([partial(self._trial, values, weights, *move) for move in moves])
        order = np.argsort(-scores, kind="stable")[:TRIES]
        for move in (moves[k] for k in order if scores[k] > best + TIE):
            moved = self._moved(weights, *move)
            score = -np.inf if moved is None else self.score_weights(moved)
            if score > best + TIE:
                weights, best = moved, score
        return weights, best

    def _trial(
        self, values: np.ndarray, weights: np.ndarray, model: int, column: int, change: float
    ) -> float:
        moved = self._moved(weights, model, column, change)
        share = (moved[model, column] - weights[model, column]) / (1 - weights[model, column])
        if weights.shape[1] == 1:
            return self.score((1 - share) * values + share * self.predictions[:, model], moved)
        values = values.copy()
        values[column] = (1 - share) * values[column] + share * self.predictions[column, model]
        return self.score(values, moved)

    def _moved(
        self, weights: np.ndarray, model: int, column: int, change: float
    ) -> np.ndarray | None:
        """Return the weights with this model's share raised (others lowered in proportion), or reversed.

        A step beyond the lowest weight ends there; None if it changes nothing, or moves another model's
        weight beyond it.
        """
        own = weights[model, column]
        if own > 1 - TIE:  # No other weight could change.
            return None
        share = max(change, (self.lowest - own) / (1 - own))
        if abs(share) < TIE:
            return None
        moved = weights.copy()
        moved[:, column] *= 1 - share
        moved[model, column] = max(own + share * (1 - own), self.lowest)
        return moved if moved[:, column].min() >= self.lowest - TIE else None

    def _prune(self, weights: np.ndarray, best: float) -> np.ndarray:
        """Set small weights to 0, the smallest first, if the score does not decrease."""
        used = np.argwhere((weights != 0) & (np.abs(weights) < SMALL))
        for model, column in sorted(used.tolist(), key=lambda at: abs(weights[*at])):
            without = weights.copy()
            without[model, column] = 0
            without[:, column] /= without[:, column].sum()
            if without.min() < self.lowest - TIE:
                continue
            score = self.score_weights(without)
            if score >= best - TIE:
                weights, best = without, score
        return weights


def _first_best(scores: np.ndarray, used: np.ndarray) -> int:
    """Return the best model; among equals one already used, then the first listed."""
    equal = scores >= scores.max() - TIE
    return int(np.argmax(equal * (1 + used)))
