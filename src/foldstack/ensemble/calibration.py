"""Calibration: maps to probabilities that match observed frequencies, fitted on OOF predictions.

The methods, with logits z = ln p - ln(1 - p), for classes z = ln p:

- temperature: z / T, one parameter (Guo et al. 2017, "On calibration of modern neural networks").
- vector: w_k z_k + b_k before the softmax over classes k (Guo et al. 2017).
- platt: a z + b, with smoothed targets (Platt 1999, "Probabilistic outputs for support vector
  machines").
- beta: a ln p - b ln(1 - p) + c, with a, b >= 0 (Kull et al. 2017, "Beta calibration").
- isotonic: any rising step function (Zadrozny & Elkan 2002, "Transforming classifier scores into
  accurate multiclass probability estimates"; scikit-learn's), kept off 0 and 1.

All but isotonic are fitted by maximum likelihood. Each of several labels has its own map. For
classes temperature and vector act on all together; the others calibrate each class against the rest
and normalise (Zadrozny & Elkan 2002). A label with fewer than ten rows of its rarer side per
parameter takes a map fitted to all labels together (ten events per variable: Peduzzi et al. 1996);
if those are too few as well, probabilities stay unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import entr, expit, log_expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression

from foldstack.ensemble.search import normalised
from foldstack.kinds import Kind

Map = tuple[float, ...] | None

CERTAIN = 1e-9
ROWS = 10  # of the rarer side, per parameter
# A column with this many parameters' worth of rows has its own map. Isotonic maps have no fixed
# number of parameters; below some hundreds of rows they overfit.
PARAMETERS = {"temperature": 1, "platt": 2, "vector": 2, "beta": 3, "isotonic": 20}
METHODS = {
    Kind.BINARY: ("temperature", "platt", "beta", "isotonic"),
    Kind.MULTICLASS: ("temperature", "vector", "platt", "beta", "isotonic"),
    Kind.MULTILABEL: ("temperature", "platt", "beta", "isotonic"),
}
HOTTEST = 20.0  # temperatures lie between 1/20 and this
FARTHEST = 50.0  # bound of the other parameters, which diverge if classes are separable


@dataclass(frozen=True)
class Calibration:
    """A fitted map of probabilities (n, outputs) to calibrated ones.

    Attributes:
        method: one of `METHODS[kind]`.
        maps: parameters per column, or once for all classes with temperature: (T,), (a, b),
            (a, b, c), for vector (w, b), for isotonic the points' x, then their y. None: unchanged.
    """

    method: str
    kind: Kind
    maps: tuple[Map, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))  # from JSON it is text

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64; over classes they sum to one."""
        p = probabilities.astype(float)
        if all(each is None for each in self.maps):
            return p
        if self.kind.is_one_hot and self.method == "temperature":
            return temper(self.kind, p, self.maps[0][0])
        if self.method == "vector":
            weights, biases = np.array(self.maps).T
            return softmax(_logs(p) * weights + biases, axis=1)
        columns = [
            column if each is None else APPLIED[self.method](column, *each)
            for column, each in zip(p.T, self.maps, strict=True)
        ]
        values = np.column_stack(columns)
        return normalised(values, axis=1) if self.kind.is_one_hot else values

    def to_json(self) -> dict:
        """Return a dict of plain values for `from_json`."""
        maps = [None if each is None else list(each) for each in self.maps]
        return {"method": self.method, "kind": self.kind, "maps": maps}

    @classmethod
    def from_json(cls, values: dict) -> Calibration:
        """Return the calibration that `to_json` described."""
        maps = tuple(None if each is None else tuple(each) for each in values["maps"])
        return cls(values["method"], values["kind"], maps)


def calibrate(
    method: str, kind: Kind, probabilities: np.ndarray, targets: np.ndarray
) -> Calibration:
    """Fit a method to probabilities.

    Args:
        method: one of `METHODS[kind]`.
        kind: of the competition.
        probabilities: (n, outputs).
        targets: (n, outputs) of 0/1.

    Returns:
        The fitted map.
    """
    kind, p, y = Kind(kind), probabilities.astype(float), targets.astype(float)
    if method == "vector":
        return Calibration(method, kind, _vector(p, y))
    if kind.is_one_hot and method == "temperature":
        given = y.sum(axis=0)
        enough = given.sum() - given.max() >= ROWS
        return Calibration(method, kind, ((_class_temperature(p, y),) if enough else None,))
    least = ROWS * PARAMETERS[method]
    own = _rarer(y) >= least
    shared = None
    if not own.all() and y.shape[1] > 1 and _rarer(y.ravel()) >= least:
        shared = FITTED[method](p.ravel(), y.ravel())
    maps = [FITTED[method](p[:, k], y[:, k]) if enough else shared for k, enough in enumerate(own)]
    return Calibration(method, kind, tuple(maps))


def common_temperature(kind: Kind, probabilities: np.ndarray, targets: np.ndarray) -> float:
    """Return one temperature for all outputs: above 1 if they are overconfident."""
    if kind.is_one_hot:
        return _class_temperature(probabilities.astype(float), targets.astype(float))
    return _temperature(probabilities.astype(float).ravel(), targets.astype(float).ravel())[0]


def _rarer(targets: np.ndarray) -> np.ndarray:
    positives = targets.sum(axis=0)
    return np.minimum(positives, len(targets) - positives)


def _logit(p: np.ndarray) -> np.ndarray:
    return logit(np.clip(p, CERTAIN, 1 - CERTAIN))


def _logs(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, CERTAIN))


# --- temperature ------------------------------------------------------------------------------


def _root(slope: Callable[[float], float]) -> float:
    """Return the temperature at the root of a rising slope of the loss by 1 / T, or the nearer bound."""
    low, high = 1 / HOTTEST, HOTTEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return 1 / HOTTEST
    # The loss is convex in 1 / T, not in T.
    return float(1 / brentq(slope, low, high, xtol=1e-13))


def _temperature(p: np.ndarray, y: np.ndarray) -> tuple[float]:
    z = _logit(p)
    return (_root(lambda inverse: float(np.mean(z * (expit(z * inverse) - y)))),)


def _class_temperature(p: np.ndarray, y: np.ndarray) -> float:
    z = _logs(p)
    return _root(lambda inverse: float(np.mean((z * (softmax(z * inverse, axis=1) - y)).sum(1))))


def temper(kind: Kind, probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (n, outputs) at another temperature: below 1 they are more confident."""
    if temperature == 1:
        return probabilities
    if kind.is_one_hot:
        return softmax(_logs(probabilities) / temperature, axis=1)
    return expit(_logit(probabilities) / temperature)


def matching_temperature(kind: Kind, mean: np.ndarray, parts: Sequence[np.ndarray]) -> float:
    """Return the temperature at which a mean has the average entropy of its parts; (n, outputs) each.

    Entropy is concave, so a mean has more of it: the temperature is 1 at most. Means of calibrated
    predictions are underconfident (Rahaman & Thiery 2021, "Uncertainty quantification and deep
    ensembles").
    """
    wanted = np.mean([_entropy(kind, part) for part in parts])

    def above(temperature: float) -> float:
        return _entropy(kind, temper(kind, mean, temperature)) - wanted

    if above(1.0) <= 0:
        return 1.0
    coldest = 1 / HOTTEST
    return coldest if above(coldest) >= 0 else float(brentq(above, coldest, 1.0, xtol=1e-12))


def _entropy(kind: Kind, probabilities: np.ndarray) -> float:
    """Return the mean over rows of the entropy summed over outputs."""
    nats = entr(probabilities)
    if not kind.is_one_hot:
        nats = nats + entr(1 - probabilities)
    return float(nats.sum(axis=1).mean())


# --- maps of a column -------------------------------------------------------------------------


def _minimise(
    features: np.ndarray, y: np.ndarray, start: tuple[float, ...], lowest: tuple[float, ...]
) -> tuple[float, ...]:
    """Return (k,) coefficients of a logistic regression of y (n,) on features (k, n), in bounds."""

    def loss(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        # BLAS sums depend on the number of threads.
        z = np.einsum("kn,k->n", features, coefficients)
        value = -np.mean(y * log_expit(z) + (1 - y) * log_expit(-z))
        return value, np.einsum("kn,n->k", features, expit(z) - y) / len(y)

    found = minimize(
        loss,
        np.array(start),
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, FARTHEST) for low in lowest],
        options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
    )
    return tuple(found.x.tolist())


def _platt(p: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    positives = y.sum()
    smooth = np.where(y > 0, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    features = np.stack([_logit(p), np.ones(len(p))])
    return _minimise(features, smooth, (1.0, 0.0), (-FARTHEST, -FARTHEST))


def _beta(p: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    clipped = np.clip(p, CERTAIN, 1 - CERTAIN)
    features = np.stack([np.log(clipped), -np.log1p(-clipped), np.ones(len(p))])
    return _minimise(features, y, (1.0, 1.0, 0.0), (0.0, 0.0, -FARTHEST))


def _isotonic(p: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
    # len(y) rows cannot show that there is no exception.
    edge = 1 / (len(y) + 2)
    steps = np.clip(fitted.y_thresholds_, edge, 1 - edge)
    return (*fitted.X_thresholds_.tolist(), *steps.tolist())


def _apply_beta(p: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    clipped = np.clip(p, CERTAIN, 1 - CERTAIN)
    return expit(a * np.log(clipped) - b * np.log1p(-clipped) + c)


def _apply_isotonic(p: np.ndarray, *points: float) -> np.ndarray:
    return np.interp(p, *np.array(points).reshape(2, -1))


FITTED: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, ...]]] = {
    "temperature": _temperature,
    "platt": _platt,
    "beta": _beta,
    "isotonic": _isotonic,
}
APPLIED: dict[str, Callable[..., np.ndarray]] = {
    "temperature": lambda p, t: temper(Kind.BINARY, p, t),
    "platt": lambda p, a, b: expit(a * _logit(p) + b),
    "beta": _apply_beta,
    "isotonic": _apply_isotonic,
}


# --- vector scaling ---------------------------------------------------------------------------


def _vector(p: np.ndarray, y: np.ndarray) -> tuple[Map, ...]:
    """Return (w, b) per class; all rare classes share one pair."""
    n, classes = y.shape
    given = y.sum(axis=0)
    if n - given.max() < ROWS * PARAMETERS["vector"]:
        return (None,) * classes
    own = given >= ROWS * PARAMETERS["vector"]
    group = np.where(own, np.cumsum(own) - 1, own.sum())
    groups, z = int(group.max()) + 1, _logs(p)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = parameters.reshape(2, -1)[:, group]
        logs = log_softmax(z * weights + biases, axis=1)
        off = (np.exp(logs) - y) / n
        by_class = (np.einsum("nk,nk->k", off, z), off.sum(axis=0))
        gradient = [np.bincount(group, each, minlength=groups) for each in by_class]
        return -float((logs * y).sum()) / n, np.concatenate(gradient)

    found = minimize(
        loss,
        np.repeat([1.0, 0.0], groups),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, FARTHEST)] * groups + [(-FARTHEST, FARTHEST)] * groups,
        options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
    )
    weights, biases = found.x.reshape(2, -1)[:, group]
    return tuple(zip(weights.tolist(), biases.tolist(), strict=True))
