"""Stage: folds/."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from foldstack import folds as splits
from foldstack.defined import lone_labels
from foldstack.errors import InputError, first_of
from foldstack.records import (
    SHOWN_LABELS,
    BalanceRecord,
    FoldsRecord,
    FoldsResult,
    RareLabel,
    SpreadLabel,
    ThroughputRecord,
)
from foldstack.stages.drift import checked, probabilities_of_test, shared_with
from foldstack.stages.jobs import throughput
from foldstack.stages.reading import read_file
from foldstack.store import Folds
from foldstack.stratify import Balance, balance
from foldstack.tables import read_table
from foldstack.workspace import Workspace

WORST = 5
QUANTILES = (0.1, 0.5, 0.9)


def make_folds(ws: Workspace, *, force: bool = False) -> FoldsResult:
    """Write folds/folds.csv, unless it holds these folds, and return its report.

    Raises InputError if new folds would make runs stale, or overwrite a user's file, without `force`.
    """
    competition, store = ws.competition, ws.store
    splits.check_settings(competition.settings.folds)
    ws.check()
    competition.check_groups()
    folds = _split(ws)
    ws.refuse_named(store.folds_path)
    ws.refuse_named(store.folds_report_path)
    if not force and (foreign := store.foreign_folds()):
        own = (
            "name it by `folds.file` from input/" if foreign == store.folds_path else "move it away"
        )
        raise InputError(
            f"{store.name(foreign)} is there already and `make folds` did not write it: {own}, or add "
            "--force (FORCE=1) to write over it"
        )
    stale = [key for key, run in store.runs().items() if run.identity.folds != folds.hash]
    if not force:
        old = _old_folds(ws)
        if old == f"holds folds of hash {folds.hash}":
            return _result(ws, folds, _record(ws, folds), fold_table(ws, folds))
        if stale:
            raise InputError(
                f"{store.name(store.folds_path)} {old}, these settings make others (hash "
                f"{folds.hash}), and {len(stale)} runs, {first_of(stale)}, would be stale: add --force "
                "(FORCE=1), or take another WORKSPACE"
            )
    planned, per_fold = throughput(ws, folds.count), fold_table(ws, folds)
    record = _record(ws, folds).model_copy(update={"threads": planned.threads})
    store.write_folds(competition.train, folds, record, per_fold)
    return _result(ws, folds, record, per_fold, planned=planned, stale=list(map(str, stale)))


def _split(ws: Workspace) -> Folds:
    """Return the folds of today's files and settings."""
    competition = ws.competition
    rows, settings, groups = competition.train, competition.settings.folds, None
    if settings.file:
        path = competition.input_path(settings.file)
        given = read_table(path, competition.settings.form_of(settings.file))
        if competition.settings.id in given.columns and competition.unlabelled_rows:
            no_label = given[competition.settings.id].isin(competition.unlabelled_ids)
            given = given[~no_label].reset_index(drop=True)
        of_row = splits.given_folds(given, path, rows.ids, competition.settings.id)[:, None]
    elif settings.kind == "time":
        of_row = splits.time_folds(competition.times, settings.count)[:, None]
        groups = competition.fold_groups
    elif settings.kind == "test_like":
        likeness = probabilities_of_test(ws, "folds.kind: test_like")
        args = (rows, competition.kind, settings, competition.fold_groups, likeness)
        of_row = splits.test_like_folds(*args)[:, None]
    else:
        if settings.connected:
            segments = competition.settings.segment_count
            splits.refuse_giant_group(competition.fold_groups, settings.count, segments)
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


def _old_folds(ws: Workspace) -> str:
    """Return the content of folds/folds.csv as the end of a sentence."""
    if not ws.store.has_folds():
        return "is missing"
    try:
        return f"holds folds of hash {ws.store.read_folds(ws.competition.train).hash}"
    except InputError:
        return "is for other rows"


# The report


def _record(ws: Workspace, folds: Folds) -> FoldsRecord:
    """Return the content of folds.json, with counts of duplicates and contradictions."""
    competition = ws.competition
    rows, settings = competition.train, competition.settings.folds
    sizes = np.bincount(rows.groups)
    texts, contradicting = splits.contradictions(rows)
    train_in_test, test_in_train = competition.repeated_in_test
    parted = splits.split_groups(competition.fold_groups, folds.fold) if settings.file else 0
    balances = None
    if competition.kind.has_labels:
        labels = rows.targets >= 0.5
        of_splits = [_balance(labels, split) for split in folds.splits.T]
        balances = [BalanceRecord(**each._asdict()) for each in of_splits]
    return FoldsRecord(
        settings=folds.settings,
        hash=folds.hash,
        train=rows.hash(),
        repeated_rows=int(sizes[sizes > 1].sum()),
        parted_groups=parted,
        contradicting_texts=texts,
        contradicting_rows=contradicting,
        train_rows_in_test=train_in_test,
        test_rows_in_train=test_in_train,
        near=None if competition.near is None else competition.near.report,
        balance=balances,
    )


def _result(
    ws: Workspace,
    folds: Folds,
    record: FoldsRecord,
    per_fold: pd.DataFrame,
    *,
    planned: ThroughputRecord | None = None,
    stale: Sequence[str] = (),
) -> FoldsResult:
    """Return the result of the stage: record, table and notable labels.

    planned: how runs will share the machine; None if the folds existed already.
    """
    competition = ws.competition
    counted = competition.kind.has_labels
    uneven, absent = _uneven(ws, folds) if counted else ([], [])
    edits = competition.edits
    return FoldsResult(
        record=record,
        rows=per_fold.to_dict("records"),
        made=planned is not None,
        file=ws.store.name(ws.store.folds_path),
        count=folds.count,
        kind=str(competition.kind),
        labels=len(competition.outputs),
        test_rows=len(competition.test),
        unscored=int(np.sum(folds.fold < 0)),
        stale=list(stale),
        rare=_rare(ws, folds.count // competition.settings.folds.repeats) if counted else [],
        lone=lone_labels(competition, folds) if counted else [],
        uneven=uneven,
        absent=absent,
        shared=shared_with(ws, folds),
        drift=checked(ws),
        files=[read_file(each) for each in competition.facts],
        unlabelled=competition.unlabelled_rows,
        edits=None if edits is None else edits.counts(competition.train),
        remarks=[
            *competition.label_remarks,
            *competition.group_remarks,
            *competition.feature_remarks,
        ],
        throughput=planned,
    )


def _rare(ws: Workspace, count: int) -> list[RareLabel]:
    competition = ws.competition
    found = splits.rare_labels(competition.train, competition.labels, competition.kind, count)
    return [RareLabel(label=label, rows=rows) for label, rows in found]


def fold_table(ws: Workspace, folds: Folds) -> pd.DataFrame:
    """Return one row per fold with its numbers of rows and groups.

    The other columns are the share of positives per output, or per regression target its mean and
    quantiles.
    """
    competition = ws.competition
    rows, groups = competition.train, competition.fold_groups
    lines = []
    for fold in range(folds.count):
        held = folds.held_out((fold,))
        line = {"fold": fold, "rows": len(held), "groups": len(np.unique(groups[held]))}
        for name, values in zip(competition.outputs, rows.targets[held].T, strict=True):
            if competition.kind.has_labels:
                line[f"label {name}"] = (values >= 0.5).mean()
                continue
            line[f"{name} mean"] = values.mean()
            for q in QUANTILES:
                line[f"{name} {q:.0%}"] = np.quantile(values, q)
        lines.append(line)
    return pd.DataFrame(lines)


def _balance(labels: np.ndarray, split: np.ndarray) -> Balance:
    first = split[split >= 0].min()
    return balance(labels, np.where(split < 0, -1, split - first), int(split.max() - first) + 1)


def _uneven(ws: Workspace, folds: Folds) -> tuple[list[SpreadLabel], list[str]]:
    """Return the labels with the least even distribution, and those absent from a fold.

    Both are empty if the table shows all labels.
    """
    outputs = ws.competition.outputs
    if len(outputs) <= SHOWN_LABELS:
        return [], []
    labels = ws.competition.train.targets >= 0.5
    counts = np.array([labels[folds.held_out((f,))].sum(axis=0) for f in range(folds.count)])
    low, high = counts.min(axis=0), counts.max(axis=0)
    worst = np.argsort(-(high - low) / np.maximum(counts.mean(axis=0), 1), kind="stable")[:WORST]
    uneven = [SpreadLabel(label=outputs[i], low=int(low[i]), high=int(high[i])) for i in worst]
    return uneven, [outputs[i] for i in np.flatnonzero(low == 0)]
