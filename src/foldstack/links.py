"""From raw outputs to what is blended: probabilities through the link, ranks within a run."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax
from scipy.stats import rankdata


def to_probabilities(raw: np.ndarray, link: str) -> np.ndarray:
    """(n, outputs) raw outputs through 'sigmoid', 'softmax' or 'identity', in float64."""
    raw = raw.astype(np.float64)
    if link == "identity":
        return raw
    return expit(raw) if link == "sigmoid" else softmax(raw, axis=1)


def within_run_ranks(values: np.ndarray) -> np.ndarray:
    """(n, outputs) average ranks scaled to (0, 1]: one run's predictions among themselves."""
    return rankdata(values, axis=0) / len(values)
