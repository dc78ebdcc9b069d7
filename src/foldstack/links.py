"""Inverse links: logits to probabilities, ranks within a run, and losses per row."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit, log_softmax, logit, softmax
from scipy.stats import rankdata

TINY = 1e-7  # closer to 0 or 1, float32 barely resolves probabilities


def to_probabilities(logits: np.ndarray, link: str) -> np.ndarray:
    """Return (n, outputs) float64 probabilities of logits; values unchanged for link 'identity'."""
    logits = logits.astype(np.float64)
    if link == "identity":
        return logits
    return expit(logits) if link == "sigmoid" else softmax(logits, axis=1)


def to_logits(probabilities: np.ndarray, least: float = TINY) -> np.ndarray:
    """Return finite log odds: probabilities are clipped to [`least`, 1 - `least`], float64 allowing."""
    return logit(np.clip(probabilities, least, 1 - max(least, np.finfo(np.float64).epsneg)))


def softened(probabilities: np.ndarray, link: str, temperature: float) -> np.ndarray:
    """Return (n, outputs) the probabilities of the logits divided by the temperature; NaN stays.

    Only probabilities are needed: p^(1 / T), normalised over classes (softmax), equals the softmax of
    logits / T. Those of 0 and 1 are clipped to what float64 resolves.

    Args:
        probabilities: (n, outputs).
        link: sigmoid or softmax.
        temperature: T > 0; above 1 the probabilities come closer to each other.
    """
    least = np.finfo(np.float64).eps
    if link == "softmax":
        return softmax(np.log(np.clip(probabilities, least, 1)) / temperature, axis=1)
    return expit(to_logits(probabilities, least) / temperature)


def within_run_ranks(values: np.ndarray) -> np.ndarray:
    """Return (n, outputs) average ranks of one run's predictions, scaled to (0, 1]."""
    return rankdata(values, axis=0) / len(values)


def row_losses(logits: np.ndarray, targets: np.ndarray, link: str) -> np.ndarray:
    """Return (n,) losses per row: cross-entropy, averaged over labels; squared error for 'identity'.

    logits (values for 'identity') and targets: (n, outputs); soft targets are allowed.
    """
    logits = logits.astype(np.float64)
    if link == "identity":
        return ((logits - targets) ** 2).mean(axis=1)
    if link == "softmax":
        return -(targets * log_softmax(logits, axis=1)).sum(axis=1)
    return -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).mean(axis=1)
