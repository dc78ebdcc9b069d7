"""Candidates that calibrate: a blend's probabilities, or each model's before they are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.model_selection import GroupKFold

from foldstack.ensemble.blends import OF_RANKS, ProbabilityMean
from foldstack.ensemble.calibration import METHODS, Calibration, calibrate, common_temperature
from foldstack.ensemble.members import Candidate, Fitted, Inputs, Members
from foldstack.errors import InputError, nearest
from foldstack.kinds import Kind
from foldstack.metrics import Metric

# The ratio of temperatures from which members differ in confidence. On a few hundred rows a ratio
# of 1.2 is chance.
APART = 1.5
SPLITS = 5
# Weights per label and stacks already minimise the log loss: they are not calibrated.
MOST_COMPLEX = 2


class Calibrated:
    """A candidate whose probabilities are calibrated, fitted on its crossfit."""

    def __init__(self, base: Candidate, method: str):
        self.base, self.method = base, method
        self.name = f"{base.name}+{method}"
        order = list(dict.fromkeys(m for known in METHODS.values() for m in known))
        # Between the base's complexity and the next.
        self.complexity = base.complexity + 0.1 * (1 + order.index(method))

    def fit(
        self, members: Members, rows: np.ndarray, metric: Metric, seed: int
    ) -> CalibratedFitted:
        return self.calibrate(self.base.fit(members, rows, metric, seed), members, rows, seed)

    def calibrate(
        self, base: Fitted, members: Members, rows: np.ndarray, seed: int
    ) -> CalibratedFitted:
        """Return the same as `fit`, from a base that is already fitted.

        Args:
            base: fitted on `rows`.
            members: all members; only `rows` are read.
            rows: (k,) row indices.
            seed: of the splits for the crossfit of isotonic maps.

        Returns:
            The base with its map.
        """
        targets = members.targets[rows]
        found = calibrate(self.method, members.kind, base.crossfit, targets)
        return CalibratedFitted(base, found, targets, members.groups[rows], seed)


@dataclass(frozen=True)
class CalibratedFitted:
    """A fitted candidate and the map of its probabilities.

    targets (rows, outputs) and groups (rows,) of the fitted rows serve the crossfit only; they are
    None after loading.
    """

    base: Fitted
    calibration: Calibration
    targets: np.ndarray | None = field(default=None, repr=False)
    groups: np.ndarray | None = field(default=None, repr=False)
    seed: int = 0
    scale: ClassVar[str] = "probability"

    @property
    def parameters(self) -> dict:
        return {"base": self.base.parameters, "calibration": self.calibration.to_json()}

    @cached_property
    def crossfit(self) -> np.ndarray:
        """Return predictions by the map itself, which has few parameters; for isotonic maps, which can
        overfit, by maps fitted in 5 group-wise splits.
        """
        values = self.base.crossfit
        splits = min(SPLITS, len(np.unique(self.groups)))
        if self.calibration.method != "isotonic" or splits < 2:
            return self.calibration.apply(values)
        out = np.empty(values.shape)
        splitter = GroupKFold(splits, shuffle=True, random_state=self.seed)
        for fitted_on, held_out in splitter.split(values, groups=self.groups):
            kind = self.calibration.kind
            found = calibrate("isotonic", kind, values[fitted_on], self.targets[fitted_on])
            out[held_out] = found.apply(values[held_out])
        return out

    def predict(self, inputs: Inputs) -> np.ndarray:
        return self.calibration.apply(self.base.predict(inputs))

    def save(self, directory: Path) -> list[Path]:
        return self.base.save(directory)


@dataclass(frozen=True)
class CalibratedMean:
    """The mean of the models' probabilities, each model calibrated first.

    For models of different confidence, where the most confident would outweigh the others. It is the
    plain mean if their temperatures lie within a factor of `APART`.
    """

    method: str
    name: ClassVar[str] = "calibrated_mean"
    complexity: ClassVar[float] = 1.1

    def fit(self, members: Members, rows: np.ndarray, metric: Metric, seed: int) -> Fitted:
        kind, targets = members.kind, members.targets[rows]
        by_model = [members.probabilities[rows, k] for k in range(len(members.names))]
        temperatures = [common_temperature(kind, p, targets) for p in by_model]
        if max(temperatures) < APART * min(temperatures):
            return ProbabilityMean().fit(members, rows, metric, seed)
        found = [calibrate(self.method, kind, p, targets) for p in by_model]
        crossfit = np.mean([c.apply(p) for c, p in zip(found, by_model, strict=True)], axis=0)
        return CalibratedMeaned(members.names, found, crossfit)


@dataclass(frozen=True)
class CalibratedMeaned:
    """The mean of calibrated probabilities."""

    names: list[str]
    calibrations: list[Calibration]
    crossfit: np.ndarray = field(repr=False)
    scale: ClassVar[str] = "probability"

    @property
    def parameters(self) -> dict:
        each = zip(self.names, self.calibrations, strict=True)
        return {"calibrations": {name: found.to_json() for name, found in each}}

    def predict(self, inputs: Inputs) -> np.ndarray:
        by_model = zip(self.calibrations, inputs.probabilities.swapaxes(0, 1), strict=True)
        return np.mean([found.apply(values) for found, values in by_model], axis=0)

    def save(self, directory: Path) -> list[Path]:
        return []


def calibrated_candidates(
    candidates: Sequence[Candidate], metric: Metric, kind: Kind, calibration: str | Sequence[str]
) -> list[Candidate]:
    """Return the candidates that calibration adds to these.

    Args:
        candidates: the ones to calibrate.
        metric: decides what 'auto' means.
        kind: its methods are `METHODS[kind]`.
        calibration: 'auto', 'none' or methods. Methods are tried on means and weighted means of
            probabilities, or on the only model. The first method (temperature instead of isotonic)
            is also used for the mean of calibrated models, if the plain mean is a candidate. auto:
            all methods of the kind for a metric of probabilities; otherwise only the mean of
            calibrated models, by temperature.

    Returns:
        `Calibrated` candidates, then `CalibratedMean`.

    Raises:
        InputError: a method is unknown, or not for this kind.
    """
    known = METHODS.get(kind, ())
    asked = (calibration,) if isinstance(calibration, str) else tuple(calibration)
    if asked == ("auto",):
        tried = known if metric.wants == "probability" else ()
        first = known[:1]
    else:
        tried = () if asked == ("none",) else asked
        first = tuple("temperature" if method == "isotonic" else method for method in tried[:1])
    for method in tried:
        if method not in known:
            which = nearest(method, known) if known else "set blend.calibration to none"
            raise InputError(f"calibration '{method}' is not for kind {kind}: {which}")
    blends = [c for c in candidates if 0 < c.complexity <= MOST_COMPLEX and c.name not in OF_RANKS]
    singles = [c for c in candidates if c.complexity == 0]
    bases = blends or (singles if len(singles) == 1 else [])
    means = [CalibratedMean(method) for method in first if any(c.name == "mean" for c in blends)]
    return means + [Calibrated(base, method) for base in bases for method in tried]


def load_calibrated(
    parameters: dict, names: list[str], load_base: Callable[[dict], Fitted]
) -> Fitted:
    """Load a `CalibratedFitted` or `CalibratedMeaned`; load_base reads a base's parameters."""
    nothing = np.empty((0, 0))
    if "calibrations" in parameters:
        found = [Calibration.from_json(parameters["calibrations"][name]) for name in names]
        return CalibratedMeaned(names, found, crossfit=nothing)
    found = Calibration.from_json(parameters["calibration"])
    return CalibratedFitted(load_base(parameters["base"]), found)
