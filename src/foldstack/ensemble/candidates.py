"""The candidates made of the models' out-of-fold predictions: single models, blends and stacks.

`blends.py` defines weighted means, `stacks.py` the second levels; this module lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from foldstack.ensemble.blends import (
    GEOMETRIC,
    NO_OPTIONS,
    OF_RANKS,
    BlendOptions,
    Greedy,
    PowerMean,
    PowerMeaned,
    ProbabilityMean,
    RankMean,
    Simplex,
    Single,
    Weighted,
    WeightsPerLabel,
)
from foldstack.ensemble.calibrated import calibrated_candidates, load_calibrated
from foldstack.ensemble.members import Candidate, Fitted
from foldstack.ensemble.stacks import STACKS, Stack, load_stack
from foldstack.errors import InputError, nearest
from foldstack.kinds import Kind
from foldstack.metrics import Metric
from foldstack.settings import BlendSettings


def load_fitted(
    winner: str, parameters: dict, names: list[str], kind: Kind, outputs: int, directory: Path
) -> Fitted:
    """Load the fitted candidate that a blend stored, to predict new rows.

    Args:
        winner: the candidate's name.
        parameters: its stored parameters.
        names: the models, in the order of the predictions.
        kind: of the competition.
        outputs: number of outputs.
        directory: the files that `Fitted.save` wrote.

    Returns:
        The fitted candidate.
    """
    if "calibration" in parameters or "calibrations" in parameters:
        base = winner.rpartition("+")[0]
        return load_calibrated(
            parameters, names, lambda own: load_fitted(base, own, names, kind, outputs, directory)
        )
    if winner in STACKS:
        return load_stack(winner, parameters, outputs, directory)
    kind, nothing = Kind(kind), np.empty((0, outputs))
    if "power" in parameters:
        return PowerMeaned(kind, parameters["power"], crossfit=nothing)
    weights = np.array([parameters["weights"][name] for name in names])
    scale = "rank" if winner in OF_RANKS else "probability"
    return Weighted(names, weights, kind, scale, crossfit=nothing)


METHODS: dict[str, Callable[[BlendOptions], Candidate]] = {
    "mean": lambda options: ProbabilityMean(),
    "rank_mean": lambda options: RankMean(),
    "geometric_mean": lambda options: PowerMean("geometric_mean", GEOMETRIC),
    "power_mean": lambda options: PowerMean("power_mean", options.power),
    "greedy": Greedy,
    "rank_greedy": lambda options: Greedy(options, "rank"),
    "simplex": Simplex,
    "weights_per_label": WeightsPerLabel,
    **{name: partial(Stack, name) for name in STACKS},
}
DEFAULT_METHODS = BlendSettings().methods


def list_candidates(
    names: Sequence[str],
    metric: Metric,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    kind: Kind = Kind.BINARY,
    features: bool = False,
    options: BlendOptions = NO_OPTIONS,
    calibration: str | Sequence[str] = (),
) -> list[Candidate]:
    """Return the candidates for these models: each alone, then, for several, the methods that apply.

    Args:
        names: the models.
        metric: means of ranks are only for ranking metrics.
        methods: names of `METHODS`.
        kind: geometric and power means are not for regression.
        features: feature columns exist, so that stacks are tried on a single model, too.
        options: of the blend.
        calibration: see `calibrated_candidates`, whose candidates come last.

    Returns:
        The candidates; weights per label only if there are several outputs.

    Raises:
        InputError: a method or a calibration is unknown.
    """
    for method in methods:
        if method not in METHODS:
            raise InputError(f"blend method '{method}' is not known: {nearest(method, METHODS)}")
    candidates: list[Candidate] = [Single(f"single:{name}", k) for k, name in enumerate(names)]
    if len(names) == 1:
        stacks = [method for method in methods if method in STACKS]
        candidates += [METHODS[method](options) for method in stacks if features]
    else:
        unfit = _unfit(metric, Kind(kind))
        candidates += [METHODS[method](options) for method in methods if method not in unfit]
    return candidates + calibrated_candidates(candidates, metric, kind, calibration)


def _unfit(metric: Metric, kind: Kind) -> set[str]:
    unfit = set() if metric.wants == "ranking" else set(OF_RANKS)
    if kind.is_values:
        unfit |= {"geometric_mean", "power_mean"}
    if not kind.has_output_per_label:
        unfit.add("weights_per_label")
    return unfit
