"""False alarms of `make compare`: models of which neither is better, compared on made-up rows.

    PYTHONPATH=tests/bench python -m simulated.compare [--draws 400] [--jobs 2] [--kinds stable]

Two models are trained five-fold with 1 to 5 seeds each. The expectation of their difference is 0 over
rows and seeds, so that a 95 % interval should exclude 0 in 5 % of the draws.

- stable: ridge regression of bootstrapped rows
- unstable: ridge regression of few random features, other ones in every run
- unstable by seed: the same random features in all folds of a seed
- skill by seed: runs add noise to a true score, a seed more or less of it in all its folds
- one recipe: the same under two names, with other random numbers
- one recipe, shared seeds: equal seeds have most of their noise in common
- two recipes: exchangeable ones, which see other features of the same rows
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest

from foldstack.ensemble import paired_difference
from foldstack.ensemble.optimism import difference_variance_ratio
from foldstack.links import within_run_ranks
from foldstack.metrics import get
from foldstack.progress import Progress, table
from simulated import Draw

FOLDS = 5
ROWS = 600
TEST_ROWS = 300
FEATURES = 20
HIDDEN = 40
SEEDS = (1, 2, 3, 5)
METRIC = get("roc_auc", "binary")

# From training rows and labels, rows to predict and a random generator to scores.
Learner = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """Two models on the same labelled rows.

    Attributes:
        targets: (n, 1).
        a, b: an out-of-fold prediction (n, 1) per seed.
        tests: of each model (seeds, folds, t, 1) ranks of test rows within each run; empty if it
            learns nothing.
    """

    targets: np.ndarray
    a: list[np.ndarray]
    b: list[np.ndarray]
    tests: list[np.ndarray] = field(default_factory=list)

    def variance_ratio(self, seeds: int) -> float:
        if not self.tests:
            return 1.0
        return difference_variance_ratio(*(test[:seeds].mean(axis=0) for test in self.tests))


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
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 1) scores, and ranks of the test rows by each run, (folds, t, 1).

    x: (n + t, features) training and test rows. shared: the runs of all folds start from the same
    random state.
    """
    n = len(y)
    x, test = x[:n], x[n:]
    scores, ranks = np.empty((n, 1)), []
    for fold in range(FOLDS):
        rng = np.random.default_rng(seed if shared else [*seed, fold])
        learned, held = folds != fold, folds == fold
        predicted = learner(x[learned], y[learned], np.concatenate([x[held], test]), rng)[:, None]
        scores[held] = predicted[: -len(test)]
        ranks.append(within_run_ranks(predicted[-len(test) :]))
    return scores, np.stack(ranks)


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
    x = rng.normal(size=(rows + TEST_ROWS, FEATURES))
    halves = np.split(rng.normal(size=FEATURES), 2)
    weights = np.concatenate([1.3 * half / np.linalg.norm(half) for half in halves])
    y = (rng.random(rows) < expit(x[:rows] @ weights)).astype(float)
    folds = rng.permutation(rows) % FOLDS
    views = np.split(x, 2, axis=1) if two else (x, x)
    a, b = (
        zip(
            *(
                out_of_fold(learner, view, y, folds, [seed, m, s], shared)
                for s in range(max(SEEDS))
            ),
            strict=True,
        )
        for m, view in enumerate(views)
    )
    (oof_a, tests_a), (oof_b, tests_b) = a, b
    return Pair(y[:, None], list(oof_a), list(oof_b), [np.stack(tests_a), np.stack(tests_b)])


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
    found = paired_difference(
        METRIC,
        made.targets,
        made.a[:seeds],
        made.b[:seeds],
        rows,
        seed,
        made.variance_ratio(seeds),
    )
    return Draw(found.difference, 0.0, found.low, found.high, found.standard_error)


def _draws(kind: str, seed: int) -> list[Draw]:
    """Return one draw for each number of seeds."""
    return [draw(seed, kind, seeds) for seeds in SEEDS]


def line(kind: str, seeds: int, draws: list[Draw]) -> list[str]:
    alarms = [not each.covers for each in draws]
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
    parser.add_argument("--kinds", default="", help="only kinds with this in their name")
    a = parser.parse_args()
    kinds = [kind for kind in PAIRS if a.kinds in kind]
    lines = []
    with (
        ProcessPoolExecutor(a.jobs) as pool,
        Progress("simulating", a.draws * len(kinds), "") as progress,
    ):
        for kind in kinds:
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
