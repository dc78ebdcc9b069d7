"""What may be made of the models' out-of-fold predictions: one of them, a blend, or a stack.

A candidate is fitted on some of the rows and predicts any. It reads targets, folds and groups
of those rows alone, which is what lets `nested.py` promise honest scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Protocol

import lightgbm as lgb
import numpy as np
from scipy.special import logit
from sklearn.model_selection import GroupKFold

from foldstack.ensemble.decide import fit_rule
from foldstack.errors import InputError, nearest
from foldstack.metrics import Metric


@dataclass(frozen=True)
class Inputs:
    """What a blend reads of n rows.

    probabilities: (n, models, outputs), for regression the predicted values; ranks: the same shape,
    within a run, scaled to (0, 1]; features: (n, f) of the competition's own columns, or None.
    """

    probabilities: np.ndarray
    ranks: np.ndarray
    features: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Inputs:
        features = None if self.features is None else self.features[rows]
        return Inputs(self.probabilities[rows], self.ranks[rows], features)


@dataclass(frozen=True)
class Members:
    """Predictions of the models to be blended, aligned by row.

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
        features, test_features: (n, f) and (t, f) feature columns, nan where unknown, or None.
        categorical: which of the features are codes of categories.

    Raises:
        ValueError: the shapes disagree, or a prediction is not a number between 0 and 1 (any finite
            one for regression).
    """

    names: list[str]
    probabilities: np.ndarray
    ranks: np.ndarray
    test_probabilities: np.ndarray
    test_ranks: np.ndarray
    targets: np.ndarray
    folds: np.ndarray
    groups: np.ndarray
    kind: str
    seed_variance: float = 0.0
    features: np.ndarray | None = None
    test_features: np.ndarray | None = None
    categorical: tuple[int, ...] = ()

    def __post_init__(self) -> None:
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
            if self.kind == "regression" and not name.endswith("ranks"):
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


class Fitted(Protocol):
    """A candidate fitted on some rows.

    Attributes:
        crossfit: predictions (rows, outputs) for the rows it was fitted on, to fit a decision
            rule on: where the candidate can overfit, not made by what was fitted on the row.
        parameters: what was fitted, JSON-able.
        scale: 'probability' or 'rank', what its predictions are.
    """

    parameters: dict
    scale: str

    @property
    def crossfit(self) -> np.ndarray: ...

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Predictions (n, outputs)."""

    def save(self, directory: Path) -> list[Path]:
        """Writes what `parameters` cannot hold into the directory; the files written."""


class Candidate(Protocol):
    """A way to combine models. Of two that score alike, the less complex is preferred."""

    name: str
    complexity: int

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Fitted:
        """Fits on these rows (an index array) and nothing else of the members."""


@dataclass(frozen=True)
class Weighted:
    """A weighted mean of the models' probabilities, or of their ranks."""

    names: list[str]
    weights: np.ndarray
    scale: str
    crossfit: np.ndarray = field(repr=False)

    @property
    def parameters(self) -> dict:
        return {"weights": dict(zip(self.names, self.weights.tolist(), strict=True))}

    def predict(self, inputs: Inputs) -> np.ndarray:
        return _weigh(inputs.ranks if self.scale == "rank" else inputs.probabilities, self.weights)

    def save(self, directory: Path) -> list[Path]:
        return []


def _weigh(predictions: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.einsum("nmo,m->no", predictions.astype(float), weights)


def _weighted(
    members: Members, rows: np.ndarray, weights: np.ndarray, scale: str = "probability"
) -> Weighted:
    source = members.ranks if scale == "rank" else members.probabilities
    # So few weights hardly overfit: their own predictions serve as crossfit.
    return Weighted(members.names, weights, scale, _weigh(source[rows], weights))


@dataclass(frozen=True)
class Single:
    """One model as it is; nothing is fitted."""

    name: str
    model: int
    complexity: ClassVar[int] = 0

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        return _weighted(members, rows, np.eye(len(members.names))[self.model])


class Mean:
    """The mean of all models' probabilities; nothing is fitted."""

    name = "mean"
    complexity = 1

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        models = len(members.names)
        return _weighted(members, rows, np.full(models, 1 / models))


class RankMean:
    """The mean of all models' ranks, for metrics of a ranking; nothing is fitted."""

    name = "rank_mean"
    complexity = 1

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        models = len(members.names)
        return _weighted(members, rows, np.full(models, 1 / models), "rank")


class Greedy:
    """Forward selection of models with replacement.

    Caruana et al. 2004, "Ensemble selection from libraries of models": from the best single
    model on, add the one whose joining helps the mean most, a model as often as it helps. The
    weights are the shares. For metrics that want labels, every mean is scored with the
    decision rule that is best for it on the same rows.
    """

    name = "greedy"
    complexity = 2
    steps = 20

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Weighted:
        predictions = members.probabilities[rows].astype(float).swapaxes(0, 1)
        targets = members.targets[rows]
        counts = np.zeros(len(members.names))
        best = -np.inf
        for size in range(1, self.steps + 2):  # The best single, then up to `steps` additions.
            total = np.einsum("mno,m->no", predictions, counts)
            scores = np.array(
                [_objective(metric, members.kind, targets, (total + p) / size) for p in predictions]
            )
            chosen = _first_best(scores, counts > 0)
            # Less than this is the rounding of a mean, not an improvement.
            if not scores[chosen] > best + 1e-12 and size > 1:
                break
            best = scores[chosen]
            counts[chosen] += 1
        return _weighted(members, rows, counts / counts.sum())


def _first_best(scores: np.ndarray, used: np.ndarray) -> int:
    """The best model; among equals one already used, then the first listed."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    equal = scores >= scores.max() - 1e-12
    return int(np.argmax(equal * (1 + used)))


def _objective(metric: Metric, kind: str, targets: np.ndarray, probabilities: np.ndarray) -> float:
    if metric.wants == "labels":
        rule = fit_rule(metric, kind, targets, probabilities)
        return metric.signed(targets, rule.apply(probabilities))
    return metric.signed(targets, probabilities)


class Stack:
    """A second level: shallow LightGBM over all models' logits and the competition's features."""

    name = "stack"
    complexity = 3

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Stacked:
        return Stacked(members, rows, seed)


BOOSTING = {"num_leaves": 7, "learning_rate": 0.05, "num_rounds": 60, "min_data_in_leaf": 50}
CROSSFIT_SPLITS = 5


@dataclass(frozen=True)
class Boosters:
    """One booster for binary and multiclass, one an output for multilabel and regression.

    An output with a single value in the rows is predicted as that constant.
    """

    kind: str
    models: list[lgb.Booster | float]
    scale: ClassVar[str] = "probability"

    @classmethod
    def train(cls, members: Members, rows: np.ndarray, seed: int) -> Boosters:
        inputs, targets, kind = members.inputs.take(rows), members.targets[rows], members.kind
        if kind == "multiclass":
            objective = {"objective": "multiclass", "num_class": targets.shape[1]}
            x = _table(inputs, kind)
            return cls(kind, [_booster(x, targets.argmax(axis=1), objective, members, seed)])
        objective = {"objective": "regression" if kind == "regression" else "binary"}
        models: list[lgb.Booster | float] = []
        for k, target in enumerate(targets.T):
            if target.min() == target.max():
                models.append(float(target[0]))
            else:
                models.append(_booster(_table(inputs, kind, k), target, objective, members, seed))
        return cls(kind, models)

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Predictions (n, outputs)."""
        if self.kind == "multiclass":
            return self.models[0].predict(_table(inputs, self.kind), num_threads=1)
        columns = [
            np.full(len(inputs.ranks), model)
            if isinstance(model, float)
            else model.predict(_table(inputs, self.kind, k), num_threads=1)
            for k, model in enumerate(self.models)
        ]
        return np.column_stack(columns)

    @classmethod
    def load(
        cls, directory: Path, kind: str, outputs: int, constants: dict[str, float]
    ) -> Boosters:
        """What `Stacked.save` wrote."""
        count = 1 if kind == "multiclass" else outputs
        models = [
            constants[str(k)]
            if str(k) in constants
            else lgb.Booster(model_file=directory / f"stack-{k}.txt")
            for k in range(count)
        ]
        return cls(kind, models)


class Stacked:
    """Boosters fitted on some rows, and their crossfit."""

    scale = "probability"

    def __init__(self, members: Members, rows: np.ndarray, seed: int):
        self._members, self._rows, self._seed = members, rows, seed
        self._boosters = Boosters.train(members, rows, seed)

    @property
    def parameters(self) -> dict:
        models = self._boosters.models
        constants = {str(k): m for k, m in enumerate(models) if isinstance(m, float)}
        leaf = _min_data_in_leaf(len(self._rows))
        return BOOSTING | {"min_data_in_leaf": leaf, "seed": self._seed, "constants": constants}

    @cached_property
    def crossfit(self) -> np.ndarray:
        """Predictions for its rows by boosters of 5 group-wise splits, trained when asked for.

        Only decision rules need it, and it costs five times the fit itself.
        """
        members, rows = self._members, self._rows
        groups = members.groups[rows]
        splits = min(CROSSFIT_SPLITS, len(np.unique(groups)))
        splitter = GroupKFold(splits, shuffle=True, random_state=self._seed)
        predictions = np.empty(members.targets[rows].shape)
        for fitted_on, held_out in splitter.split(rows, groups=groups):
            boosters = Boosters.train(members, rows[fitted_on], self._seed)
            predictions[held_out] = boosters.predict(members.inputs.take(rows[held_out]))
        return predictions

    def predict(self, inputs: Inputs) -> np.ndarray:
        return self._boosters.predict(inputs)

    def save(self, directory: Path) -> list[Path]:
        """Writes `stack-<k>.txt`, LightGBM's text, for each output (0 for binary and multiclass).

        Constant outputs have no file; they stand in `parameters`.
        """
        paths = []
        for k, model in enumerate(self._boosters.models):
            if isinstance(model, lgb.Booster):
                paths.append(Path(directory) / f"stack-{k}.txt")
                model.save_model(paths[-1])
        return paths


def load_fitted(
    winner: str, parameters: dict, names: list[str], kind: str, outputs: int, directory: Path
):
    """The fitted candidate that a blend stored, to predict new rows with."""
    if winner == "stack":
        return Boosters.load(directory, kind, outputs, parameters["constants"])
    weights = np.array([parameters["weights"][name] for name in names])
    scale = "rank" if winner == "rank_mean" else "probability"
    return Weighted(names, weights, scale, crossfit=np.empty((0, outputs)))


def _table(inputs: Inputs, kind: str, output: int | None = None) -> np.ndarray:
    """(n, models x outputs + f): logits (regression: values) of all outputs or one, then features."""
    values = inputs.probabilities.astype(float)
    if output is not None:
        values = values[:, :, output : output + 1]
    if kind != "regression":
        values = logit(np.clip(values, 1e-7, 1 - 1e-7))  # finite
    values = values.reshape(len(values), -1)
    return values if inputs.features is None else np.hstack([values, inputs.features])


def _min_data_in_leaf(rows: int) -> int:
    # 50 at a thousand rows and more; fewer rows could not be split at all with it.
    return max(1, min(BOOSTING["min_data_in_leaf"], rows // 20))


def _booster(
    table: np.ndarray, target: np.ndarray, objective: dict, members: Members, seed: int
) -> lgb.Booster:
    settings = {
        **objective,
        "num_leaves": BOOSTING["num_leaves"],
        "learning_rate": BOOSTING["learning_rate"],
        "min_data_in_leaf": _min_data_in_leaf(len(target)),
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbose": -1,
    }
    count = 0 if members.features is None else members.features.shape[1]
    first = table.shape[1] - count
    data = lgb.Dataset(table, target, categorical_feature=[first + k for k in members.categorical])
    return lgb.train(settings, data, num_boost_round=BOOSTING["num_rounds"])


METHODS = {"mean": Mean, "rank_mean": RankMean, "greedy": Greedy, "stack": Stack}


def list_candidates(
    names: Sequence[str],
    metric: Metric,
    methods: Sequence[str] = tuple(METHODS),
    *,
    features: bool = False,
) -> list[Candidate]:
    """The candidates for these models: each alone, then, of several, the methods that fit.

    Rank means are left out where the metric wants more than a ranking. With features a stack has
    something to add to a single model, too.

    Raises:
        InputError: a method is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise InputError(f"blend method '{method}' is not known: {nearest(method, METHODS)}")
    candidates: list[Candidate] = [Single(f"single:{name}", k) for k, name in enumerate(names)]
    if len(names) == 1:
        candidates += [Stack()] if features and "stack" in methods else []
    else:
        fitting = [m for m in methods if m != "rank_mean" or metric.wants == "ranking"]
        candidates += [METHODS[method]() for method in fitting]
    return candidates
