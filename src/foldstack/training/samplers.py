"""Sampling of the rows that an epoch learns from; their number is the same in all epochs."""

from __future__ import annotations

import numpy as np

from foldstack import techniques

SALT = 1  # separates this random stream from that of the batches


def sampled_rows(
    settings: techniques.Sampling,
    targets: np.ndarray,
    difficulty: np.ndarray | None,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Return the row numbers of an epoch; rows may repeat or be left out.

    Rows of one class occur equally often, up to one time; which ones occur once more is random.

    Args:
        settings: of the sampling.
        targets: (n, outputs), see `classes_of`.
        difficulty: (n,) losses, for `hard`.
        seed: of the sampling.
        epoch: from 0.
    """
    rng = np.random.default_rng([seed, epoch, SALT])
    return settings.load()(settings, targets, difficulty, rng)


def hard_rows(
    settings: techniques.Hard,
    targets: np.ndarray,
    difficulty: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return n row numbers in proportion to the losses raised to the exponent.

    Args:
        settings: the exponent.
        targets: (n, outputs).
        difficulty: (n,) losses.
        rng: random generator.
    """
    return _as_often(difficulty**settings.exponent, len(targets), rng)


def power_rows(
    settings: techniques.Power, targets: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    """Return n row numbers, a class in proportion to its size raised to the exponent.

    Args: see `hard_rows`.
    """
    classes, counts = _counted(targets)
    shares = np.where(counts > 0, counts.astype(float) ** settings.exponent, 0)
    return _drawn(classes, _rounded(shares, counts.sum()), rng)


def oversampled_rows(
    settings: techniques.Oversample, targets: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    """Return row numbers with every class as often as the largest.

    Args: see `hard_rows`.
    """
    classes, counts = _counted(targets)
    return _drawn(classes, np.where(counts > 0, counts.max(), 0), rng)


def undersampled_rows(
    settings: techniques.Undersample, targets: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    """Return row numbers with every class as often as the smallest.

    Args: see `hard_rows`.
    """
    classes, counts = _counted(targets)
    return _drawn(classes, np.where(counts > 0, counts[counts > 0].min(), 0), rng)


def smote(
    settings: techniques.Smote,
    vectors: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows and, after them, synthetic rows of smaller classes (SMOTE, Chawla et al. 2002).

    Each synthetic row lies between a row and one of its nearest neighbours of the same class, and
    has the class's mean target and weight. A class of one row has no neighbour and gets none.

    Args:
        settings: number of neighbours.
        vectors: (n, h) pooled vectors.
        targets: (n, outputs).
        weights: (n,).
        seed: of the sampling.

    Returns:
        Vectors, targets and weights of m ≥ n rows.
    """
    from imblearn.over_sampling import SMOTE

    classes = classes_of(targets)
    counts = np.bincount(classes)
    small = [k for k in np.flatnonzero(counts > 1) if counts[k] < counts.max()]
    if not small:
        return vectors, targets, weights
    nearest = min(settings.neighbours, min(counts[k] for k in small) - 1)
    wanted = {int(k): int(counts.max()) for k in small}
    method = SMOTE(sampling_strategy=wanted, k_neighbors=nearest, random_state=seed)
    grown, labels = method.fit_resample(vectors, classes)
    new = labels[len(classes) :]
    means = {k: (targets[classes == k].mean(axis=0), weights[classes == k].mean()) for k in small}
    return (
        grown,
        np.concatenate([targets, np.stack([means[k][0] for k in new])]),
        np.concatenate([weights, np.array([means[k][1] for k in new])]),
    )


def classes_of(targets: np.ndarray) -> np.ndarray:
    """Return (n,) the class of each row, from (n, outputs) targets; of soft ones the largest.

    One output: 0 or 1. One-hot targets: the class. Several labels: the rarest label of the row, and
    one more class for rows without any.
    """
    if targets.shape[1] == 1:
        return (targets[:, 0] >= 0.5).astype(int)
    has = targets >= 0.5
    multiclass = np.allclose(targets.sum(axis=1), 1)
    if multiclass:
        return targets.argmax(axis=1)
    rarity = np.where(has, has.sum(axis=0), np.inf)
    return np.where(has.any(axis=1), rarity.argmin(axis=1), targets.shape[1])


def _counted(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) the class of each row and (classes,) the number of rows of each."""
    classes = classes_of(targets)
    return classes, np.bincount(classes)


def _drawn(classes: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return row numbers, `wanted[k]` of each class k that has rows."""
    present = np.unique(classes)
    drawn = [_evenly(np.flatnonzero(classes == k), wanted[k], rng) for k in present]
    return np.concatenate(drawn)


def _rounded(shares: np.ndarray, total: int) -> np.ndarray:
    """Return integers in proportion to the shares that add up to `total` (largest remainders)."""
    exact = shares / shares.sum() * total
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[up] += 1
    return whole


def _evenly(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` of these rows, each equally often up to one time."""
    times, rest = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, times), rng.choice(rows, rest, replace=False)])


def _as_often(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` row numbers in proportion to the weights, by systematic sampling."""
    points = (rng.random() + np.arange(count)) / count * weights.sum()
    order = rng.permutation(len(weights))
    return order[
        np.searchsorted(np.cumsum(weights[order]), points, side="right").clip(0, count - 1)
    ]
