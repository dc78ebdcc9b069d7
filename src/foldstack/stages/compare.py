"""Stage: the paired difference between models, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from foldstack import ensemble
from foldstack.defined import scored_by
from foldstack.ensemble import Members
from foldstack.ensemble.optimism import difference_variance_ratio
from foldstack.errors import InputError
from foldstack.links import within_run_ranks
from foldstack.metrics import Metric
from foldstack.records import ComparedModel, Comparison, RunRecord
from foldstack.stages.dependencies import made_with
from foldstack.stages.means import stored_probabilities
from foldstack.stages.oof import check_alike, fold_runs, read_seed, reasons_of, require_runs
from foldstack.stages.shared import choose_compared
from foldstack.stages.train import train_missing
from foldstack.store import Folds, RunKey
from foldstack.workspace import Workspace


def compare(
    ws: Workspace,
    *,
    a: str | None,
    b: str | None,
    fold: str | None = None,
    seed: str | None = None,
    jobs: int = 0,
) -> Comparison:
    """Train missing runs, compare each model of `b` with `a`, and store the comparison.

    Args:
        ws: the workspace.
        a: the baseline.
        b: a comma list of models.
        fold: a comma list of two or more folds; None for all.
        seed: a comma list of seeds; None for those of competition.yaml.
        jobs: the number of runs to train at once; 0 for as many as cores and memory allow.

    Returns:
        The comparison, which is also written to oof/_comparisons/.

    Raises:
        InputError: the models cannot be compared, or a run cannot be trained.
    """
    first, others = _choose_models(ws, a, b)
    ws.refuse_named(ws.store.comparison_path(first, others))
    ws.store.refuse_foreign_comparison(first, others)
    whole, seeds = ws.store.read_folds(ws.competition.train), ws.choose_seeds(seed)
    folds = _choose_folds(ws, fold, whole, [first, *others])
    _train_missing(ws, [first, *others], folds, seed, jobs)
    runs = {name: _runs(ws, name, seeds, folds) for name in (first, *others)}
    metric, base = _by_seed(ws, first, seeds, folds)
    rows = [_compared(ws, name, runs, first, base, folds, seeds) for name in others]
    targets = ws.competition.train.targets[folds.scored]
    found = Comparison(
        baseline=first,
        metric=metric.name,
        score=_mean_score(metric, targets, base),
        seeds=seeds,
        folds=folds.numbers,
        folds_in_all=whole.count,
        scored_rows=len(folds.scored),
        interval_over=["rows", "seeds"] if len(seeds) > 1 else ["rows"],
        rows=rows,
        hashes=made_with(ws),
        runs={name: _digests(ws, of_model) for name, of_model in runs.items()},
        optimistic={
            name: reasons_of(ws, of_model.values(), folds) for name, of_model in runs.items()
        },
        undefined=scored_by(ws.competition, folds).undefined or None,
    )
    ws.store.write_comparison(found)
    return found


def _choose_models(ws: Workspace, a: str | None, b: str | None) -> tuple[str, list[str]]:
    """Return the baseline and the models to compare with it."""
    if not a or not b:
        raise InputError(
            "compare requires two models: make compare A=minilm B=roberta (or B=x,y,z)"
        )
    first, *more = ws.choose_models(a)
    others = ws.choose_models(b)
    if more:
        raise InputError(f"A={a}: compare one model with those of B=, not {1 + len(more)} at once")
    if first in others:
        raise InputError(f"{first} is in both A= and B=: name another model in B=")
    return first, others


def _compared(
    ws: Workspace,
    name: str,
    runs: dict[str, dict[RunKey, RunRecord]],
    first: str,
    base: list[np.ndarray],
    folds: Folds,
    seeds: list[int],
) -> ComparedModel:
    """Compare one model with the baseline.

    Args:
        runs: the runs of each model.
        first, base: the baseline, and per seed its (n, outputs) out-of-fold predictions.
        folds: the folds that are held out and scored.
    """
    train_rows = ws.competition.scored_rows(folds.scored)
    metric, predictions = _by_seed(ws, name, seeds, folds)
    difference = ensemble.paired_difference(
        metric,
        train_rows.targets,
        predictions,
        base,
        train_rows.groups,
        ws.competition.settings.blend.seed,
        _variance_ratio(ws, (name, first), seeds, folds),
    )
    return ComparedModel(
        model=name,
        score=_mean_score(metric, train_rows.targets, predictions),
        better_by=difference.difference,
        low=difference.low,
        high=difference.high,
        standard_error=difference.standard_error,
        row_error=difference.row_error,
        seed_error=difference.seed_error,
        degrees_of_freedom=difference.degrees if np.isfinite(difference.degrees) else math.nan,
        seeds_paired=difference.seeds_paired,
        by_seed=difference.by_seed.tolist(),
        time=_time(runs[name], runs[first]),
    )


def _variance_ratio(ws: Workspace, names: tuple[str, str], seeds: list[int], folds: Folds) -> float:
    """Return by how much shared training rows raise the rows' variance; 1 in time order."""
    if folds.in_time_order:  # no two runs learn from each other's held-out rows
        return 1.0
    return difference_variance_ratio(*(_test_ranks(ws, name, seeds, folds) for name in names))


def _test_ranks(ws: Workspace, name: str, seeds: list[int], folds: Folds) -> np.ndarray:
    """Return the mean over seeds of test ranks within each run, (folds, t, outputs).

    With repeated folds those of the first split.
    """
    ranks = []
    for fold in folds.by_split[0]:
        keys = [RunKey(name, seed, (fold,)) for seed in seeds]
        tests = stored_probabilities(ws, keys, "test", ws.competition.test)
        ranks.append(np.mean([within_run_ranks(test) for test in tests.values()], axis=0))
    return np.stack(ranks)


def _mean_score(metric: Metric, targets: np.ndarray, by_seed: Sequence[np.ndarray]) -> float:
    return float(np.mean([metric.score(targets, predictions) for predictions in by_seed]))


def _digests(ws: Workspace, runs: Iterable[RunKey]) -> dict[str, str]:
    return {f"seed{key.seed}/{key.run}": ws.store.content(key, "heldout") for key in runs}


def _choose_folds(ws: Workspace, asked: str | None, folds: Folds, names: list[str]) -> Folds:
    """Return the chosen folds, on which all models are trained and scored.

    Without a choice they are all folds, or those that the variants (NAME=) share, which cannot be
    trained by name.
    """
    variants = [name for name in names if not ws.has_preset(name)]
    if variants and asked in (None, "", "all"):
        return choose_compared(ws, variants, folds)
    chosen = ws.choose_runs(asked, folds)
    if any(len(left_out) != 1 for left_out in chosen) or len(chosen) == 1:
        raise InputError(
            f"FOLD={asked}: compare requires two folds or more, each left out alone, as FOLD=0,1"
        )
    if len(chosen) == folds.count:
        return folds
    if folds.splits.shape[1] > 1:
        raise InputError(
            f"FOLD={asked}: with folds.repeats a row is held out in each split: compare all folds"
        )
    return folds.only([fold for (fold,) in chosen])


def _train_missing(
    ws: Workspace, names: list[str], folds: Folds, seed: str | None, jobs: int
) -> None:
    """Train missing runs, except for variants (NAME=), which have no preset."""
    presets = [name for name in names if ws.has_preset(name)]
    if presets:
        train_missing(ws, ",".join(presets), _list(folds.numbers), seed, jobs=jobs)


def _runs(ws: Workspace, name: str, seeds: list[int], folds: Folds) -> dict[RunKey, RunRecord]:
    """Return a model's runs of these seeds; raise InputError if some are missing or differ."""
    found = fold_runs(ws, name)
    runs = {key: found[key] for key in require_runs(ws, found, name, seeds, folds)}
    check_alike(ws, runs)
    return runs


def _by_seed(
    ws: Workspace, name: str, seeds: list[int], folds: Folds
) -> tuple[Metric, list[np.ndarray]]:
    """Return the metric, and per seed a model's (n, outputs) out-of-fold predictions.

    If labels are submitted these are decisions, by rules fitted on the other folds.
    """
    competition = ws.competition
    rows = competition.scored_rows(folds.scored)
    arrays = [read_seed(ws, name, seed, folds) for seed in seeds]
    oof, ranks, test, test_ranks = (np.stack(each, axis=1) for each in zip(*arrays, strict=True))
    members = Members(
        names=[f"seed {seed}" for seed in seeds],
        probabilities=oof,
        ranks=ranks,
        test_probabilities=test,
        test_ranks=test_ranks,
        targets=rows.targets,
        folds=folds.fold[folds.scored],
        groups=rows.groups,
        kind=competition.kind,
        scored=scored_by(competition, folds).columns,
        cells=competition.metric.take(folds.scored).cells,
    )
    scored = [
        ensemble.single_predictions(
            members,
            index,
            competition.metric,
            competition.submission.wants_labels,
            competition.settings.blend.seed,
            competition.settings.blend.rules,
        )
        for index in range(len(seeds))
    ]
    return scored[0][0], [predictions for _, predictions in scored]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _time(runs: dict[RunKey, RunRecord], base: dict[RunKey, RunRecord]) -> float:
    """Return the training time as a ratio; nan if the machines differ."""
    machines = [run.machine for run in (*runs.values(), *base.values())]
    known = set.intersection(*map(set, machines))  # linear models record fewer facts
    if any(machine[fact] != machines[0][fact] for machine in machines for fact in known):
        return math.nan
    took, took_base = (sum(run.seconds for run in each.values()) for each in (runs, base))
    return took / took_base
