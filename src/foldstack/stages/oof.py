"""A model's stored runs as out-of-fold predictions of all scored rows, and test predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foldstack import config
from foldstack.defined import scored_by
from foldstack.ensemble.calibration import matching_temperature, temper
from foldstack.errors import InputError
from foldstack.records import RunIdentity, RunRecord
from foldstack.rows import evenly
from foldstack.stages.dependencies import (
    files_of,
    made_with,
    merged,
    reasons_of_rows,
    shared_reasons,
    why_stale,
)
from foldstack.stages.means import OfRuns, RunScales, is_aligned, over_runs, stored_probabilities
from foldstack.stages.run import PURPOSES
from foldstack.store import Folds, RunKey
from foldstack.workspace import Workspace

SAMPLE = 10_000  # test rows


@dataclass(frozen=True)
class OfFolds:
    """Predictions of a fold's runs for s test rows: probabilities, ranks (folds, s, outputs)."""

    probabilities: np.ndarray
    ranks: np.ndarray


@dataclass(frozen=True)
class Model:
    """The predictions of a model: means over folds, splits and seeds.

    Attributes:
        oof, oof_ranks: (n, outputs) of the scored rows.
        test, test_ranks: (t, outputs).
        seed_variance: the variance of the mean of the seeds' scores.
        runs: a digest of each run's predictions, by its name.
        optimistic: why its score may be too good.
        of_folds: what the runs of each fold alone predict for `sampled` test rows.
        temperature: the temperature that `match_confidence` applied to `test`.
    """

    name: str
    oof: np.ndarray
    oof_ranks: np.ndarray
    test: np.ndarray
    test_ranks: np.ndarray
    seed_variance: float
    runs: dict[str, str]
    optimistic: list[str]
    of_folds: OfFolds
    temperature: float = 1.0


def read_model(ws: Workspace, name: str, folds: Folds) -> Model:
    """Read a model's runs of these folds, all seeds; raise InputError if some are missing or differ."""
    found = fold_runs(ws, name)
    seeds = sorted({key.seed for key in found} or ws.competition.settings.seeds)
    runs = {key: found[key] for key in require_runs(ws, found, name, seeds, folds)}
    check_alike(ws, runs)
    stored = StoredRuns.read(ws, name, seeds, folds, runs)
    by_seed = [stored.out_of_fold(seed) for seed in seeds]
    oof, oof_ranks = (np.mean(arrays, axis=0) for arrays in zip(*by_seed, strict=True))
    return Model(
        name,
        oof,
        oof_ranks,
        stored.test(),
        stored.test_ranks(),
        seed_variance=_seed_variance(ws, folds, [oof for oof, _ in by_seed]),
        runs={
            f"seed{k.seed}/{k.run}": ws.store.content(k, "heldout") + ws.store.content(k, "test")
            for k in runs
        },
        optimistic=reasons_of(ws, runs.values(), folds),
        of_folds=stored.of_folds(sampled(len(ws.competition.test))),
    )


def sampled(rows: int) -> np.ndarray:
    """Return positions of at most SAMPLE evenly spaced rows, which suffice to see how runs differ."""
    return evenly(rows, SAMPLE)


def reasons_of(ws: Workspace, runs: Iterable[RunRecord], folds: Folds) -> list[str]:
    """Return why the runs are optimistic, by their records and by today's files and settings."""
    runs = list(runs)
    found = [why for run in runs for why in run.optimistic]
    shared = [why for run in runs for why in shared_reasons(ws, folds, tuple(run.left_out))]
    chosen = {files_of(ws, run) for run in runs}
    of_rows = [why for files in chosen for why in reasons_of_rows(ws, files)]
    return merged([*found, *of_rows, *shared])


def fold_runs(ws: Workspace, name: str) -> dict[RunKey, RunRecord]:
    """Return a model's finished runs that leave out one fold."""
    return {k: v for k, v in ws.store.runs(name).items() if len(k.left_out) == 1}


def full_runs(ws: Workspace, name: str) -> dict[RunKey, RunRecord]:
    """Return a model's finished runs on all rows.

    Raises InputError if there are none, or they are stale or unlike those that leave out one fold.
    """
    of_one_fold = {(fold,) for fold in ws.store.read_folds(ws.competition.train).numbers}
    every = ws.store.runs(name)  # earlier folds may have been more
    runs = {key: every[key] for key in every if key.left_out in {(), *of_one_fold}}
    found = {key: run for key, run in runs.items() if not key.left_out}
    if not found:
        command = f"`{ws.store.train_command(name)} FOLD=full`"
        raise InputError(f"model '{name}' has no full run: run {command}")
    check_alike(ws, runs)
    return found


def require_runs(
    ws: Workspace, runs: dict[RunKey, RunRecord], name: str, seeds: list[int], folds: Folds
) -> list[RunKey]:
    """Return the runs of all folds and these seeds.

    Args:
        ws: the workspace.
        runs: the model's finished runs.
        name: the model.
        seeds, folds: the required seeds and folds.

    Raises:
        InputError: a run is missing.
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
    """Raise InputError if a run is stale, or the runs have different settings."""
    first_key, first = next(iter(runs.items()))
    today = made_with(ws)
    for key, run in runs.items():
        stale = why_stale(ws, run, today)
        if stale:
            raise InputError(f"{key} {stale[0]}: train it again with --force (FORCE=1)")
        ours, theirs = run.identity, first.identity
        changed = config.differences(_common(theirs, ours), _common(ours, theirs))
        if changed:
            raise InputError(
                f"{first_key} and {key} were made with different settings "
                f"({'; '.join(c.removeprefix('settings.') for c in changed)}): train one "
                "of them again with --force (FORCE=1)"
            )
        if run.pretrained != first.pretrained:
            raise InputError(
                f"{first_key} and {key} began with backbones that were pretrained on different texts: "
                "train the older one again with --force (FORCE=1)"
            )


def _common(identity: RunIdentity, other: RunIdentity) -> dict[str, Any]:
    """Return the identity without the digests of dependencies, which differ from run to run.

    Of named files and folders those stay that the other one has, too: earlier versions had none of
    models' folders.
    """
    found = {k: v for k, v in identity.to_json().items() if k not in PURPOSES}
    both = (identity.named_files or {}).keys() & (other.named_files or {}).keys()
    return found | {"named_files": {s: identity.named_files[s] for s in both}}


def read_seed(ws: Workspace, name: str, seed: int, folds: Folds) -> tuple[np.ndarray, ...]:
    """Read the predictions of one seed.

    Args:
        ws: the workspace.
        name: the model.
        seed: its seed.
        folds: the folds that its runs leave out.

    Returns:
        Out-of-fold predictions and ranks (n, outputs), test predictions and ranks (t, outputs); ranks
        are taken within each run.
    """
    runs = StoredRuns.read(ws, name, [seed], folds)
    return (*runs.out_of_fold(seed), runs.test(), runs.test_ranks())


@dataclass(frozen=True)
class StoredRuns:
    """A model's stored runs of some seeds, one per fold, and their mean.

    Attributes:
        scales: by the runs' held-out predictions.
        maps: per run the function that aligns its predictions before they are pooled.
        tests: per run its (t, outputs) test predictions.
    """

    ws: Workspace
    name: str
    folds: Folds
    scales: RunScales
    maps: dict[RunKey, Callable[[np.ndarray], np.ndarray]]
    tests: OfRuns

    @classmethod
    def read(
        cls,
        ws: Workspace,
        name: str,
        seeds: Sequence[int],
        folds: Folds,
        records: dict[RunKey, RunRecord] | None = None,
    ) -> StoredRuns:
        """Read the runs' predictions.

        Args:
            ws: the workspace.
            name: the model.
            seeds, folds: those of the runs.
            records: records of the runs, where known.

        Returns:
            The runs with their predictions.

        Raises:
            InputError: see `Store.read_predictions`.
        """
        competition, records = ws.competition, records or {}
        keys = [RunKey(name, seed, (fold,)) for seed in seeds for fold in folds.numbers]
        tests = stored_probabilities(ws, keys, "test", competition.test, records)
        held: OfRuns = {}
        for key in keys:
            rows = competition.train.take(folds.held_out(key.left_out))
            held |= stored_probabilities(ws, [key], "heldout", rows, records)
        scales = RunScales(held)
        wanted = is_aligned(competition.metric, competition.settings.blend.align_runs)
        maps = scales.maps(competition.kind, wanted=wanted and _are_alike(ws, folds))
        return cls(ws, name, folds, scales, maps, tests)

    def out_of_fold(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the out-of-fold probabilities of the scored rows, and their ranks within each run."""
        folds, scored = self.folds, self.folds.scored
        oof = np.zeros(self.ws.competition.train.targets.shape)
        oof_ranks = np.zeros_like(oof)
        for fold in folds.numbers:
            key = RunKey(self.name, seed, (fold,))
            held, values = folds.held_out(key.left_out), self.scales.held[key]
            oof[held] += self.maps[key](values)  # once in each split
            oof_ranks[held] += self.scales.ranks(key, values)
        repeats = folds.held.shape[1]
        return oof[scored] / repeats, oof_ranks[scored] / repeats

    def test(self) -> np.ndarray:
        """Return the (t, outputs) mean of the runs' test probabilities."""
        return over_runs(self.tests)

    def of_folds(self, rows: np.ndarray) -> OfFolds:
        """Return what the runs that left out one fold (one of each split) predict for test rows.

        Like an out-of-fold prediction, each is a mean over seeds and splits.
        """
        by_fold: list[tuple[np.ndarray, np.ndarray]] = []
        for together in zip(*self.folds.by_split, strict=False):
            tests = {k: v[rows] for k, v in self.tests.items() if k.left_out[0] in together}
            aligned = {key: self.maps[key](values) for key, values in tests.items()}
            by_fold.append((over_runs(aligned), self.scales.mean_ranks(tests)))
        return OfFolds(*(np.stack(each) for each in zip(*by_fold, strict=True)))

    def test_ranks(self) -> np.ndarray:
        """Return the (t, outputs) mean of the ranks among each run's held-out predictions."""
        return self.scales.mean_ranks(self.tests)


def _are_alike(ws: Workspace, folds: Folds) -> bool:
    """Return whether the rows of each fold are drawn at random, so that only runs differ."""
    settings = ws.competition.settings
    drawn = settings.folds.kind in ("stratified", "kfold") and not settings.folds.file
    return drawn and not settings.group and not settings.folds.connected


def _seed_variance(ws: Workspace, folds: Folds, by_seed: list[np.ndarray]) -> float:
    """Return the variance of the mean of the seeds' scores; 0 for a single seed."""
    if len(by_seed) < 2:
        return 0.0
    targets = ws.competition.train.targets[folds.scored]
    task = replace(ws.competition.task, metric=scored_by(ws.competition, folds).metric)
    scores = [task.score_probabilities(targets, oof) for oof in by_seed]
    variance = float(np.var(scores, ddof=1) / len(scores))
    return 0.0 if np.isnan(variance) else variance


# Confidence


def match_confidence(ws: Workspace, model: Model) -> Model:
    """Return the model with its test mean tempered to the confidence of out-of-fold predictions.

    An out-of-fold prediction is a mean over seeds and splits; a test prediction is also a mean over
    folds, which is less confident. No label is used.
    """
    kind = ws.competition.kind
    rows = sampled(len(model.test))
    found = matching_temperature(kind, model.test[rows], model.of_folds.probabilities)
    return replace(model, test=temper(kind, model.test, found), temperature=found)
