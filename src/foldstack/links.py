"""From raw outputs to what is blended: probabilities through the link, ranks within a run."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit, softmax
from scipy.stats import rankdata

TINY = 1e-7  # nearer to 0 or 1 float32 hardly tells probabilities apart


def to_probabilities(raw: np.ndarray, link: str) -> np.ndarray:
    """(n, outputs) raw outputs through 'sigmoid', 'softmax' or 'identity', in float64."""
    raw = raw.astype(np.float64)
    if link == "identity":
        return raw
    return expit(raw) if link == "sigmoid" else softmax(raw, axis=1)


def to_logits(probabilities: np.ndarray, least: float = TINY) -> np.ndarray:
    """Log odds, finite: probabilities are cut at `least`, or where float64 ends below 1."""
    return logit(np.clip(probabilities, least, 1 - max(least, np.finfo(np.float64).epsneg)))


def within_run_ranks(values: np.ndarray) -> np.ndarray:
    """(n, outputs) average ranks scaled to (0, 1]: one run's predictions among themselves."""
    return rankdata(values, axis=0) / len(values)


def row_losses(raw: np.ndarray, targets: np.ndarray, link: str) -> np.ndarray:
    """(n,) loss of each row: cross-entropy, the mean over outputs or summed over classes; squared error.

    raw, targets: (n, outputs), soft targets allowed.
    """
    raw = raw.astype(np.float64)
    if link == "identity":
        return ((raw - targets) ** 2).mean(axis=1)
    if link == "softmax":
        return -(targets * log_softmax(raw, axis=1)).sum(axis=1)
    return -(targets * log_expit(raw) + (1 - targets) * log_expit(-raw)).mean(axis=1)
