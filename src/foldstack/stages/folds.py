"""Stage: folds/."""

from __future__ import annotations

import numpy as np
import pandas as pd

from foldstack import folds as splits
from foldstack.errors import InputError
from foldstack.files import read_table
from foldstack.near import NearDuplicates
from foldstack.progress import say, table
from foldstack.settings import FoldSettings
from foldstack.store import Folds
from foldstack.stratify import Balance, balance
from foldstack.workspace import Workspace

SHOWN = 12  # labels in the printed table; folds/report.csv has all
WORST = 5
QUANTILES = (0.1, 0.5, 0.9)


def make_folds(ws: Workspace, *, force: bool = False) -> None:
    """Write folds/folds.csv and say what is in it; other folds over existing runs want `force`."""
    competition, store = ws.competition, ws.store
    splits.check_settings(competition.settings.folds)
    ws.check()
    folds = _split(ws)
    ws.refuse_named(store.folds_path)
    ws.refuse_named(store.folds_path.with_name("report.csv"))
    if not force and store.has_folds() and not store.folds_path.with_name("folds.json").exists():
        raise InputError(
            f"{store.name(store.folds_path)} is there already and `make folds` did not write it: name "
            "it by `folds.file` from input/, or add --force (FORCE=1) to write over it"
        )
    new, what = folds.hash, _what(folds, competition.settings.folds)
    stale = [key for key, run in store.runs().items() if run.identity.folds != new]
    if not force:
        old = _old_folds(ws)
        if old == f"holds folds of hash {new}":
            say(
                f"folds: nothing to do, {store.name(store.folds_path)} holds these folds "
                f"({what}, hash {new})"
            )
            return
        if stale:
            raise InputError(
                f"{store.name(store.folds_path)} {old}, these settings make others (hash {new}), and "
                f"{len(stale)} runs, {_some(stale)}, would be stale: add --force (FORCE=1), or take "
                "another WORKSPACE"
            )
    report = _report(ws, folds)
    per_fold = fold_table(ws, folds)
    report |= _say_table(ws, folds, per_fold)
    store.write_folds(competition.train, folds, report, per_fold)
    if stale:
        say(
            f"stale now: {len(stale)} runs made with other folds, {_some(stale)}; train them again "
            "with --force (FORCE=1)"
        )
    say(f"folds: {what}, hash {new}, rows {', '.join(map(str, per_fold['rows']))}")


def _split(ws: Workspace) -> Folds:
    """The folds that today's files and settings make."""
    competition = ws.competition
    rows, settings, groups = competition.train, competition.settings.folds, None
    if settings.file:
        path = competition.input_path(settings.file)
        given = read_table(path, competition.settings.encoding)
        of_row = splits.given_folds(given, path, rows.ids, competition.settings.id)[:, None]
    elif settings.kind == "time":
        of_row = splits.time_folds(competition.times, settings.count)[:, None]
        groups = competition.fold_groups
    else:
        of_row = splits.make_splits(rows, competition.kind, settings, competition.fold_groups)
    dumped = settings.model_dump(mode="json")
    folds = Folds(of_row, dumped, ws.store.folds_hash(rows.ids, of_row, groups), groups)
    for fold in range(folds.count):
        if not len(folds.learned((fold,))):
            raise InputError(
                f"fold {fold} would have no rows to learn from, since every earlier row repeats one of "
                "its texts or groups: choose fewer folds"
            )
    return folds


def _what(folds: Folds, settings: FoldSettings) -> str:
    """How the folds were made, as part of a sentence."""
    if settings.file:
        return f"{folds.count} given by input/{settings.file}"
    if settings.kind == "time":
        return f"{settings.count} in time order, {np.sum(folds.fold < 0):,} rows before the first"
    repeats = f"{settings.repeats} x " if settings.repeats > 1 else ""
    return f"{repeats}{settings.count} {settings.kind}, seed {settings.seed}"


def _old_folds(ws: Workspace) -> str:
    """What folds/folds.csv holds, as the end of a sentence."""
    if not ws.store.has_folds():
        return "is gone"
    try:
        return f"holds folds of hash {ws.store.read_folds(ws.competition.train).hash}"
    except InputError:
        return "is for other rows"


# The report


def _report(ws: Workspace, folds: Folds) -> dict:
    """Count what may surprise, say it, and return it for folds.json."""
    competition = ws.competition
    rows, settings = competition.train, competition.settings.folds
    sizes = np.bincount(rows.groups)
    repeated = int(sizes[sizes > 1].sum())
    texts, contradicting = splits.contradictions(rows)
    train_in_test, test_in_train = competition.repeated_in_test
    parted = splits.split_groups(competition.fold_groups, folds.fold) if settings.file else 0
    if repeated:
        say(f"folds: {repeated:,} rows repeat another's text or group, {_kept(settings)}")
    if parted:
        say(
            f"warning: input/{settings.file} parts {parted:,} groups of rows that share a text or a "
            "group: runs that have one on both sides are marked optimistic"
        )
    near = _say_near(competition.near, settings)
    if texts:
        say(f"folds: {texts:,} texts carry contradicting labels, in {contradicting:,} rows")
    if test_in_train:
        say(
            f"folds: {test_in_train:,} of {len(competition.test):,} test texts stand in train "
            f"({train_in_test:,} rows there)"
        )
    if competition.kind != "regression":
        _say_rare(ws, folds.count // settings.repeats)
    return {
        "repeated_rows": repeated,
        "parted_groups": parted,
        "contradicting_texts": texts,
        "contradicting_rows": contradicting,
        "train_rows_in_test": train_in_test,
        "test_rows_in_train": test_in_train,
    } | near


def _kept(settings: FoldSettings) -> str:
    if settings.file:
        return "wherever the given folds have them"
    if not settings.dedupe:
        return "which may CROSS FOLDS (dedupe=false)"
    if settings.kind == "time":
        return "never on both sides of a run"
    return "each kept in one fold"


def _say_near(found: NearDuplicates | None, settings: FoldSettings) -> dict:
    """The near-duplicates' report under `near`; nothing where they are not asked for."""
    if found is None:
        return {}
    report = found.report
    say(
        f"folds: {report['rows']:,} rows are near-duplicates (Jaccard similarity of {settings.near:g} "
        f"or more) in {report['groups']:,} groups of up to {report['largest']:,}, {_kept(settings)}"
    )
    if report["refused"]:
        say(
            f"warning: {report['refused']:,} pairs of near-duplicates were not joined, since their "
            f"group would pass {settings.near_cap} rows (folds.near_cap): they may cross folds"
        )
    if report["large_buckets"]:
        say(
            f"folds: texts that are much alike, up to {report['largest_bucket']:,} in a MinHash bucket, "
            "were compared with some of the others only"
        )
    return {"near": report}


def _say_rare(ws: Workspace, count: int) -> None:
    competition = ws.competition
    for label, n in splits.rare_labels(
        competition.train, competition.labels, competition.kind, count
    ):
        say(
            f"warning: label '{label}' has {n} rows, fewer than the {count} folds: some "
            "folds have none to score"
        )


def fold_table(ws: Workspace, folds: Folds) -> pd.DataFrame:
    """A row a fold: its number, rows and groups, then each output's share of positives, or for
    regression each target's mean and quantiles."""
    competition = ws.competition
    rows, groups = competition.train, competition.fold_groups
    lines = []
    for fold in range(folds.count):
        held = folds.held_out((fold,))
        line = {"fold": fold, "rows": len(held), "groups": len(np.unique(groups[held]))}
        for name, values in zip(competition.outputs, rows.targets[held].T, strict=True):
            if competition.kind != "regression":
                line[f"label {name}"] = (values >= 0.5).mean()
                continue
            line[f"{name} mean"] = values.mean()
            for q in QUANTILES:
                line[f"{name} {q:.0%}"] = np.quantile(values, q)
        lines.append(line)
    return pd.DataFrame(lines)


def _say_table(ws: Workspace, folds: Folds, per_fold: pd.DataFrame) -> dict:
    """Print the table, for many labels their balance instead; returns the balance for folds.json."""
    kind, outputs = ws.competition.kind, ws.competition.outputs
    few = len(outputs) <= SHOWN
    shown = per_fold if few else per_fold[["fold", "rows", "groups"]]
    form = "{:.4g}" if kind == "regression" else "{:.1%}"
    cells = [
        [str(int(v)) for v in line[:3]] + [form.format(v) for v in line[3:]]
        for line in shown.itertuples(index=False, name=None)
    ]
    header = [f"'{c[6:]}'" if c.startswith("label ") else c for c in shown.columns]
    say(table(header, cells))
    if kind == "regression":
        return {}
    labels = ws.competition.train.targets >= 0.5
    of_splits = [_balance(labels, split) for split in folds.splits.T]
    worst = max(of_splits)
    if not few:
        _say_many(labels, folds, outputs, worst)
    return {"balance": [b._asdict() for b in of_splits]}


def _balance(labels: np.ndarray, split: np.ndarray) -> Balance:
    first = split[split >= 0].min()
    return balance(labels, np.where(split < 0, -1, split - first), int(split.max() - first) + 1)


def _say_many(labels: np.ndarray, folds: Folds, outputs: tuple[str, ...], worst: Balance) -> None:
    """LD, ED, and by name the labels that are spread worst or are absent from a fold."""
    counts = np.array([labels[folds.held_out((f,))].sum(axis=0) for f in range(folds.count)])
    low, high = counts.min(axis=0), counts.max(axis=0)
    say(
        f"folds: {len(outputs)} labels, balance LD {worst.labels:.3g}, ED {worst.examples:.3g} rows "
        "(Sechidis et al. 2011; 0 is even)"
    )
    uneven = np.argsort(-(high - low) / np.maximum(counts.mean(axis=0), 1), kind="stable")[:WORST]
    spread = ", ".join(f"'{outputs[i]}' {low[i]} to {high[i]}" for i in uneven)
    say(f"folds: spread worst, rows a fold: {spread}")
    absent = [f"'{outputs[i]}'" for i in np.flatnonzero(low == 0)]
    if absent:
        say(f"folds: {len(absent)} labels are absent from some fold: {_some(absent)}")


def _some(keys: list) -> str:
    return ", ".join(map(str, keys[:3])) + (" …" if len(keys) > 3 else "")
