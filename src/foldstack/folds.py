"""Folds: which rows are held out together."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.model_selection import KFold, StratifiedKFold

from foldstack.errors import InputError, cut
from foldstack.kinds import Kind
from foldstack.rows import Rows, duplicate_groups
from foldstack.settings import FoldSettings
from foldstack.stratify import assign_folds

BINS = 10  # quantiles for stratifying a regression target


def check_settings(settings: FoldSettings) -> None:
    """Raise InputError if two settings contradict each other, or one has no effect."""
    timed, test_like = settings.kind == "time", settings.kind == "test_like"
    for wrong, sentence in (
        (
            settings.near and not settings.dedupe,
            "folds.near requires dedupe: near-duplicates cannot share a fold if equal texts may cross; "
            "set folds.dedupe: true or folds.near: 0",
        ),
        (
            settings.connected and not settings.dedupe,
            "folds.connected requires dedupe: pairs that share a sentence cannot share a fold if equal "
            "pairs may cross; set folds.dedupe: true or folds.connected: false",
        ),
        (
            settings.file and (timed or test_like),
            f"folds.file gives the folds and folds.kind: {settings.kind} would make others: leave one "
            "of them out",
        ),
        (
            settings.repeats > 1 and settings.file,
            "folds.repeats changes nothing if folds.file gives the folds: leave it out",
        ),
        (
            settings.repeats > 1 and timed,
            "folds.repeats changes nothing in time order, which allows one split: leave it out",
        ),
        (
            settings.repeats > 1 and test_like,
            "folds.repeats would hold out the same rows in fold 0 of each split of kind test_like: "
            "leave it out",
        ),
        (
            settings.file and "count" in settings.model_fields_set,
            "folds.count is the file's if folds.file gives the folds: leave it out",
        ),
    ):
        if wrong:
            raise InputError(f"competition.yaml: {sentence}")


def make_splits(rows: Rows, kind: Kind, settings: FoldSettings, groups: np.ndarray) -> np.ndarray:
    """Return folds of all splits: split r has folds r * count … (r + 1) * count - 1.

    The first split is `make_folds` with the seed itself, each further one with a seed drawn from it.

    Args:
        rows: n training rows.
        kind: of the competition.
        settings: count, repeats, seed and kind of split.
        groups: (n,) int, rows that must share a fold.

    Returns:
        (n, repeats) folds.
    """
    splits = []
    for split in range(settings.repeats):
        seeds = np.random.SeedSequence([settings.seed, split])
        seed = int(seeds.generate_state(1)[0]) if split else settings.seed
        again = settings.model_copy(update={"seed": seed})
        splits.append(split * settings.count + make_folds(rows, kind, again, groups))
    return np.column_stack(splits)


def make_folds(
    rows: Rows, kind: Kind, settings: FoldSettings, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return the fold of each row, 0 … count-1.

    `stratified` keeps label shares equal: StratifiedKFold for one label per row,
    iterative-stratification's MultilabelStratifiedKFold (Sechidis et al. 2011) for several. A
    regression target is stratified by its quantile bins, several targets by those of each.
    `kfold` is KFold(shuffle=True). If any rows form a group, `stratify.assign_folds` assigns all of
    them, with the labels (`stratified`) or without (`kfold`).

    Args:
        rows: n training rows.
        kind: of the competition.
        settings: count, seed and kind of split.
        groups: (n,) int, rows that must share a fold; None: those of `rows`, unless `dedupe` is off.

    Returns:
        (n,) folds.

    Raises:
        InputError: there are fewer rows, or groups, than folds.
    """
    if groups is None:
        groups = rows.groups if settings.dedupe else np.arange(len(rows))
    size = np.bincount(groups)
    if len(size) < settings.count:
        raise InputError(
            f"folds.count is {settings.count}, but input/train.csv has only "
            f"{len(size)} rows of different text: choose fewer folds"
        )
    labels = label_indicators(rows.targets, kind, settings.count)
    if (size > 1).any():
        brings = labels if settings.kind == "stratified" else labels[:, :0]
        return assign_folds(groups, brings, settings.count, settings.seed)
    if settings.kind == "kfold":
        splitter = KFold(settings.count, shuffle=True, random_state=settings.seed)
        return _assign(splitter, np.zeros(len(rows)), np.zeros(len(rows)))
    return _stratified(labels, Kind(kind), settings)


def test_like_folds(
    rows: Rows, kind: Kind, settings: FoldSettings, groups: np.ndarray, likeness: np.ndarray
) -> np.ndarray:
    """Return folds of which 0 has the groups most like the test file; the others are stratified.

    Args:
        rows: n training rows.
        kind: of the competition.
        settings: count and seed.
        groups: (n,) int, rows that must share a fold.
        likeness: (n,) probability to be a test row; a group has the mean of its rows.

    Returns:
        (n,) folds.
    """
    _, group = np.unique(groups, return_inverse=True)
    size = np.bincount(group)
    order = np.argsort(-np.bincount(group, likeness) / size, kind="stable")
    most_like = order[np.cumsum(size[order]) - size[order] / 2 <= len(rows) / settings.count]
    if not len(most_like):
        most_like = order[:1]
    others = np.flatnonzero(~np.isin(group, most_like))
    folds = np.zeros(len(rows), dtype=np.int64)
    if settings.count == 2:
        folds[others] = 1
        return folds
    rest = settings.model_copy(update={"kind": "stratified", "count": settings.count - 1})
    names = np.unique(group[others], return_inverse=True)[1]
    folds[others] = 1 + make_folds(rows.take(others), kind, rest, names)
    return folds


def refuse_giant_group(groups: np.ndarray, count: int, segments: int = 2) -> None:
    """Raise InputError if rows that share a segment are one component too large for a fold."""
    largest = int(np.bincount(groups).max())
    if largest > min(len(groups) / 2, 2 * len(groups) / count):
        rows, what = ("pairs", "sentences") if segments == 2 else ("rows", "segments")
        raise InputError(
            f"folds.connected: {largest:,} of the {len(groups):,} training {rows} are connected by "
            f"{what} that they share, too many to be one of {count} folds: set folds.connected: false, "
            "or choose fewer folds"
        )


def time_folds(times: np.ndarray, count: int) -> np.ndarray:
    """Return (n,) folds by time: -1 for the first of count + 1 blocks, then 0 … count-1.

    Blocks follow each other in time and have about equally many rows; equal times share a block, so
    that an earlier block is strictly earlier. Raises InputError if there are fewer different times
    than blocks.
    """
    distinct, at, rows = np.unique(times, return_inverse=True, return_counts=True)
    if len(distinct) <= count:
        raise InputError(
            f"folds.count is {count}, but the time column has only {len(distinct)} different times, "
            f"and time order requires {count + 1}: choose fewer folds"
        )
    before = np.r_[0, np.cumsum(rows)]  # rows before each time, the possible borders
    borders = [0]
    for block in range(1, count + 1):
        nearest = int(np.abs(before - block * len(times) / (count + 1)).argmin())
        last = len(distinct) - (count + 1 - block)  # each later block has a time of its own
        borders.append(int(np.clip(nearest, borders[-1] + 1, last)))
    return np.searchsorted(borders, at, side="right") - 2


def given_folds(table: pd.DataFrame, path: Path, ids: np.ndarray, id_column: str) -> np.ndarray:
    """Return folds from a table of `id_column`, or `id`, and `fold`.

    Args:
        table: one row per training row; without a column of ids in the order of the training file.
        path: of the table, for messages.
        ids: (n,) ids of the training rows.
        id_column: name of the column of ids.

    Returns:
        (n,) folds.

    Raises:
        InputError: a fold is no number 0, 1, 2 …, or the rows are others than the training file's.
    """
    if "fold" not in table.columns:
        raise InputError(f"{path}: column 'fold' is missing: add one with numbers 0, 1, 2 …")
    fold = pd.to_numeric(table["fold"], errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~((fold >= 0) & (fold < len(fold)) & (fold == np.floor(fold))))
    if len(bad):
        raise InputError(
            f"{path}: row {bad[0] + 1}: fold '{cut(table['fold'].iloc[bad[0]])}' is none of 0, 1, 2 …: "
            "number the folds from 0 on"
        )
    fold = fold.astype(np.int64)
    lacking = np.flatnonzero(np.bincount(fold) == 0)
    if len(lacking) or fold.max() == 0:
        raise InputError(
            f"{path}: no row has fold {lacking[0] if len(lacking) else 1}: number at least two folds "
            "from 0 on, without a gap"
        )
    named = next((c for c in (id_column, "id") if c in table.columns), None)
    return (
        fold if named is None and len(fold) == len(ids) else fold[_rows_of(table, named, path, ids)]
    )


def _rows_of(table: pd.DataFrame, named: str | None, path: Path, ids: np.ndarray) -> np.ndarray:
    """Return (n,) the table's row of each id."""
    if named is None:
        raise InputError(
            f"{path} has {len(table)} rows and no column of ids, the training file {len(ids)} rows: "
            "add the ids"
        )
    given = pd.Index(table[named])
    twice = np.flatnonzero(given.duplicated())
    if len(twice):
        raise InputError(
            f"{path}: row {twice[0] + 1} repeats '{named}' '{given[twice[0]]}': name each row once"
        )
    row = given.get_indexer(ids)
    if (row < 0).any():
        raise InputError(
            f"{path}: id '{ids[row < 0][0]}' of the training file is missing, as are "
            f"{(row < 0).sum() - 1} more: give every training row a fold"
        )
    if len(given) > len(ids):
        other = given.difference(pd.Index(ids), sort=False)
        raise InputError(
            f"{path}: id '{other[0]}' is not in the training file, nor are {len(other) - 1} more: "
            "remove those rows"
        )
    return row


def split_groups(groups: np.ndarray, folds: np.ndarray) -> int:
    """Return how many groups (n,) are in more than one fold (n,)."""
    pairs = np.unique(np.column_stack([groups, folds]), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def label_indicators(targets: np.ndarray, kind: Kind, count: int) -> np.ndarray:
    """Return (n, labels) bool of targets (n, outputs), for stratification.

    The negative class of a binary target is a separate label; a regression target has one label per
    quantile bin, about ten, or fewer if a bin would have fewer rows than there are folds. Equal values
    share a bin.
    """
    kind = Kind(kind)
    if kind.is_values:
        n = len(targets)
        bins = int(np.clip(n // count, 1, BINS))
        ranks = rankdata(targets, method="average", axis=0)
        at = np.minimum((ranks - 0.5) / n * bins, bins - 1).astype(int)
        shown = np.concatenate([at[:, [t]] == np.arange(bins) for t in range(at.shape[1])], axis=1)
        return shown[:, shown.any(axis=0)]
    hard = targets >= 0.5
    return np.hstack([~hard, hard]) if kind.has_positive_class else hard


def _assign(splitter, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    folds = np.empty(len(x), dtype=np.int64)
    for fold, (_, held) in enumerate(splitter.split(x, y)):
        folds[held] = fold
    return folds


def _stratified(labels: np.ndarray, kind: Kind, settings: FoldSettings) -> np.ndarray:
    n, k = len(labels), settings.count
    if labels.sum(axis=0).max(initial=0) < k:  # too few of any label for scikit-learn to split
        return assign_folds(np.arange(n), labels, k, settings.seed)
    if kind.several_labels_per_row or labels.sum(axis=1).max() > 1:  # or bins of several targets
        from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

        splitter = MultilabelStratifiedKFold(k, shuffle=True, random_state=settings.seed)
        return _assign(splitter, np.zeros(n), labels.astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rare classes are reported by rare_labels()
        splitter = StratifiedKFold(k, shuffle=True, random_state=settings.seed)
        return _assign(splitter, np.zeros(n), labels.argmax(axis=1))


def contradictions(rows: Rows) -> tuple[int, int]:
    """Return (texts, rows) whose equal texts have different labels."""
    text_groups = duplicate_groups(rows.texts)  # rows.groups may join different texts
    order = np.argsort(text_groups, kind="stable")
    groups, targets = text_groups[order], rows.targets[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    low = np.minimum.reduceat(targets, starts)
    high = np.maximum.reduceat(targets, starts)
    differ = (low != high).any(axis=1)
    return int(differ.sum()), int(np.diff(np.r_[starts, len(groups)])[differ].sum())


def rare_labels(
    rows: Rows, labels: tuple[str, ...], kind: Kind, count: int
) -> list[tuple[str, int]]:
    """Return labels with fewer rows than folds, of which some fold has none.

    Args:
        rows: the training rows.
        labels: their names.
        kind: of the competition.
        count: number of folds.

    Returns:
        (label, rows) pairs.
    """
    shown = label_indicators(rows.targets, kind, count).sum(axis=0)
    return [(name, int(n)) for name, n in zip(labels, shown, strict=True) if n < count]
