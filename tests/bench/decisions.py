"""Thresholds for many labels: how long they take, beside grids, and what these leave on the table.

    python tests/bench/decisions.py [--rows 1000000] [--labels 65] [--compared 1]

The first table fits macro-, micro- and, on a hundredth of the rows, samples-F1 over all labels,
`exact` without shrinking. The second is of the first `--compared` labels, macro-F1, beside
scikit-learn's TunedThresholdClassifierCV and a loop over f1_score, both with the 99 thresholds .01
to .99; `gain` is by how much our objective on these rows is larger, `ratio` how many times as long
theirs takes. Labels are drawn by seed 0, with frequencies from a fifth down by Zipf's law.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import f1_score
from sklearn.model_selection import TunedThresholdClassifierCV

from foldstack.ensemble import Rule, fit_rule
from foldstack.metrics import get
from foldstack.progress import table

GRID = np.arange(1, 100) / 100


class PassesThrough(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose probability is its only column."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> PassesThrough:
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return np.column_stack([1 - x[:, 0], x[:, 0]])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return (x[:, 0] >= 0.5).astype(int)


def draw(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets of uint8 and calibrated probabilities of float32, each (rows, labels)."""
    rng = np.random.default_rng(0)
    targets, probabilities = np.empty((rows, labels), np.uint8), np.empty((rows, labels), "f4")
    for k in range(labels):
        logits = 2 * rng.standard_normal(rows, dtype="f4") - np.log(5 * (k + 1)) - 1
        probabilities[:, k] = expit(logits)
        targets[:, k] = rng.random(rows, dtype="f4") < probabilities[:, k]
    return targets, probabilities


def seconds(work: Callable) -> tuple[float, object]:
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def ours(name: str, targets: np.ndarray, probabilities: np.ndarray, **keywords) -> Rule:
    return fit_rule(get(name, "multilabel"), "multilabel", targets, probabilities, **keywords)


def tuned(targets: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """scikit-learn's thresholds, label by label."""
    found = []
    for target, column in zip(targets.T, probabilities.T, strict=True):
        model = PassesThrough().fit(column[:, None], target)
        search = TunedThresholdClassifierCV(
            model, scoring="f1", cv="prefit", refit=False, thresholds=GRID
        )
        found.append(search.fit(column[:, None], target).best_threshold_)
    return found


def grid(targets: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """The best of the grid by f1_score, label by label."""
    found = []
    for target, column in zip(targets.T, probabilities.T, strict=True):
        scores = [f1_score(target, column >= t, zero_division=0) for t in GRID]
        found.append(GRID[int(np.argmax(scores))])
    return found


def fits(targets: np.ndarray, probabilities: np.ndarray) -> list[list[str]]:
    lines = []
    for name, step in (("f1_macro", 1), ("f1_micro", 1), ("f1_samples", 100)):
        part = targets[::step], probabilities[::step]
        for what, keywords in (("shrunk", {}), ("exact", {"shrinkage": 0})):
            took, _ = seconds(lambda n=name, p=part, k=keywords: ours(n, *p, **k))
            lines.append([name, what, f"{len(part[0]):,} × {targets.shape[1]}", f"{took:.2f}"])
    return lines


def comparison(targets: np.ndarray, probabilities: np.ndarray) -> list[list[str]]:
    def score(thresholds: tuple[float, ...] | list[float]) -> float:
        decided = Rule("multilabel", tuple(thresholds)).apply(probabilities)
        return get("f1_macro", "multilabel").score(targets, decided)

    took, rule = seconds(lambda: ours("f1_macro", targets, probabilities, shrinkage=0))
    best = score(rule.thresholds)
    lines = [["ours, exact", f"{took:.3f}", "", f"{best:.6f}", ""]]
    for name, other in (("TunedThresholdClassifierCV, 99", tuned), ("f1_score, 99", grid)):
        theirs, thresholds = seconds(lambda o=other: o(targets, probabilities))
        reached = score(thresholds)
        ratio, gain = f"{theirs / took:.0f}", f"{best - reached:+.2e}"
        lines.append([name, f"{theirs:.3f}", ratio, f"{reached:.6f}", gain])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--labels", type=int, default=65)
    parser.add_argument("--compared", type=int, default=1)
    args = parser.parse_args()
    targets, probabilities = draw(args.rows, args.labels)
    print(table(["metric", "rule", "rows × labels", "seconds"], fits(targets, probabilities)))
    part = targets[:, : args.compared], probabilities[:, : args.compared]
    print(f"\nmacro-F1, {args.rows:,} × {args.compared}")
    print(table(["search", "seconds", "ratio", "objective", "gain"], comparison(*part)))


if __name__ == "__main__":
    main()
