"""Stage: is one model better than another? The paired difference, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foldstack import ensemble
from foldstack.ensemble import Difference, Members
from foldstack.errors import InputError
from foldstack.metrics import Metric
from foldstack.progress import say, table
from foldstack.records import RunRecord
from foldstack.stages.oof import check_alike, fold_runs, read_seed, reasons_of, require_runs
from foldstack.stages.train import train
from foldstack.store import Folds, RunKey
from foldstack.views.console.text import say_marks
from foldstack.workspace import Workspace


def compare(
    ws: Workspace,
    *,
    a: str | None,
    b: str | None,
    fold: str | None = None,
    seed: str | None = None,
    jobs: int = 1,
) -> None:
    """Train what is missing of `a` and of each model of `b`, then print their differences from `a`.

    Both are compared on the same folds and seeds: those asked for, or all folds and the seeds of
    competition.yaml.
    """
    if not a or not b:
        raise InputError("compare wants two models: make compare A=minilm B=roberta (or B=x,y,z)")
    first, *more = ws.choose_models(a)
    others = ws.choose_models(b)
    if more:
        raise InputError(f"A={a}: compare one model with those of B=, not {1 + len(more)} at once")
    if first in others:
        raise InputError(f"{first} stands on both sides: name another model in B=")
    whole, seeds = ws.store.read_folds(ws.competition.train), ws.choose_seeds(seed)
    folds = _choose_folds(ws, fold, whole)
    _train_missing(ws, [first, *others], folds, seed, jobs)
    runs = {name: _runs(ws, name, seeds, folds) for name in (first, *others)}
    metric, base = _by_seed(ws, first, seeds, folds)
    named = f"the {whole.count} folds" if folds is whole else f"folds {_list(folds.numbers)}"
    _print(ws, metric, first, base, seeds, folds, named)
    train_rows = ws.competition.train.take(folds.scored)
    lines = []
    for name in others:
        _, predictions = _by_seed(ws, name, seeds, folds)
        difference = ensemble.paired_difference(
            metric,
            train_rows.targets,
            predictions,
            base,
            train_rows.groups,
            ws.competition.settings.blend.seed,
        )
        mean = np.mean([metric.score(train_rows.targets, p) for p in predictions])
        lines.append([name, f"{mean:.4f}", *_cells(difference), _time(runs[name], runs[first])])
    header = [f"against {first}", metric.name, "better by [95 % interval]", "by seed", "time"]
    say(table(header, lines))
    for name, of_model in runs.items():
        say_marks(name, [], reasons_of(ws, of_model.values(), folds))


def _choose_folds(ws: Workspace, asked: str | None, folds: Folds) -> Folds:
    """Those asked for, by which alone both models are then trained and scored."""
    chosen = ws.choose_runs(asked, folds)
    if any(len(left_out) != 1 for left_out in chosen) or len(chosen) == 1:
        raise InputError(
            f"FOLD={asked}: compare wants two folds or more, each left out alone, as FOLD=0,1"
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
    """Variants that were kept by NAME= have no preset to be trained by, so they must be there."""
    presets = [name for name in names if ws.has_preset(name)]
    if presets:
        made = train(ws, model=",".join(presets), fold=_list(folds.numbers), seed=seed, jobs=jobs)
        if made.nothing_to_do:
            say(made.nothing_to_do)


def _runs(ws: Workspace, name: str, seeds: list[int], folds: Folds) -> dict[RunKey, RunRecord]:
    """A model's runs of these seeds, all made alike."""
    found = fold_runs(ws, name)
    runs = {key: found[key] for key in require_runs(ws, found, name, seeds, folds)}
    check_alike(ws, runs)
    return runs


def _by_seed(
    ws: Workspace, name: str, seeds: list[int], folds: Folds
) -> tuple[Metric, list[np.ndarray]]:
    """How the competition scores, and a model's (n, outputs) out-of-fold predictions of each seed.

    Where labels are submitted they are decisions, by rules fitted on the other folds.
    """
    competition = ws.competition
    rows = competition.train.take(folds.scored)
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


def _print(
    ws: Workspace,
    metric: Metric,
    name: str,
    predictions: list[np.ndarray],
    seeds: list[int],
    folds: Folds,
    pooled: str,
) -> None:
    targets = ws.competition.train.targets[folds.scored]
    scores = [metric.score(targets, each) for each in predictions]
    shown = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {_list(seeds)}"
    say(f"compare: {name} has {metric.name} {np.mean(scores):.4f}, pooled over {pooled}, {shown}")
    if len(seeds) == 1:
        say(
            "compare: one seed says nothing of how seeds differ; SEED=0,1,2 widens the intervals by it"
        )


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _cells(d: Difference) -> list[str]:
    """`+0.0012 [-0.0003, +0.0027]` and the differences of the seeds."""
    return [
        f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]",
        " ".join(f"{each:+.4f}" for each in d.by_seed),
    ]


def _time(runs: dict[RunKey, RunRecord], base: dict[RunKey, RunRecord]) -> str:
    """Training time as a ratio, of runs on machines alike."""
    machines = [run.machine for run in (*runs.values(), *base.values())]
    known = set.intersection(*map(set, machines))  # fewer facts matter to a linear model
    if any(machine[fact] != machines[0][fact] for machine in machines for fact in known):
        return "other machine"
    took, took_base = (sum(run.seconds for run in each.values()) for each in (runs, base))
    return f"{took / took_base:.2f}x"
