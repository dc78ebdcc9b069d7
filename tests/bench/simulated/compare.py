"""False alarms of `make compare`: models of which neither is better, compared on made-up rows.

    python tests/bench/simulated/compare.py [--draws 400] [--jobs 2]

Two models are trained five-fold with 1 to 5 seeds each. The expectation of their difference is 0 over
rows and seeds, so that a 95 % interval should exclude 0 in 5 % of the draws.

- stable: ridge regression of bootstrapped rows
- unstable: ridge regression of few random features, other ones in every run
- unstable by seed: the same random features in all folds of a seed
- skill by seed: runs add noise to a true score, a seed more or less of it in all its folds
- one recipe: the same under two names, with other random numbers
- one recipe, shared seeds: equal seeds have most of their noise in common
- two recipes: exchangeable ones, which see other features of the same rows. Which is better on these
  training rows is up to chance, which no interval over rows includes (Bengio and Grandvalet 2004, "No
  unbiased estimator of the variance of k-fold cross-validation"); it matters less with more rows
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest

from foldstack.ensemble import paired_difference
from foldstack.metrics import get
from foldstack.progress import Progress, table

FOLDS = 5
ROWS = 600
FEATURES = 20
HIDDEN = 40
SEEDS = (1, 2, 3, 5)
METRIC = get("roc_auc", "binary")

# From training rows and labels, rows to predict and a random generator to scores.
Learner = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Draw:
    """One estimate, larger is better, and what it estimates."""

    estimate: float
    truth: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Pair:
    """Two models, each with an out-of-fold prediction per seed, on the same labelled rows."""

    targets: np.ndarray
    a: list[np.ndarray]
    b: list[np.ndarray]


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    weights = np.linalg.solve(x.T @ x + 20 * np.eye(x.shape[1]), x.T @ (y - y.mean()))
    return new @ weights


def bagged(x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows = rng.integers(len(x), size=len(x))
    return ridge(x[rows], y[rows], new)


def random_features(
    x: np.ndarray, y: np.ndarray, new: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    weights, bias = 0.4 * rng.normal(size=(x.shape[1], HIDDEN)), rng.normal(size=HIDDEN)
    return ridge(np.tanh(x @ weights + bias), y, np.tanh(new @ weights + bias))


def out_of_fold(
    learner: Learner, x: np.ndarray, y: np.ndarray, folds: np.ndarray, seed: list[int], shared: bool
) -> np.ndarray:
    """Return (n, 1) scores. shared: the runs of all folds start from the same random state."""
    scores = np.empty((len(x), 1))
    for fold in range(FOLDS):
        rng = np.random.default_rng(seed if shared else [*seed, fold])
        learned, held = folds != fold, folds == fold
        scores[held, 0] = learner(x[learned], y[learned], x[held], rng)
    return scores


def trained(
    seed: int, learner: Learner, shared: bool = False, two: bool = False, rows: int = ROWS
) -> Pair:
    """Train two models with as many seeds as are compared at most.

    Args:
        seed: of the rows and of all that is trained.
        learner: of both models.
        shared: the runs of all folds of a seed start from the same random state.
        two: each model sees one half of the features.
        rows: the number of rows.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES))
    halves = np.split(rng.normal(size=FEATURES), 2)
    weights = np.concatenate([1.3 * half / np.linalg.norm(half) for half in halves])
    y = (rng.random(rows) < expit(x @ weights)).astype(float)
    folds = rng.permutation(rows) % FOLDS
    views = np.split(x, 2, axis=1) if two else (x, x)
    a, b = (
        [out_of_fold(learner, view, y, folds, [seed, m, s], shared) for s in range(max(SEEDS))]
        for m, view in enumerate(views)
    )
    return Pair(y[:, None], a, b)


def skilled(seed: int, shared: float = 0.0) -> Pair:
    """Return scores without learning. shared: correlation of what equal seeds draw for both models."""
    rng = np.random.default_rng(seed)
    true = 1.5 * rng.normal(size=ROWS)
    y = (rng.random(ROWS) < expit(true - 1)).astype(float)
    drawn = rng.normal(size=(2, max(SEEDS), 1 + FOLDS + ROWS))
    drawn[1] = shared * drawn[0] + np.sqrt(1 - shared**2) * drawn[1]
    whole, of_folds, noise = np.split(drawn, [1, 1 + FOLDS], axis=2)
    level = np.exp(0.15 * whole + 0.075 * of_folds[..., np.arange(ROWS) % FOLDS])
    return Pair(y[:, None], *(list(model[..., None]) for model in true + level * noise))


PAIRS: dict[str, Callable[[int], Pair]] = {
    "stable, one recipe": partial(trained, learner=bagged),
    "unstable, one recipe": partial(trained, learner=random_features),
    "unstable by seed, one recipe": partial(trained, learner=random_features, shared=True),
    "skill by seed, one recipe": skilled,
    "skill by seed, one recipe, shared seeds": partial(skilled, shared=0.9),
    "stable, two recipes": partial(trained, learner=bagged, two=True),
    "stable, two recipes, 2,400 rows": partial(trained, learner=bagged, two=True, rows=2400),
    "unstable, two recipes": partial(trained, learner=random_features, two=True),
    "unstable, two recipes, 2,400 rows": partial(
        trained, learner=random_features, two=True, rows=2400
    ),
}


@lru_cache(maxsize=1)
def pair(kind: str, seed: int) -> Pair:
    return PAIRS[kind](seed)


def draw(seed: int, kind: str, seeds: int) -> Draw:
    """Compare the two models of a kind of `PAIRS`.

    seed: of the draw; seeds: the number of training seeds of each model.
    """
    made = pair(kind, seed)
    rows = np.arange(len(made.targets))
    found = paired_difference(METRIC, made.targets, made.a[:seeds], made.b[:seeds], rows, seed)
    return Draw(found.difference, 0.0, found.low, found.high, found.standard_error)


def _draws(kind: str, seed: int) -> list[Draw]:
    """Return one draw for each number of seeds."""
    return [draw(seed, kind, seeds) for seeds in SEEDS]


def line(kind: str, seeds: int, draws: list[Draw]) -> list[str]:
    alarms = [not each.low <= each.truth <= each.high for each in draws]
    test = binomtest(sum(alarms), len(alarms)).proportion_ci(method="wilson")
    estimates = np.array([each.estimate for each in draws])
    stated = np.sqrt(np.mean([each.standard_error**2 for each in draws]))
    width = np.median([each.high - each.low for each in draws]) / 2
    return [
        kind,
        str(seeds),
        f"{np.mean(alarms):.1%} [{test.low:.1%}, {test.high:.1%}]",
        f"{estimates.std(ddof=1):.4f}",
        f"{stated:.4f}",
        f"± {width:.4f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    lines = []
    with (
        ProcessPoolExecutor(a.jobs) as pool,
        Progress("simulating", a.draws * len(PAIRS), "") as progress,
    ):
        for kind in PAIRS:
            found = []
            for draws in pool.map(partial(_draws, kind), range(a.draws)):
                found.append(draws)
                progress.add(1)
            by_seeds = zip(SEEDS, zip(*found, strict=True), strict=True)
            lines += [line(kind, seeds, list(draws)) for seeds, draws in by_seeds]
    header = ["models", "seeds", "false alarms", "spread", "stated error", "interval"]
    print(f"{a.draws} draws each, 95 % intervals of the percentages")
    print(table(header, lines))


if __name__ == "__main__":
    main()
