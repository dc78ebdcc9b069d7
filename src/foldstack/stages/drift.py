"""Stage: how the test file differs from the training file, and which rows are most like it."""

from __future__ import annotations

import dataclasses
from contextlib import suppress

import numpy as np
import pandas as pd
from scipy.special import expit

from foldstack import config
from foldstack import drift as validation
from foldstack.defined import scored_by
from foldstack.ensemble import BlendResult
from foldstack.ensemble.estimate import estimate
from foldstack.ensemble.on_test import estimate_on_test
from foldstack.errors import InputError
from foldstack.metrics import get
from foldstack.records import (
    DriftedScore,
    DriftReason,
    DriftRecord,
    DriftResult,
    EstimateRecord,
    SharedRecord,
)
from foldstack.rows import Rows
from foldstack.store import Folds
from foldstack.workspace import Workspace

METHOD = 1  # to be raised if other code gives other weights
FEWEST_EFFECTIVE = 30  # rows on which a weighted score rests at least
FEWEST_SHARING = 5  # test rows of which it is said what they share
DECIMALS = 9  # of the probabilities and weights in drift.csv


def drift(ws: Workspace, *, force: bool = False) -> DriftResult:
    """Compare the files and write folds/drift.json and drift.csv, unless they hold these files."""
    ws.check()
    for path in (ws.store.drift_path, ws.store.drift_rows_path):
        ws.refuse_named(path)
    record = None if force else _stored(ws)
    made = record is None
    if record is None:
        record = _compare(ws)
    pool = ws.competition.pooled
    return DriftResult(
        drift=record,
        file=ws.store.name(ws.store.drift_rows_path),
        made=made,
        pool=None if pool is None else _auc_of_pool(ws, pool),
        pool_rows=0 if pool is None else len(pool),
    )


def _auc_of_pool(ws: Workspace, pool: Rows) -> EstimateRecord | None:
    """Return how well a model tells test rows from pool rows by their texts; None if they are few."""
    test, settings = ws.competition.test, ws.competition.settings.drift
    if min(len(pool), len(test)) < validation.FEWEST:
        return None
    files = validation.Files.of(
        dataclasses.replace(pool, features=None), dataclasses.replace(test, features=None)
    )
    found = validation.compare(files, rows=settings.rows, clip=settings.clip, seed=settings.seed)
    return _auc(found, settings.seed)


def checked(ws: Workspace) -> DriftRecord | None:
    """Return how the files differ, for other stages; None if they are not to be compared.

    What is not stored is compared if `drift.check` is set and the rows are few.
    """
    competition, settings = ws.competition, ws.competition.settings.drift
    sizes = len(competition.train), len(competition.test)
    if not settings.check or min(sizes) < validation.FEWEST:
        return None
    found = _stored(ws)
    if found is None and sum(sizes) <= settings.rows:
        with suppress(validation.TooFewGroups):
            found = _compare(ws)
    return found


def weights_to_test(ws: Workspace) -> np.ndarray:
    """Return (n,) importance weights of mean 1; raise InputError if the files do not differ."""
    return _required(ws, "row_weights: drift", "weight")


def probabilities_of_test(ws: Workspace, setting: str) -> np.ndarray:
    """Return (n,) probabilities of the training rows to be test rows.

    setting: what requires them, for messages. Raises InputError if the files do not differ.
    """
    return _required(ws, setting, "p")


def drifted_score(
    ws: Workspace, folds: Folds, result: BlendResult, seed_variance: float
) -> DriftedScore | None:
    """Return the nested score weighted to the test file; None if the files do not differ.

    Args:
        ws: the workspace.
        folds: which rows are scored.
        result: has the nested predictions and what their score is corrected by.
        seed_variance: of the score, see `estimate`.
    """
    found = checked(ws)
    if found is None or not found.claimed:
        return None
    rows = ws.competition.scored_rows(folds.scored)
    weights = _column(ws, "weight")[folds.scored]
    effective, nested, why = validation.effective_rows(weights), None, None
    if effective < FEWEST_EFFECTIVE:
        why = f"too few: {FEWEST_EFFECTIVE} are required"
    else:
        nested, why = _weighted(ws, folds, result, weights, seed_variance)
    return DriftedScore(
        auc=found.auc,
        reasons=[reason.text for reason in found.reasons],
        nested=nested,
        effective_rows=effective,
        rows=len(rows),
        why=why,
    )


def shared_with(ws: Workspace, folds: Folds) -> list[SharedRecord]:
    """Return how sentences and groups are shared between folds, and with the test file."""
    few = len(ws.competition.test) < FEWEST_SHARING  # the published ones of a code competition
    if not ws.competition.settings.drift.check or few:
        return []
    found = validation.sharing(ws.competition.both_files, folds.fold)
    return [SharedRecord(**dataclasses.asdict(each), differs=each.differs) for each in found]


def _weighted(
    ws: Workspace, folds: Folds, result: BlendResult, weights: np.ndarray, seed_variance: float
) -> tuple[EstimateRecord | None, str | None]:
    """Return the weighted score with its interval; None and why, if it is undefined."""
    rows = ws.competition.scored_rows(folds.scored)
    try:
        found = estimate_on_test(
            scored_by(ws.competition, folds).metric,
            rows.targets,
            result.nested_predictions,
            rows.groups,
            weights,
            seed=ws.competition.settings.blend.seed,
            seed_variance=seed_variance,
            **dataclasses.asdict(result.correction),
        )
    except InputError:
        return None, f"{ws.competition.metric.name} takes no row weights"
    if not np.isfinite(found.score):
        return None, f"{ws.competition.metric.name} is undefined there"
    return EstimateRecord.from_dataclass(found), None


def _required(ws: Workspace, setting: str, column: str) -> np.ndarray:
    """Return (n,) a column of drift.csv, after comparing the files if need be."""
    found = _stored(ws) or _compare(ws)
    if not found.claimed:
        raise InputError(
            f"competition.yaml: {setting} follows how the test file differs from the training file, but "
            f"no difference was found (AUC {found.auc.score:.3f}): leave it out"
        )
    return _column(ws, column)


def _column(ws: Workspace, name: str) -> np.ndarray:
    return ws.store.read_drift_rows().loc[ws.competition.train.ids, name].to_numpy()


def _stored(ws: Workspace) -> DriftRecord | None:
    """Return the stored comparison of today's files and settings, if any."""
    found = ws.store.read_drift()
    return found if found is not None and found.key == _key(ws) else None


def _hashes(ws: Workspace) -> tuple[str, str]:
    """Return hashes of the training and test rows without targets."""
    competition = ws.competition
    train = dataclasses.replace(competition.train, targets=None)
    return train.hash(), competition.test.hash()


def _key(ws: Workspace) -> str:
    """Return a digest of everything that determines the comparison; no target is part of it."""
    competition, files = ws.competition, ws.competition.both_files
    settings = competition.settings.drift.model_dump(exclude={"check"})
    features = [competition.features_hash(rows) for rows in (competition.train, competition.test)]
    keys = [files.keys, files.train_keys]
    return config.digest([METHOD, settings, *_hashes(ws), features, keys])


def _auc(found: validation.Drift, seed: int) -> EstimateRecord:
    auc = estimate(
        get("roc_auc", "binary"),
        found.is_test[:, None].astype(float),
        expit(found.values)[:, None],
        found.groups,
        seed=seed,
    )
    return EstimateRecord.from_dataclass(auc)


def _compare(ws: Workspace) -> DriftRecord:
    """Compare the files and store what was found.

    Raises InputError if a file has too few rows.
    """
    competition, settings = ws.competition, ws.competition.settings.drift
    n, t = len(competition.train), len(competition.test)
    if min(n, t) < validation.FEWEST:
        raise InputError(
            f"drift compares files of {validation.FEWEST} rows and more, but the training file has {n} "
            f"and the test file {t}: too few to show a difference"
        )
    files = competition.both_files
    found = validation.compare(files, rows=settings.rows, clip=settings.clip, seed=settings.seed)
    auc = _auc(found, settings.seed)
    train, test = _hashes(ws)
    record = DriftRecord(
        key=_key(ws),
        train=train,
        test=test,
        train_rows=n,
        test_rows=t,
        compared=len(found.is_test),
        auc=auc,
        claimed=bool(auc.low > validation.CLAIMED),
        effective_rows=validation.effective_rows(found.weights),
        reasons=[DriftReason.from_dataclass(reason) for reason in found.reasons],
    )
    columns = {"id": competition.train.ids, "p": found.p, "weight": found.weights}
    rows = pd.DataFrame(columns).round(DECIMALS)
    return ws.store.write_drift(record, rows.sort_values("p", ascending=False, kind="stable"))
