"""How far probabilities are from what they say: reliability curves and their summaries.

What is looked at are curves of a confidence and whether it came true: of two classes the positive
one's probability, of several labels each label's, of classes the most probable one's (Guo et al.
2017).
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
        log_loss: as the metric of that name. brier: the mean squared difference, of classes summed
        over them (Brier 1950), of labels their mean. ece: expected calibration error, the mean over
        rows of the distance between a bin's mean confidence and how often it came true, in `BINS`
        bins that hold equally many rows but for ties (Nixon et al. 2019, "Measuring calibration in
        deep learning"); ece_width: in bins of equal width (Guo et al. 2017). Of labels, means.
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
    """Expected calibration error; strategy is 'quantile' or 'uniform', as `bins` takes it."""
    errors = []
    for confidence, came_true in curves(kind, targets, probabilities):
        rows, said, found = bins(confidence, came_true, strategy)
        errors.append(float((rows * np.abs(said - found)).sum() / rows.sum()))
    return float(np.mean(errors))


def table(
    kind: Kind, targets: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """The reliability curves in bins of equally many rows.

    Columns output (of `names`, of two classes the last one, of classes 'most probable'), rows,
    probability (the bin's mean) and rate (how often it came true).
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
    """(confidence, came true), (n,) each, of each curve."""
    if not kind.is_one_hot:
        return list(zip(probabilities.T, targets.T, strict=True))
    best = probabilities.argmax(axis=1)[:, None]
    return [tuple(np.take_along_axis(x, best, axis=1)[:, 0] for x in (probabilities, targets))]


def bins(
    confidence: np.ndarray, came_true: np.ndarray, strategy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, mean confidence, rate) of each bin that has rows, ascending.

    The bins are those of scikit-learn's calibration_curve, which does not tell how many rows they
    have.
    """
    levels = np.linspace(0, 1, BINS + 1)
    edges = np.quantile(confidence, levels) if strategy == "quantile" else levels
    which = np.searchsorted(edges[1:-1], confidence)
    rows, said, found = (
        np.bincount(which, weights, minlength=BINS) for weights in (None, confidence, came_true)
    )
    some = rows > 0
    return rows[some], said[some] / rows[some], found[some] / rows[some]
