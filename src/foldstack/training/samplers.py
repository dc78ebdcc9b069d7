"""Which training rows an epoch learns from, and how often each: as many rows in every epoch."""

from __future__ import annotations

import numpy as np

from foldstack import techniques

SALT = 1  # keeps these draws apart from those of the batches


def sampled_rows(
    settings: techniques.Sampling,
    targets: np.ndarray,
    difficulty: np.ndarray | None,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """Row numbers of an epoch (from 0), some repeated, some left out; they depend on seed and epoch.

    targets: (n, outputs), see `classes_of`. difficulty: (n,) losses, for `hard`. Within a class each row
    comes equally often but for one time, and which ones come once more is drawn.
    """
    rng = np.random.default_rng([seed, epoch, SALT])
    return settings.load()(settings, targets, difficulty, rng)


def hard_rows(
    settings: techniques.Hard,
    targets: np.ndarray,
    difficulty: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    return _as_often(difficulty**settings.exponent, len(targets), rng)


def power_rows(
    settings: techniques.Power, targets: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    classes, counts = _counted(targets)
    shares = np.where(counts > 0, counts.astype(float) ** settings.exponent, 0)
    return _drawn(classes, _rounded(shares, counts.sum()), rng)


def oversampled_rows(
    settings: techniques.Oversample, targets: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    classes, counts = _counted(targets)
    return _drawn(classes, np.where(counts > 0, counts.max(), 0), rng)


def undersampled_rows(
    settings: techniques.Undersample, targets: np.ndarray, _: object, rng: np.random.Generator
) -> np.ndarray:
    classes, counts = _counted(targets)
    return _drawn(classes, np.where(counts > 0, counts[counts > 0].min(), 0), rng)


def smote(
    settings: techniques.Smote,
    vectors: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The (n, h) vectors, (n, outputs) targets, (n,) weights, then synthetic rows of the small classes.

    Each lies between a row and one of its nearest of the same class (Chawla et al. 2002, SMOTE), and has
    the class's mean target and weight. A class of one row has no neighbour and stays as it is.
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
    """(n,) the class of each row, from (n, outputs) targets; soft ones count by their largest part.

    One output: 0 or 1. Several labels at once: the rarest label that a row has, and one class more for
    rows without any. A row of one-hot targets has one label, so there it is the class itself.
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
    """Return (n,) the class of each row and (classes,) how many rows each has."""
    classes = classes_of(targets)
    return classes, np.bincount(classes)


def _drawn(classes: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return row numbers, `wanted[k]` of each class k that has rows."""
    present = np.unique(classes)
    drawn = [_evenly(np.flatnonzero(classes == k), wanted[k], rng) for k in present]
    return np.concatenate(drawn)


def _rounded(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in proportion to the shares that add up to `total`: the largest remainders go up."""
    exact = shares / shares.sum() * total
    whole = np.floor(exact).astype(int)
    up = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[up] += 1
    return whole


def _evenly(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of these rows, each equally often but for one time."""
    times, rest = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, times), rng.choice(rows, rest, replace=False)])


def _as_often(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` row numbers in proportion to the weights: systematic sampling, so with little chance."""
    points = (rng.random() + np.arange(count)) / count * weights.sum()
    order = rng.permutation(len(weights))
    return order[
        np.searchsorted(np.cumsum(weights[order]), points, side="right").clip(0, count - 1)
    ]
