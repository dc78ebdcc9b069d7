"""Stage: folds/."""

from __future__ import annotations

import numpy as np

from foldstack import folds as splits
from foldstack.errors import InputError
from foldstack.progress import say
from foldstack.workspace import Workspace


def make_folds(ws: Workspace, *, force: bool = False) -> None:
    """Write folds/folds.csv and say what is in it; other folds over existing runs want `force`."""
    competition, store = ws.competition, ws.store
    competition.check()
    rows, settings = competition.train, competition.settings.folds
    fold = splits.make_folds(rows, competition.kind, settings, competition.fold_groups)
    new = store.folds_hash(rows.ids, fold)
    stale = [key for key, run in store.runs().items() if run["identity"]["folds"] != new]
    if not force:
        old = _old_folds(ws)
        if old == f"holds folds of hash {new}":
            say(
                f"folds: nothing to do, {store.name(store.folds_path)} holds these folds "
                f"({settings.count} {settings.kind}, seed {settings.seed}, hash {new})"
            )
            return
        if stale:
            raise InputError(
                f"{store.name(store.folds_path)} {old}, these settings make others (hash {new}), and "
                f"{len(stale)} runs, {_some(stale)}, would be stale: add --force (FORCE=1), or take "
                "another WORKSPACE"
            )
    report = _report(ws, fold)
    store.write_folds(rows, fold, settings.model_dump(mode="json"), report)
    if stale:
        say(
            f"stale now: {len(stale)} runs made with other folds, {_some(stale)}; train them again "
            "with --force (FORCE=1)"
        )
    say(
        f"folds: {settings.count} {settings.kind}, seed {settings.seed}, hash {new}, rows "
        f"{', '.join(str(n) for n in np.bincount(fold, minlength=settings.count))}"
    )


def _old_folds(ws: Workspace) -> str:
    """What folds/folds.csv holds, as the end of a sentence."""
    if not ws.store.has_folds():
        return "is gone"
    try:
        return f"holds folds of hash {ws.store.read_folds(ws.competition.train).hash}"
    except InputError:
        return "is for other rows"


def _report(ws: Workspace, fold: np.ndarray) -> dict:
    """Count what may surprise, say it, and return it for folds.json."""
    competition = ws.competition
    rows, settings = competition.train, competition.settings.folds
    sizes = np.bincount(rows.groups)
    kept = int(sizes[sizes > 1].sum())
    texts, contradicting = splits.contradictions(rows)
    train_in_test, test_in_train = competition.repeated_in_test
    if kept:
        how = "each kept in one fold" if settings.dedupe else "which may CROSS FOLDS (dedupe=false)"
        say(f"folds: {kept:,} rows repeat another's text or group, {how}")
    if texts:
        say(f"folds: {texts:,} texts carry contradicting labels, in {contradicting:,} rows")
    if test_in_train:
        say(
            f"folds: {test_in_train:,} of {len(competition.test):,} test texts stand in train "
            f"({train_in_test:,} rows there)"
        )
    for label, n in splits.rare_labels(rows, competition.labels, competition.kind, settings.count):
        say(
            f"warning: label '{label}' has {n} rows, fewer than the {settings.count} folds: some "
            "folds have none to score"
        )
    return {
        "repeated_rows": kept,
        "contradicting_texts": texts,
        "contradicting_rows": contradicting,
        "train_rows_in_test": train_in_test,
        "test_rows_in_train": test_in_train,
    }


def _some(keys: list) -> str:
    return ", ".join(map(str, keys[:3])) + (" …" if len(keys) > 3 else "")
