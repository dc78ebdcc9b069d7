"""A model's runs put together: out-of-fold predictions of all scored rows, and test predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foldstack import config
from foldstack.ensemble.alignment import KINDS, align
from foldstack.ensemble.calibration import matching_temperature, temper
from foldstack.errors import InputError
from foldstack.links import to_probabilities, within_run_ranks
from foldstack.records import RunIdentity, RunRecord
from foldstack.stages.dependencies import (
    external_reasons,
    made_with,
    merged,
    shared_reasons,
    why_stale,
)
from foldstack.stages.run import PURPOSES
from foldstack.store import Folds, Predictions, RunKey
from foldstack.workspace import Workspace


@dataclass(frozen=True)
class Model:
    """A model's complete runs: out-of-fold and test predictions, means over folds, splits and seeds.

    All arrays (rows, outputs), out-of-fold ones of `folds.scored` only; runs maps each run's name to a
    digest of its predictions; sharpness is the temperature that `match_sharpness` gave to `test`.
    """

    name: str
    oof: np.ndarray
    oof_ranks: np.ndarray
    test: np.ndarray
    test_ranks: np.ndarray
    seed_variance: float
    runs: dict[str, str]
    optimistic: list[str]
    sharpness: float = 1.0


def read_model(ws: Workspace, name: str, folds: Folds) -> Model:
    """A model's runs over all folds and seeds, or InputError saying which are missing or differ."""
    runs = fold_runs(ws, name)
    seeds = sorted({key.seed for key in runs} or ws.competition.settings.seeds)
    wanted = require_runs(ws, runs, name, seeds, folds)
    check_alike(ws, runs)
    by_seed = [read_seed(ws, name, seed, folds) for seed in seeds]
    oof, oof_ranks, test, test_ranks = (
        np.mean(arrays, axis=0) for arrays in zip(*by_seed, strict=True)
    )
    return Model(
        name,
        oof,
        oof_ranks,
        test,
        test_ranks,
        seed_variance=_seed_variance(ws, folds, [arrays[0] for arrays in by_seed]),
        runs={
            f"seed{k.seed}/{k.run}": ws.store.content(k, "heldout") + ws.store.content(k, "test")
            for k in wanted
        },
        optimistic=reasons_of(ws, runs.values(), folds),
    )


def reasons_of(ws: Workspace, runs: Iterable[RunRecord], folds: Folds) -> list[str]:
    """Return why the runs are optimistic, by what training found and by today's files and settings."""
    runs = list(runs)
    found = [why for run in runs for why in run.optimistic]
    shared = [why for run in runs for why in shared_reasons(ws, folds, tuple(run.left_out))]
    return merged([*found, *external_reasons(ws), *shared])


def fold_runs(ws: Workspace, name: str) -> dict[RunKey, RunRecord]:
    """Return a model's finished runs that leave one fold out."""
    return {k: v for k, v in ws.store.runs(name).items() if len(k.left_out) == 1}


def require_runs(
    ws: Workspace, runs: dict[RunKey, RunRecord], name: str, seeds: list[int], folds: Folds
) -> list[RunKey]:
    """Return the runs of every fold and these seeds; InputError if some are missing.

    Args:
        runs: that are there, of the model `name`.
        seeds, folds: that are required.
    """
    wanted = [RunKey(name, s, (f,)) for s in seeds for f in folds.numbers]
    missing = [key for key in wanted if key not in runs]
    if missing:
        lacking = ",".join(str(k.left_out[0]) for k in missing if k.seed == missing[0].seed)
        raise InputError(
            f"model '{name}' has no run for {missing[0].run} of seed {missing[0].seed} "
            f"({len(missing)} missing in all): run `{ws.store.train_command(name)} FOLD={lacking} "
            f"SEED={missing[0].seed}`, or leave this model out"
        )
    return wanted


def check_alike(ws: Workspace, runs: dict[RunKey, RunRecord]) -> None:
    """Raise InputError unless every run is of today's folds and rows, and all of the same settings."""
    first_key, first = next(iter(runs.items()))
    today = made_with(ws)
    for key, run in runs.items():
        stale = why_stale(ws, run, today)
        if stale:
            raise InputError(f"{key} {stale[0]}: train it again with --force (FORCE=1)")
        changed = config.differences(_common(first.identity), _common(run.identity))
        if changed:
            raise InputError(
                f"{first_key} and {key} were made with different settings "
                f"({'; '.join(c.removeprefix('settings.') for c in changed)}): train one "
                "of them again with --force (FORCE=1)"
            )


def _common(identity: RunIdentity) -> dict[str, Any]:
    """Return what runs of one model share: all but the digests of the runs that each rests on."""
    return {k: v for k, v in identity.to_json().items() if k not in PURPOSES}


def read_seed(ws: Workspace, name: str, seed: int, folds: Folds) -> tuple[np.ndarray, ...]:
    """(out-of-fold, its ranks, test, its ranks) of one seed; ranks are taken within each run."""
    train = ws.competition.train
    oof = np.zeros(train.targets.shape)
    oof_ranks = np.zeros_like(oof)
    keys, maps, tests = _seed_runs(ws, name, seed, folds)
    for key, aligned in zip(keys, maps, strict=True):
        held = folds.held_out(key.left_out)
        values = _probabilities(ws.store.read_predictions(key, "heldout", train.take(held)))
        oof[held] += aligned(values)  # once in each split
        oof_ranks[held] += within_run_ranks(values)
    repeats, scored = folds.splits.shape[1], folds.scored
    return (
        oof[scored] / repeats,
        oof_ranks[scored] / repeats,
        np.mean([aligned(t) for aligned, t in zip(maps, tests, strict=True)], axis=0),
        np.mean([within_run_ranks(t) for t in tests], axis=0),
    )


def _seed_runs(
    ws: Workspace, name: str, seed: int, folds: Folds
) -> tuple[list[RunKey], list[Callable], list[np.ndarray]]:
    """A seed's runs, one a fold: their keys, what makes each comparable, their test probabilities."""
    keys = [RunKey(name, seed, (fold,)) for fold in folds.numbers]
    read = [ws.store.read_predictions(key, "test", ws.competition.test) for key in keys]
    tests = [_probabilities(predictions) for predictions in read]
    wanted = ws.competition.settings.blend.align_runs
    return keys, alignment(ws.competition.kind, tests, wanted), tests


def alignment(kind: str, tests: Sequence[np.ndarray], wanted: bool) -> list[Callable]:
    """What makes the runs of a seed comparable, from their test predictions, where it is wanted."""
    return align(tests) if wanted and kind in KINDS else [np.asarray] * len(tests)


def _probabilities(predictions: Predictions) -> np.ndarray:
    return to_probabilities(predictions.raw, predictions.link)


def _seed_variance(ws: Workspace, folds: Folds, by_seed: list[np.ndarray]) -> float:
    """Variance of the mean of the seeds' scores; nothing can be said of one seed."""
    if len(by_seed) < 2:
        return 0.0
    task, targets = ws.competition.task, ws.competition.train.targets[folds.scored]
    scores = [task.score_probabilities(targets, oof) for oof in by_seed]
    return float(np.var(scores, ddof=1) / len(scores))


# Sharpness


def match_sharpness(ws: Workspace, model: Model, folds: Folds) -> Model:
    """The same model, its test mean as sharp as what its out-of-fold predictions are.

    An out-of-fold prediction is the mean over seeds, and over splits where there are several, of one
    run each; a test prediction is a mean over folds as well, which is less sharp. No label is asked.
    """
    names = [run.partition("/") for run in model.runs]
    seeds = sorted({int(seed.removeprefix("seed")) for seed, _, _ in names})
    of_run = {}
    for seed in seeds:
        runs = _seed_runs(ws, model.name, seed, folds)
        of_run |= {key: aligned(test) for key, aligned, test in zip(*runs, strict=True)}
    by_split = [np.unique(split[split >= 0]).tolist() for split in folds.splits.T]
    like_oof = []
    for together in zip(*by_split, strict=False):  # a fold of each split
        keys = [RunKey(model.name, seed, (fold,)) for seed in seeds for fold in together]
        like_oof.append(np.mean([of_run[key] for key in keys], axis=0))
    kind = ws.competition.kind
    found = matching_temperature(kind, model.test, like_oof)
    return replace(model, test=temper(kind, model.test, found), sharpness=found)
