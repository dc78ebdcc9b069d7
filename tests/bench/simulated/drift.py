"""Test files drawn from a shifted distribution: does the reweighted nested score reach the truth?

    python tests/bench/simulated/drift.py [--draws 400] [--rows 1500] [--jobs 2]

Documents have one of four topics and a length; labels are easier to tell in some topics, and in long
documents. Test documents have other shares of topics, or are longer. A ridge regression of word counts
is trained on five folds; the truth is the mean score of its five models on 20,000 fresh test documents.
`reweighted` is `estimate_on_test` with the weights of `drift.compare`, `plain` the same without.
`alike` draws both files from one distribution: drift should not be claimed.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from scipy.special import expit
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold

from foldstack.drift import CLAIMED, Files, compare, effective_rows
from foldstack.ensemble import estimate
from foldstack.ensemble.on_test import estimate_on_test
from foldstack.metrics import get
from foldstack.progress import Progress, table
from foldstack.rows import Rows
from simulated import Draw

FOLDS, WORDS, FRESH = 5, 200, 20_000
ROWS = 1_500
EASE = np.array([0.2, 0.4, 0.6, 0.9])  # how much a label changes the words of each topic
TRAIN = np.array([0.4, 0.3, 0.2, 0.1])


@dataclass(frozen=True)
class Shift:
    """The test file's shares of topics and mean length; training documents have 16 words."""

    topics: tuple[float, ...] = tuple(TRAIN)
    length: float = 16.0
    metric: str = "roc_auc"


SHIFTS = {
    "alike": Shift(),
    "topics": Shift((0.15, 0.2, 0.3, 0.35)),
    "topics, harder": Shift((0.7, 0.2, 0.07, 0.03)),
    "lengths": Shift(length=22.0),
    "both, accuracy": Shift((0.25, 0.25, 0.25, 0.25), 20.0, "accuracy"),
}


@dataclass(frozen=True)
class Outcome:
    """Both estimates of one competition; auc_low: the lower end of the interval of drift."""

    reweighted: Draw
    plain: Draw
    auc: float
    auc_low: float
    effective: float


def documents(
    rng: np.random.Generator, rows: int, topics: np.ndarray, length: float, words: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (rows, WORDS) counts and (rows,) labels; words: (topics, 2, WORDS) log rates by label."""
    topic = rng.choice(len(topics), rows, p=topics)
    label = (rng.random(rows) < 0.4).astype(int)
    rates = np.exp(words[topic, label])
    size = rng.poisson(length, rows) + 1
    return rng.multinomial(size, rates / rates.sum(axis=1, keepdims=True)), label


def as_rows(counts: np.ndarray, name: str) -> Rows:
    """Return unlabelled rows whose texts have the words this often."""
    n = len(counts)
    texts = [(" ".join(f"w{w:03}" for w in np.repeat(np.arange(WORDS), c)),) for c in counts]
    ids = np.array([f"{name}{i}" for i in range(n)], dtype=object)
    return Rows(ids, texts, None, np.ones(n), np.arange(n), np.full(n, "gold", dtype=object))


def outcome(seed: int, kind: str, rows: int) -> Outcome:
    """Return both estimates and the truth of one made-up competition."""
    shift, rng = SHIFTS[kind], np.random.default_rng([seed, sorted(SHIFTS).index(kind)])
    of_topic = rng.normal(0, 1, (len(TRAIN), 1, WORDS))
    words = of_topic + EASE[:, None, None] * rng.normal(0, 0.7, (1, 2, WORDS))
    x, y = documents(rng, rows, TRAIN, 16.0, words)
    topics = np.array(shift.topics)
    test, _ = documents(rng, rows // 2, topics, shift.length, words)
    fresh, fresh_y = documents(rng, FRESH, topics, shift.length, words)
    metric = get(shift.metric, "binary")
    oof, truths = np.zeros(rows), []
    for learned, held in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, y):
        model = Ridge(alpha=100.0).fit(np.log1p(x[learned]), y[learned] * 2.0 - 1)
        oof[held], of_fresh = (model.predict(np.log1p(part)) for part in (x[held], fresh))
        truths.append(metric.score(fresh_y[:, None].astype(float), shown(of_fresh, shift)))
    found = compare(
        Files.of(as_rows(x, "r"), as_rows(test, "t")), rows=50_000, clip=0.99, seed=seed
    )
    auc = estimate(
        get("roc_auc", "binary"),
        found.is_test[:, None].astype(float),
        expit(found.values)[:, None],
        found.groups,
        seed=seed,
    )
    scored = (metric, y[:, None].astype(float), shown(oof, shift), np.arange(rows))
    draws = []
    for each in (estimate_on_test(*scored, found.weights, seed=seed), estimate(*scored, seed=seed)):
        error = each.standard_error
        draws.append(Draw(each.score, float(np.mean(truths)), each.low, each.high, error))
    return Outcome(*draws, auc.score, auc.low, effective_rows(found.weights))


def estimates(kind: str, seed: int) -> dict[str, Draw]:
    """Return the reweighted and the plain estimate of one competition."""
    found = outcome(seed, kind, ROWS)
    return {"reweighted": found.reweighted, "plain": found.plain}


KINDS = {f"test file: {kind}": partial(estimates, kind) for kind in SHIFTS}


def shown(values: np.ndarray, shift: Shift) -> np.ndarray:
    """Return (n, 1) probabilities, or decisions for accuracy."""
    p = expit(values)[:, None]
    return (p > 0.5).astype(float) if shift.metric == "accuracy" else p


def line(kind: str, outcomes: list[Outcome]) -> list[str]:
    """Return the cells of one kind: bias in stated standard errors, and coverage, of both."""
    cells = [kind, str(len(outcomes)), f"{np.mean([o.auc for o in outcomes]):.3f}"]
    cells.append(f"{np.mean([o.auc_low > CLAIMED for o in outcomes]):.1%}")
    cells.append(f"{np.mean([o.auc_low > 0.5 for o in outcomes]):.1%}")
    cells.append(f"{np.mean([o.effective for o in outcomes]):.0f}")
    for name in ("reweighted", "plain"):
        draws = [getattr(o, name) for o in outcomes]
        bias = np.array([(d.estimate - d.truth) / d.standard_error for d in draws])
        error = 1.96 * bias.std(ddof=1) / np.sqrt(len(bias))
        covered = np.mean([d.covers for d in draws])
        points = np.mean([d.estimate - d.truth for d in draws])
        cells += [f"{points:+.4f}", f"{bias.mean():+.2f} ± {error:.2f}", f"{covered:.1%}"]
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(SHIFTS).replace(", ", "; "))
    a = parser.parse_args()
    kinds = [kind.replace("; ", ", ") for kind in a.kinds.split(",")]
    lines = []
    with (
        ProcessPoolExecutor(a.jobs) as pool,
        Progress("simulating", a.draws * len(kinds), "") as progress,
    ):
        for kind in kinds:
            draw = partial(outcome, kind=kind, rows=a.rows)
            outcomes = []
            for each in pool.map(draw, range(a.draws), chunksize=5):
                outcomes.append(each)
                progress.add(1)
            lines.append(line(kind, outcomes))
    header = ["test file", "n", "AUC", "claimed", "AUC > .5", "effective rows"]
    for name in ("reweighted", "plain"):
        header += [f"{name} less truth", "in standard errors", "covers"]
    print(table(header, lines))


if __name__ == "__main__":
    main()
