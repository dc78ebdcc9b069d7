"""The competition's own metric: no topic may be neglected."""

import numpy as np


def mean_recall(targets, predictions, weights):
    """Return the geometric mean of the topics' recalls.

    Args:
        targets, predictions: (n, topics) of 0 and 1, in the order of `labels` in competition.yaml.
        weights: (n,) how often each row counts, as bootstrap samples have it.
    """
    rows = weights @ targets
    recalls = (weights @ (targets * predictions))[rows > 0] / rows[rows > 0]
    return float(np.prod(recalls) ** (1 / len(recalls)))


mean_recall.wants = "labels"
