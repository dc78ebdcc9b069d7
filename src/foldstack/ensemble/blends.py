"""Blends: means of the models' predictions, and weighted means with fitted weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.stats import pmean

from foldstack.ensemble.members import Inputs, Members
from foldstack.ensemble.search import STEPS, TIE, Search, normalised, proper
from foldstack.ensemble.search_objective import SearchObjective
from foldstack.ensemble.surrogates import fit_surrogate
from foldstack.kinds import Kind
from foldstack.metrics import Metric
from foldstack.settings import BlendSettings

GEOMETRIC = 0.0  # the power at which the power mean is the geometric mean
SAMPLE = 10_000  # rows
FINE = STEPS[2:]  # steps that remain after the search on a sample
FEW = 8  # no bagging with fewer models: half of them would lack the good ones
# Means of ranks, for ranking metrics, which use only the order.
OF_RANKS = frozenset({"rank_mean", "rank_greedy"})


class BlendOptions(BlendSettings):
    """Settings of a blend, and the threads of one fit (0: all cores; results do not depend on it)."""

    threads: int = 0

    @classmethod
    def of(cls, settings: BlendSettings, threads: int) -> BlendOptions:
        return cls(**dict(settings), threads=threads)


@dataclass(frozen=True)
class Weighted:
    """A weighted mean of the models' probabilities, or of their ranks.

    weights: (models,), or (models, outputs) if each label has its own.
    """

    names: list[str]
    weights: np.ndarray
    kind: Kind
    scale: str
    crossfit: np.ndarray = field(repr=False)

    @property
    def parameters(self) -> dict:
        return {"weights": dict(zip(self.names, self.weights.tolist(), strict=True))}

    def predict(self, inputs: Inputs) -> np.ndarray:
        return _weigh(_read(inputs, self.scale), self.weights, self.kind)

    def save(self, directory: Path) -> list[Path]:
        return []


def _read(of: Inputs | Members, scale: str) -> np.ndarray:
    """Return (n, models, outputs) ranks or probabilities."""
    return of.ranks if scale == "rank" else of.probabilities


def _weigh(predictions: np.ndarray, weights: np.ndarray, kind: Kind) -> np.ndarray:
    if weights.ndim == 2:
        return proper(np.einsum("nmo,mo->no", predictions.astype(float), weights), kind, axis=1)
    values = np.einsum("nmo,m->no", predictions.astype(float), weights)
    return proper(values, kind, axis=1) if weights.min() < 0 else values


def _weighted(
    members: Members, rows: np.ndarray, weights: np.ndarray, scale: str = "probability"
) -> Weighted:
    # So few weights hardly overfit: their in-sample predictions serve as crossfit.
    crossfit = _weigh(_read(members, scale)[rows], weights, members.kind)
    return Weighted(members.names, weights, members.kind, scale, crossfit)


@dataclass(frozen=True)
class Single:
    """One model alone; nothing is fitted."""

    name: str
    model: int
    complexity: ClassVar[int] = 0

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        return _weighted(members, rows, np.eye(len(members.names))[self.model])


class ProbabilityMean:
    """The mean of all models' probabilities; nothing is fitted."""

    name = "mean"
    complexity = 1

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        models = len(members.names)
        return _weighted(members, rows, np.full(models, 1 / models))


class RankMean:
    """The mean of all models' ranks, for ranking metrics; nothing is fitted."""

    name = "rank_mean"
    complexity = 1

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        models = len(members.names)
        return _weighted(members, rows, np.full(models, 1 / models), "rank")


@dataclass(frozen=True)
class PowerMeaned:
    """A power mean of the models' probabilities."""

    kind: Kind
    power: float
    crossfit: np.ndarray = field(repr=False)
    scale: ClassVar[str] = "probability"

    @property
    def parameters(self) -> dict:
        return {"power": self.power}

    def predict(self, inputs: Inputs) -> np.ndarray:
        return _power_mean(inputs.probabilities, self.power, self.kind)

    def save(self, directory: Path) -> list[Path]:
        return []


def _power_mean(probabilities: np.ndarray, power: float, kind: Kind) -> np.ndarray:
    values = pmean(probabilities.astype(float), power, axis=1)
    # Rounding may exceed [0, 1].
    values = np.clip(values, 0, 1)
    return normalised(values, axis=1) if kind.is_one_hot else values


@dataclass(frozen=True)
class PowerMean:
    """(mean of p ** power) ** (1 / power), the geometric mean for 0; nothing is fitted.

    Class probabilities are normalised to sum to one.
    """

    name: str
    power: float
    complexity: ClassVar[int] = 1

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> PowerMeaned:
        crossfit = _power_mean(members.probabilities[rows], self.power, members.kind)
        return PowerMeaned(members.kind, self.power, crossfit)


NO_OPTIONS = BlendOptions(calibration=("none",))


@dataclass(frozen=True)
class Greedy:
    """Forward selection of models with replacement, bagged.

    Caruana et al. 2004, "Ensemble selection from libraries of models": start from the best single
    model, repeatedly add the model that scores best in the mean (repeats allowed), and keep the best
    mean on the path. Weights are selection frequencies. As in their section 2.3, several bags of a
    random half of the models are selected from and their weights averaged; fewer than `FEW` models make
    one bag. If the result does not beat the best single model, that model is taken. For metrics of
    labels every mean is scored with its best decision rule on the same rows.

    scale: 'probability', or 'rank' for means of ranks, in which a more confident model has no more
    weight.
    """

    options: BlendOptions = NO_OPTIONS
    scale: str = "probability"
    complexity: ClassVar[int] = 2
    steps: ClassVar[int] = 20

    @property
    def name(self) -> str:
        return "rank_greedy" if self.scale == "rank" else "greedy"

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        search = _search(members, rows, metric, self.options, self.scale)
        singles = search.singles()
        models = len(members.names)
        weights = np.zeros((models, 1))
        for bag in self._bags(models, seed):
            counts = search.select(bag, singles, self.steps)
            weights[:, 0] += counts / counts.sum()
        weights /= weights.sum()
        best = int(singles.argmax())
        if not search.score_weights(weights) > singles[best] + TIE:
            weights = np.eye(models)[:, [best]]
        return _weighted(members, rows, weights[:, 0], self.scale)

    def _bags(self, models: int, seed: int) -> list[np.ndarray]:
        if models < FEW or self.options.bags == 1:
            return [np.arange(models)]
        rng, half = np.random.default_rng(seed), -(-models // 2)
        return [np.sort(rng.choice(models, half, replace=False)) for _ in range(self.options.bags)]


@dataclass(frozen=True)
class Simplex:
    """Weights that sum to one, none below `-negative`, optimised for the metric.

    Starts: the best single model, the mean, the best weights by a smooth surrogate (`surrogates.py`)
    and, on few rows, a hill climb. The search on the metric itself begins at the best start and accepts
    improvements only: in sample the blend is never worse than any start.
    """

    options: BlendOptions = NO_OPTIONS
    name: ClassVar[str] = "simplex"
    complexity: ClassVar[int] = 2

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        search = _search(members, rows, metric, self.options)
        weights = _fit_weights(search, metric, members.targets[rows], seed)
        return _weighted(members, rows, weights[:, 0])


@dataclass(frozen=True)
class WeightsPerLabel:
    """`Simplex` with separate weights per class or label.

    If labels do not interact, as in macro averages, each is fitted separately. Otherwise, and for
    classes, whose probabilities must sum to one, the search begins at the common weights.
    """

    options: BlendOptions = NO_OPTIONS
    name: ClassVar[str] = "weights_per_label"
    complexity: ClassVar[int] = 3

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        search = _search(members, rows, metric, self.options)
        targets = members.targets[rows]
        common = _fit_weights(search, metric, targets, seed)
        weights = np.tile(common, (1, targets.shape[1]))
        labels = search.objective.by_label()
        if labels is None:
            return _weighted(members, rows, _climb(search, [weights], seed))
        for k, objective in enumerate(labels):
            if objective is not None:
                alone = Search(
                    search.predictions[k : k + 1],
                    objective,
                    Kind.BINARY,
                    lowest=search.lowest,
                    threads=search.threads,
                )
                fitted = _fit_weights(alone, metric, targets[:, k : k + 1], seed, common)
                weights[:, k] = fitted[:, 0]
        return _weighted(members, rows, weights)


def _search(
    members: Members,
    rows: np.ndarray,
    metric: Metric,
    options: BlendOptions,
    scale: str = "probability",
) -> Search:
    # Contiguous per output and model, as the search reads them.
    predictions = np.ascontiguousarray(_read(members, scale)[rows].transpose(2, 1, 0), float)
    return Search(
        predictions,
        SearchObjective.of(metric.take(rows), members.kind, members.targets[rows]),
        members.kind,
        lowest=-options.negative,
        threads=options.threads,
    )


def _fit_weights(
    search: Search, metric: Metric, targets: np.ndarray, seed: int, *starts: np.ndarray
) -> np.ndarray:
    """Return (models, 1) weights, searched for from the best start.

    Starts: the best single model, the mean, the surrogate's weights, the hill climb's, and `starts`.
    """
    singles = search.singles()
    best_single = np.eye(search.models)[:, [int(singles.argmax())]]
    mean = np.full((search.models, 1), 1 / search.models)
    found = fit_surrogate(metric, search.kind, search.predictions, targets, search.lowest, seed)
    given = [] if found is None else [found[:, None]]
    hill = search.hill(singles)
    climbed = [] if hill is None else [hill]
    return _climb(search, [best_single, mean, *given, *climbed, *starts], seed)


def _climb(search: Search, starts: list[np.ndarray], seed: int) -> np.ndarray:
    """Return weights searched for from the best start; many rows are first searched on a sample."""
    weights = search.best_of(starts)
    sample = search.sample(SAMPLE, seed)
    if sample is None:
        return search.climb(weights)
    return search.climb(search.best_of([weights, sample.climb(weights)]), FINE)
