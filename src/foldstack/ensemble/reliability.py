"""Calibration error of probabilities: reliability curves and their summaries.

A curve is a confidence per row and whether it came true: the probability of the positive class for
binary, each label's probability for multilabel, that of the most probable class for multiclass (Guo et
al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldstack import metrics
from foldstack.kinds import Kind

BINS = 15


def scores(kind: Kind, targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Score probabilities against targets of 0/1, (n, outputs) each; smaller is better for all.

    Returns:
        log_loss: the metric of that name. brier: the mean squared difference, summed over classes,
        averaged over labels (Brier 1950). ece: expected calibration error, the mean over rows of the
        distance between a bin's mean confidence and its observed rate, in `BINS` bins with equally
        many rows (but for ties; Nixon et al. 2019, "Measuring calibration in deep learning").
        ece_width: in bins of equal width (Guo et al. 2017). Both are averaged over labels.
    """
    squares = (targets - probabilities) ** 2
    return {
        "log_loss": metrics.get("log_loss", kind).score(targets, probabilities),
        "brier": float((squares.sum(axis=1) if kind.is_one_hot else squares).mean()),
        "ece": calibration_error(kind, targets, probabilities, "quantile"),
        "ece_width": calibration_error(kind, targets, probabilities, "uniform"),
    }


def calibration_error(
    kind: Kind, targets: np.ndarray, probabilities: np.ndarray, strategy: str
) -> float:
    """Return the expected calibration error, averaged over curves.

    Args:
        kind: not regression.
        targets: (n, outputs) of 0/1.
        probabilities: (n, outputs).
        strategy: of `bins`.

    Returns:
        The error, 0 to 1.
    """
    errors = []
    for confidence, came_true in curves(kind, targets, probabilities):
        rows, said, found = bins(confidence, came_true, strategy)
        errors.append(float((rows * np.abs(said - found)).sum() / rows.sum()))
    return float(np.mean(errors))


def table(
    kind: Kind, targets: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """Return the reliability curves in bins of equally many rows.

    Args:
        kind: not regression.
        targets: (n, outputs) of 0/1.
        probabilities: (n, outputs).
        names: of the classes or labels.

    Returns:
        Columns output (of `names`: for binary the last one, for multiclass 'most probable'), rows,
        probability (the bin's mean) and rate (the observed one).
    """
    if kind.is_one_hot:
        shown = ["most probable"]
    else:
        shown = list(names[-1:] if kind.has_positive_class else names)
    parts = []
    for name, (confidence, came_true) in zip(
        shown, curves(kind, targets, probabilities), strict=True
    ):
        rows, said, found = bins(confidence, came_true, "quantile")
        parts.append(
            pd.DataFrame({"output": name, "rows": rows, "probability": said, "rate": found})
        )
    return pd.concat(parts, ignore_index=True)


def curves(
    kind: Kind, targets: np.ndarray, probabilities: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (confidence, came true) per curve, (n,) each."""
    if not kind.is_one_hot:
        return list(zip(probabilities.T, targets.T, strict=True))
    best = probabilities.argmax(axis=1)[:, None]
    return [tuple(np.take_along_axis(x, best, axis=1)[:, 0] for x in (probabilities, targets))]


def bins(
    confidence: np.ndarray, came_true: np.ndarray, strategy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (rows, mean confidence, observed rate) of each non-empty bin, ascending.

    strategy: 'quantile' or 'uniform'. The bins are those of scikit-learn's calibration_curve, which
    does not return the number of rows.
    """
    levels = np.linspace(0, 1, BINS + 1)
    edges = np.quantile(confidence, levels) if strategy == "quantile" else levels
    which = np.searchsorted(edges[1:-1], confidence)
    rows, said, found = (
        np.bincount(which, weights, minlength=BINS) for weights in (None, confidence, came_true)
    )
    some = rows > 0
    return rows[some], said[some] / rows[some], found[some] / rows[some]
