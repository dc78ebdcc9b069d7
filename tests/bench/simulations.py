"""Fifty made-up competitions: is the nested score what the procedure reaches on fresh rows?

    python tests/bench/simulations.py [--competitions 50] [--rows 600] [--fresh 10000] [--jobs 2]

Documents are drawn word by word, each label with words of its own, and a tenth of the labels is turned
round. Five models of different skill are trained on five folds and predict a fresh sample as well. The
truth is what the nested score estimates: for each fold the blend that was chosen and fitted without it,
over that fold's models, on the fresh sample, averaged over folds. Few hundred rows are easier or harder
than the fresh ones by luck, which single models tell, since nothing is fitted to them: the
mean of their scores less their truths is `luck`, and taken off in the next column. What a submission has
besides, by averaging the models of all folds and by fitting on all rows, is `bagging gain`.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier

from foldstack.ensemble import BlendOptions, Members, blend, default_rule
from foldstack.metrics import get
from foldstack.progress import Progress, table

FOLDS = 5
WORDS = 300
# Kind, metric, labels: one competition after the other.
SHAPES = [
    ("binary", "roc_auc", 1),
    ("binary", "log_loss", 1),
    ("binary", "f1", 1),
    ("multiclass", "f1_macro", 4),
    ("multilabel", "f1_macro", 5),
]


@dataclass(frozen=True)
class Outcome:
    """Of one competition, all larger-is-better: estimates less the truth, and what follows."""

    metric: str
    nested_error: float
    luck: float
    covered: bool
    optimism: float
    bagging_gain: float


def draw(rng: np.random.Generator, rows: int, kind: str, labels: int, words: np.ndarray) -> tuple:
    """(rows, WORDS) counts and (rows, outputs) targets of 0/1."""
    if kind == "multiclass":
        targets = np.eye(labels)[rng.choice(labels, rows, p=np.arange(labels, 0, -1) / 10)]
    else:
        targets = (rng.random((rows, labels)) < 0.4 / np.arange(1, labels + 1)).astype(float)
    rates = np.exp(targets @ words + words.mean(axis=0) + rng.normal(0, 0.3, (rows, 1)))
    counts = rng.poisson(12 * rates / rates.sum(axis=1, keepdims=True))
    turned = rng.random(rows) < 0.1
    targets[turned] = targets[rng.permutation(np.flatnonzero(turned))]
    return counts, targets


def models(seed: int) -> dict:
    return {
        "bayes": MultinomialNB(alpha=0.5),
        "linear": LogisticRegression(C=0.3, max_iter=300),
        "words": BernoulliNB(),
        "near": KNeighborsClassifier(25, metric="cosine"),
        "trees": ExtraTreesClassifier(60, min_samples_leaf=3, random_state=seed, n_jobs=1),
    }


def fitted_probabilities(model, kind: str, x: np.ndarray, targets: np.ndarray, *of: np.ndarray):
    """(rows, outputs) for each of the matrices."""
    if kind == "multilabel":
        model = OneVsRestClassifier(model).fit(x, targets)
        return [model.predict_proba(each) for each in of]
    model.fit(x, targets.argmax(axis=1) if kind == "multiclass" else targets[:, 0])
    return [
        model.predict_proba(each)[:, None if kind == "multiclass" else 1 :]
        .squeeze()
        .reshape(len(each), targets.shape[1])
        for each in of
    ]


def ranks(values: np.ndarray) -> np.ndarray:
    """Along the rows, scaled to (0, 1]."""
    return rankdata(values, axis=0) / len(values)


def compete(seed: int, rows: int, fresh_rows: int) -> Outcome:
    kind, name, labels = SHAPES[seed % len(SHAPES)]
    metric = get(name, kind)
    rng = np.random.default_rng(seed)
    words = rng.normal(0, 0.45, (labels, WORDS)) * (rng.random((labels, WORDS)) < 0.3)
    x, targets = draw(rng, rows, kind, labels, words)
    fresh_x, fresh_targets = draw(rng, fresh_rows, kind, labels, words)
    names = list(models(seed))
    oof = np.zeros((rows, len(names), labels))
    fresh = np.zeros((FOLDS, fresh_rows, len(names), labels))
    folds = np.zeros(rows, int)
    oof_ranks = np.zeros_like(oof)
    for fold, (learned, held) in enumerate(KFold(FOLDS, shuffle=True, random_state=seed).split(x)):
        folds[held] = fold
        for m, model in enumerate(models(seed).values()):
            oof[held, m], fresh[fold, :, m] = fitted_probabilities(
                model, kind, x[learned], targets[learned], x[held], fresh_x
            )
        oof_ranks[held] = ranks(oof[held])
    fresh_ranks = np.stack([ranks(each) for each in fresh])
    order = np.arange(rows)
    members = Members(
        names,
        oof,
        oof_ranks,
        fresh.mean(axis=0),
        fresh_ranks.mean(axis=0),
        targets,
        folds,
        order,
        kind,
    )

    def scored(made: Members) -> tuple:
        labels_wanted = metric.wants == "labels"
        options = BlendOptions(calibration="none", seed=seed)
        result = blend(made, metric, wants_labels=labels_wanted, options=options)
        decided = result.test if result.test_decisions is None else result.test_decisions
        return result, metric.signed(fresh_targets, decided)

    truths = []
    for fold in range(FOLDS):
        others = np.flatnonzero(folds != fold)
        truths.append(scored(_taken(members, others, fresh[fold], fresh_ranks[fold]))[1])
    plain = default_rule(kind, labels).apply if metric.wants == "labels" else lambda p: p
    luck = [
        metric.signed(targets, plain(oof[:, m]))
        - np.mean([metric.signed(fresh_targets, plain(fresh[fold, :, m])) for fold in range(FOLDS)])
        for m in range(len(names))
    ]
    result, submitted = scored(members)
    truth = float(np.mean(truths))
    low, high = sorted((metric.sign * result.nested.low, metric.sign * result.nested.high))
    return Outcome(
        f"{kind} {name}",
        metric.sign * result.nested.score - truth,
        float(np.mean(luck)),
        low <= truth <= high,
        metric.sign * result.in_sample - truth,
        submitted - truth,
    )


def _taken(members: Members, rows: np.ndarray, test: np.ndarray, test_ranks: np.ndarray) -> Members:
    """These rows alone, with the test predictions of one fold's models."""
    return replace(
        members,
        probabilities=members.probabilities[rows],
        ranks=members.ranks[rows],
        targets=members.targets[rows],
        folds=members.folds[rows],
        groups=members.groups[rows],
        test_probabilities=test,
        test_ranks=test_ranks,
    )


def line(what: str, outcomes: list[Outcome]) -> list[str]:
    def mean(values: list[float]) -> str:
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        return f"{np.mean(values):+.4f} ± {error:.4f}"

    return [
        what,
        str(len(outcomes)),
        mean([o.nested_error for o in outcomes]),
        mean([o.luck for o in outcomes]),
        mean([o.nested_error - o.luck for o in outcomes]),
        f"{np.mean([o.covered for o in outcomes]):.0%}",
        mean([o.optimism for o in outcomes]),
        mean([o.bagging_gain for o in outcomes]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--competitions", type=int, default=50)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--fresh", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    outcomes = []
    with (
        ProcessPoolExecutor(a.jobs) as pool,
        Progress("simulating", a.competitions, "") as progress,
    ):
        seeds = range(a.competitions)
        n = a.competitions
        for outcome in pool.map(compete, seeds, [a.rows] * n, [a.fresh] * n):
            outcomes.append(outcome)
            progress.add(1)
    kinds = sorted({o.metric for o in outcomes})
    rows = [line(kind, [o for o in outcomes if o.metric == kind]) for kind in kinds]
    rows.append(line("all", outcomes))
    header = [
        "competition",
        "n",
        "nested less truth",
        "luck",
        "without it",
        "interval covers",
        "in-sample less truth",
        "bagging gain",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
