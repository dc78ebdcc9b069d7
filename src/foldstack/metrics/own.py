"""Metrics of the user's own, `metrics.py:NAME`."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from foldstack.errors import InputError, Interrupted, cut, nearest
from foldstack.kinds import Kind
from foldstack.metrics.metric import Metric, Scorer


def own_metric(name: str, kind: Kind, root: Path | None) -> Metric:
    """Return the metric that `get` describes under metrics.py:NAME."""
    form = re.fullmatch(r"metrics\.py:([^\W\d]\w*)", name)
    if form is None:
        raise InputError(
            f"metric '{name}' is not of the form metrics.py:NAME, where NAME is a function in the "
            "workspace's metrics.py"
        )
    if root is None:
        raise ValueError(f"metric '{name}' requires the workspace's root")
    path = root / "metrics.py"
    function = _own_function(path, form[1])
    wants, greater_is_better = _own_attributes(path, function, form[1], kind)
    weighted, reads = _own_parameters(path, function, form[1])
    scorer = _own_scorer(path, function, form[1], weighted)
    bounds = (-np.inf, np.inf)
    return Metric(name, frozenset([kind]), wants, greater_is_better, bounds, scorer, reads=reads)


def _own_function(path: Path, name: str) -> Callable:
    if not path.is_file():
        raise InputError(
            f"{path}: the file is missing: metric 'metrics.py:{name}' expects it to hold "
            f"`def {name}(targets, predictions)`"
        )
    module = _run(path)
    function = getattr(module, name, None)
    if not callable(function):
        own = [
            other
            for other, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        remedy = nearest(name, own) if own else f"write `def {name}(targets, predictions)`"
        raise InputError(f"{path}: there is no function '{name}': {remedy}")
    return function


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("workspace_metrics", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    try:
        # Compiled here, and not by the loader, whose cache in __pycache__ misses an edit within the
        # same second that keeps the size, and litters the workspace.
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        exec(code, vars(module))
    except (Interrupted, MemoryError):  # no fault of the file
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{path}: the file does not import ({what}): fix it") from error
    return module


def _own_attributes(path: Path, function: Callable, name: str, kind: Kind) -> tuple[str, bool]:
    """Return (wants, greater_is_better) of the user's function; reject misspelt attributes."""
    for key in vars(function) if inspect.isfunction(function) else ():
        if key not in ("wants", "greater_is_better") and not key.startswith("_"):
            known = nearest(key, ("wants", "greater_is_better"))
            raise InputError(f"{path}: {name}.{key} is not an attribute of a metric: {known}")
    valid = ("value", "ranking") if kind.is_values else ("probability", "ranking", "labels")
    wants = getattr(function, "wants", valid[0])
    if wants not in valid:
        raise InputError(
            f"{path}: {name}.wants is {wants!r}: for kind {kind} it is one of {', '.join(valid)}"
        )
    greater_is_better = getattr(function, "greater_is_better", True)
    if not isinstance(greater_is_better, bool):
        raise InputError(
            f"{path}: {name}.greater_is_better is {greater_is_better!r}: it is True or False"
        )
    return wants, greater_is_better


def _own_parameters(path: Path, function: Callable, name: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether the user's function takes weights, and the columns of the rows that it takes.

    Columns are its other parameters without a default.
    """
    try:
        parameters = inspect.signature(function).parameters
        asked = [
            key
            for key, each in list(parameters.items())[2:]
            if each.default is each.empty
            and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        weighted = "weights" in parameters
        reads = tuple(key for key in asked if key != "weights")
        given = dict.fromkeys((*reads, "weights") if weighted else reads, 0)
        inspect.signature(function).bind(0, 0, **given)
    except (TypeError, ValueError):  # It takes other arguments, or, written in C, does not tell.
        raise InputError(
            f"{path}: function '{name}' must take (targets, predictions), and may take `weights` and "
            "columns of the training file by their names"
        ) from None
    return weighted, reads


def _own_scorer(path: Path, function: Callable, name: str, weighted: bool) -> Scorer:
    def score(
        targets: np.ndarray,
        predictions: np.ndarray,
        weights: np.ndarray,
        cells: pd.DataFrame | None = None,
    ) -> float:
        # Copies both ways, since a function may modify its arguments.
        arrays = [x[:, 0] if x.shape[1] == 1 else x for x in (targets, predictions)]
        beside = {} if cells is None else {key: cells[key].to_numpy() for key in cells}
        times = np.ones(len(targets), int) if weighted else _times(path, name, weights)
        arrays = [np.repeat(x, times, axis=0) for x in arrays]
        beside = {key: np.repeat(x, times) for key, x in beside.items()}
        if weighted:
            beside["weights"] = weights.copy()
        value = _called(path, function, name, arrays, beside)
        if not isinstance(value, Real):
            raise InputError(
                f"{path}: {name} returned a value of type {type(value).__name__}: a metric "
                "returns a number"
            )
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{path}: {name} returned a number too large for a score") from None

    return score


def _called(
    path: Path, function: Callable, name: str, arrays: list[np.ndarray], given: dict
) -> object:
    """Call the user's function; raise InputError with its error, or if it exits."""
    try:
        return function(*arrays, **given)
    except (Interrupted, MemoryError):  # no fault of the function
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: {name} failed ({_reason(error, path)}): fix it") from error


def _reason(error: BaseException, path: Path) -> str:
    """Return an error of the user's code on one line, with the line number in that code if known."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    what = cut(f"{type(error).__name__}: {error}".strip(": "))
    return f"{what}, line {lines[-1]}" if lines else what


def _times(path: Path, name: str, weights: np.ndarray) -> np.ndarray:
    times = weights.astype(int)
    if (times != weights).any():
        raise InputError(
            f"{path}: {name} takes no row weights, and these are not whole numbers, for which "
            "rows are repeated: give it a third parameter `weights`"
        )
    return times
