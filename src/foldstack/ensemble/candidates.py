"""What may be made of the models' out-of-fold predictions: one of them, a blend, or a stack.

`blends.py` has what weighs the models; the stack, a second level, stands here with the list of
all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import lightgbm as lgb
import numpy as np
from scipy.special import logit
from sklearn.model_selection import GroupKFold

from foldstack.ensemble.blends import (
    GEOMETRIC,
    NO_OPTIONS,
    BlendOptions,
    Greedy,
    Mean,
    PowerMean,
    PowerMeaned,
    RankMean,
    Simplex,
    Single,
    Weighted,
    WeightsPerLabel,
)
from foldstack.ensemble.calibrated import calibrated_candidates, load_calibrated
from foldstack.ensemble.members import Candidate, Fitted, Inputs, Members
from foldstack.errors import InputError, nearest
from foldstack.metrics import Metric


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
) -> Fitted | Boosters:
    """The fitted candidate that a blend stored, to predict new rows with."""
    if "calibration" in parameters or "calibrations" in parameters:
        base = winner.rpartition("+")[0]
        return load_calibrated(
            parameters, names, lambda own: load_fitted(base, own, names, kind, outputs, directory)
        )
    if winner == "stack":
        return Boosters.load(directory, kind, outputs, parameters["constants"])
    nothing = np.empty((0, outputs))
    if "power" in parameters:
        return PowerMeaned(kind, parameters["power"], crossfit=nothing)
    weights = np.array([parameters["weights"][name] for name in names])
    scale = "rank" if winner == "rank_mean" else "probability"
    return Weighted(names, weights, kind, scale, crossfit=nothing)


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


METHODS: dict[str, Callable[[BlendOptions], Candidate]] = {
    "mean": lambda options: Mean(),
    "rank_mean": lambda options: RankMean(),
    "geometric_mean": lambda options: PowerMean("geometric_mean", GEOMETRIC),
    "power_mean": lambda options: PowerMean("power_mean", options.power),
    "greedy": Greedy,
    "simplex": Simplex,
    "weights_per_label": WeightsPerLabel,
    "stack": lambda options: Stack(),
}
DEFAULT_METHODS = ("mean", "rank_mean", "greedy", "stack")


def list_candidates(
    names: Sequence[str],
    metric: Metric,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    kind: str = "binary",
    features: bool = False,
    options: BlendOptions = NO_OPTIONS,
    calibration: str | Sequence[str] = (),
) -> list[Candidate]:
    """The candidates for these models: each alone, then, of several, the methods that fit.

    Rank means are left out where the metric wants more than a ranking, geometric and power means
    of a regression's values, and weights per label where there is one label. With features a
    stack has something to add to a single model, too. What is calibrated comes last
    (`calibrated_candidates`).

    Raises:
        InputError: a method or a way of calibration is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise InputError(f"blend method '{method}' is not known: {nearest(method, METHODS)}")
    candidates: list[Candidate] = [Single(f"single:{name}", k) for k, name in enumerate(names)]
    if len(names) == 1:
        candidates += [Stack()] if features and "stack" in methods else []
    else:
        unfit = _unfit(metric, kind)
        candidates += [METHODS[method](options) for method in methods if method not in unfit]
    return candidates + calibrated_candidates(candidates, metric, kind, calibration)


def _unfit(metric: Metric, kind: str) -> set[str]:
    unfit = set() if metric.wants == "ranking" else {"rank_mean"}
    if kind == "regression":
        unfit |= {"geometric_mean", "power_mean"}
    if kind not in ("multiclass", "multilabel"):
        unfit.add("weights_per_label")
    return unfit
