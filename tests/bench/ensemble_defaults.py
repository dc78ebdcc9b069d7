"""What three defaults of the ensemble are worth on fresh rows, in made-up competitions.

    python tests/bench/ensemble_defaults.py [--competitions 180] [--rows 600] [--fresh 10000] [--jobs 2]

Documents as in `simulations.py`, one trained model in each competition. Labels are submitted, so a rule
is fitted on out-of-fold predictions and applied to the mean of five models' predictions of fresh rows:

- which family of rules is taken: none (`default`), always `fitted`, the simplest within one standard
  error of the best (as among candidates), or the metric's own family unless another is clearly better
  (`ours`);
- what `ours` gains by giving the mean the sharpness of single models (`match_sharpness`).

Then two models, one of them made sharper by a temperature: what calibrating both before their mean
gains, by how far they are apart (`calibrated.APART`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from simulations import FOLDS, WORDS, draw, fitted_probabilities, models, ranks
from sklearn.model_selection import KFold

from foldstack.ensemble import BlendOptions, Members, blend
from foldstack.ensemble.calibration import common_temperature, matching_temperature, temper
from foldstack.ensemble.choice import compare
from foldstack.ensemble.decide import families
from foldstack.metrics import Metric, get
from foldstack.progress import Progress, table

SHAPES = [
    ("binary", "f1", 1),
    ("binary", "accuracy", 1),
    ("multiclass", "f1_macro", 4),
    ("multilabel", "f1_macro", 5),
    ("multilabel", "f1_micro", 5),
    ("multilabel", "f1_samples", 5),
]
ALONE = ("bayes", "linear", "trees")
APART = (1.0, 1.25, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Trained:
    """Out-of-fold (n, outputs) and fresh (folds, f, outputs) probabilities, with the targets."""

    targets: np.ndarray
    folds: np.ndarray
    oof: np.ndarray
    fresh_targets: np.ndarray
    fresh: np.ndarray


def trained(seed: int, name: str, kind: str, labels: int, rows: int, fresh_rows: int) -> Trained:
    rng = np.random.default_rng(seed)
    words = rng.normal(0, 0.45, (labels, WORDS)) * (rng.random((labels, WORDS)) < 0.3)
    x, targets = draw(rng, rows, kind, labels, words)
    fresh_x, fresh_targets = draw(rng, fresh_rows, kind, labels, words)
    folds, oof, fresh = np.zeros(rows, int), np.zeros((rows, labels)), []
    for fold, (learned, held) in enumerate(KFold(FOLDS, shuffle=True, random_state=seed).split(x)):
        of_held, of_fresh = fitted_probabilities(
            models(seed)[name], kind, x[learned], targets[learned], x[held], fresh_x
        )
        folds[held], oof[held] = fold, of_held
        fresh.append(of_fresh)
    return Trained(targets, folds, oof, fresh_targets, np.stack(fresh))


# --- rules ------------------------------------------------------------------------------------


def of_rules(seed: int, rows: int, fresh_rows: int) -> tuple[str, dict[str, float]]:
    """The metric's name, and how much better on fresh rows than the default rule each choice is."""
    kind, name, labels = SHAPES[seed % len(SHAPES)]
    metric = get(name, kind)
    made = trained(seed, ALONE[seed // len(SHAPES) % 3], kind, labels, rows, fresh_rows)
    mean = made.fresh.mean(axis=0)
    members = Members(
        ["model"], made.oof[:, None], ranks(made.oof)[:, None], mean[:, None], ranks(mean)[:, None],
        made.targets, made.folds, np.arange(rows), kind,
    )  # fmt: skip

    def chosen(rules: tuple[str, ...] | None):
        given = {} if rules is None else {"rules": rules}
        options = BlendOptions(methods=(), calibration="none", seed=seed, **given)
        return blend(members, metric, wants_labels=True, options=options)

    def fresh(decided: np.ndarray) -> float:
        return metric.signed(made.fresh_targets, decided)

    by_family = {family: chosen((family,)) for family in families(kind, metric)}
    ours = chosen(None)
    simplest = by_family[_simplest(metric, made, list(by_family), by_family, seed)]
    matched = temper(kind, mean, matching_temperature(kind, mean, made.fresh))
    plain = fresh(by_family["default"].test_decisions)
    return f"{kind} {name}", {
        "fitted": fresh(by_family["fitted"].test_decisions) - plain,
        "simplest": fresh(simplest.test_decisions) - plain,
        "ours": fresh(ours.test_decisions) - plain,
        "ours, matched": fresh(ours.rule.apply(matched)) - plain,
        "gain by matching": fresh(ours.rule.apply(matched)) - fresh(ours.test_decisions),
    }


def _simplest(metric: Metric, made: Trained, names: list[str], results: dict, seed: int) -> str:
    """The first family, from the simplest on, whose nested score is within an error of the best."""
    decided = [results[name].nested_predictions for name in names]
    found = compare(metric, made.targets, decided, np.arange(len(made.targets)), seed=seed)
    return names[int((found.worse_by <= found.errors).argmax())]


# --- sharpness --------------------------------------------------------------------------------


def of_sharpness(seed: int, rows: int, fresh_rows: int) -> tuple[str, dict[str, float]]:
    """For each factor that the second model is sharper by: what calibrated means gain in AUC.

    Both are calibrated on the fresh rows to begin with, so that a factor of 1 shows what it costs to
    find temperatures on few out-of-fold rows where none is wanted.
    """
    metric = get("roc_auc", "binary")
    first, second = (
        _calibrated(trained(seed, name, "binary", 1, rows, fresh_rows))
        for name in ("linear", "trees")
    )

    def score(*members: Trained) -> float:
        return metric.signed(first.fresh_targets, np.mean([m.fresh for m in members], axis=(0, 1)))

    gains = {}
    for ratio in APART:
        members = (first, _tempered(second, 1 / ratio))
        found = [_tempered(m, common_temperature("binary", m.oof, m.targets)) for m in members]
        gains[f"{ratio:g}"] = score(*found) - score(*members)
    return "roc_auc", gains


def _calibrated(made: Trained) -> Trained:
    truth = common_temperature(
        "binary", np.concatenate(made.fresh), np.tile(made.fresh_targets, (FOLDS, 1))
    )
    return _tempered(made, truth)


def _tempered(made: Trained, by: float) -> Trained:
    fresh = np.stack([temper("binary", each, by) for each in made.fresh])
    return replace(made, oof=temper("binary", made.oof, by), fresh=fresh)


# ----------------------------------------------------------------------------------------------


def simulated(of: Callable, what: str, args: argparse.Namespace) -> str:
    found: dict[str, list[dict[str, float]]] = {}
    n = args.competitions
    with ProcessPoolExecutor(args.jobs) as pool, Progress(what, n, "competitions") as progress:
        for name, gains in pool.map(of, range(n), [args.rows] * n, [args.fresh] * n):
            found.setdefault(name, []).append(gains)
            progress.add(1)
    if len(found) > 1:
        found["all"] = [gains for each in found.values() for gains in each]
    columns = list(found[next(iter(found))][0])
    lines = [
        [name, str(len(gains)), *(_mean([g[column] for g in gains]) for column in columns)]
        for name, gains in found.items()
    ]
    return table([what, "n", *columns], lines)


def _mean(values: list[float]) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):+.4f} ± {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--competitions", type=int, default=180)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--fresh", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    print(simulated(of_rules, "better than the default rule by", args))
    print(simulated(of_sharpness, "calibrated means gain, models apart by", args))


if __name__ == "__main__":
    main()
