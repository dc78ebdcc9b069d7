"""Folds: which rows are held out together."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from foldstack.config import FoldSettings
from foldstack.errors import InputError
from foldstack.rows import Rows, duplicate_groups

UNEVEN = 0.05  # of a fold: the single rows even out what groups leave more uneven than this


def make_folds(
    rows: Rows, kind: str, settings: FoldSettings, groups: np.ndarray | None = None
) -> np.ndarray:
    """(n,) fold of each row, 0 … count-1.

    groups: (n,) int, rows that must share a fold; where not given the rows' own, unless `dedupe`
    is off.

    `stratified` keeps label shares alike: StratifiedKFold for one label a row,
    iterative-stratification's MultilabelStratifiedKFold (Sechidis et al. 2011) for several.
    `kfold` is KFold(shuffle=True). Groups of several rows are dealt first, largest first, each to
    the fold that lacks most of what it brings; the single rows are then split as above, or dealt
    likewise where the groups left the folds uneven, as one large group does.

    Raises InputError where there are fewer rows, or groups, than folds.
    """
    if groups is None:
        groups = rows.groups if settings.dedupe else np.arange(len(rows))
    size = np.bincount(groups)
    if len(size) < settings.count:
        raise InputError(
            f"folds.count is {settings.count}, but input/train.csv has only "
            f"{len(size)} rows of different text: choose fewer folds"
        )
    labels = _label_indicators(rows.targets, kind)
    several = size[groups] > 1
    folds = np.empty(len(rows), dtype=np.int64)
    if several.any():
        brings = labels if settings.kind == "stratified" else labels[:, :0]
        folds[several] = _deal(groups[several], brings[several], settings)
        dealt = np.bincount(folds[several], minlength=settings.count)
        if np.ptp(dealt) > UNEVEN * len(rows) / settings.count:
            return _deal(groups, brings, settings)
    single = np.flatnonzero(~several)
    if settings.kind == "stratified" and len(single):
        folds[single] = _stratified(labels[single], kind, settings)
    elif len(single):
        folds[single] = _kfold(len(single), settings)
    return folds


def _label_indicators(targets: np.ndarray, kind: str) -> np.ndarray:
    """(n, labels) 0/1, with the negative class of a binary target as a label of its own."""
    hard = targets >= 0.5
    return np.hstack([~hard, hard]) if kind == "binary" else hard


def _assign(splitter, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    folds = np.empty(len(x), dtype=np.int64)
    for fold, (_, held) in enumerate(splitter.split(x, y)):
        folds[held] = fold
    return folds


def _kfold(n: int, settings: FoldSettings) -> np.ndarray:
    if n < settings.count:
        return np.arange(n)
    splitter = KFold(settings.count, shuffle=True, random_state=settings.seed)
    return _assign(splitter, np.zeros(n), np.zeros(n))


def _stratified(labels: np.ndarray, kind: str, settings: FoldSettings) -> np.ndarray:
    n, k = len(labels), settings.count
    if labels.sum(axis=0).max(initial=0) < k:  # too few of any label for scikit-learn to split
        return _deal(np.arange(n), labels, settings)
    if kind == "multilabel":
        from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

        splitter = MultilabelStratifiedKFold(k, shuffle=True, random_state=settings.seed)
        return _assign(splitter, np.zeros(n), labels.astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rare classes are reported by rare_labels()
        splitter = StratifiedKFold(k, shuffle=True, random_state=settings.seed)
        return _assign(splitter, np.zeros(n), labels.argmax(axis=1))


def _deal(groups: np.ndarray, labels: np.ndarray, settings: FoldSettings) -> np.ndarray:
    """Greedy: the largest group first, to the fold where the total stays nearest to even."""
    _, member = np.unique(groups, return_inverse=True)
    brings = np.zeros((member.max() + 1, labels.shape[1] + 1))
    np.add.at(brings, member, np.hstack([np.ones((len(labels), 1)), labels]))
    share = brings / np.maximum(brings.sum(axis=0), 1)
    rng = np.random.default_rng(settings.seed)
    shuffled = rng.permutation(len(brings))
    order = shuffled[np.argsort(-brings[shuffled, 0], kind="stable")]
    held = np.zeros((settings.count, brings.shape[1]))
    fold_of = np.empty(len(brings), dtype=np.int64)
    for group in order:
        # Adding x to the fold with total h raises the sum of squares by 2hx + x².
        fold_of[group] = fold = int(np.argmin(held @ share[group]))
        held[fold] += share[group]
    return fold_of[member]


def contradictions(rows: Rows) -> tuple[int, int]:
    """(texts, rows) whose equal texts carry different labels."""
    text_groups = duplicate_groups(rows.texts)  # rows.groups may join different texts
    order = np.argsort(text_groups, kind="stable")
    groups, targets = text_groups[order], rows.targets[order]
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    low = np.minimum.reduceat(targets, starts)
    high = np.maximum.reduceat(targets, starts)
    differ = (low != high).any(axis=1)
    return int(differ.sum()), int(np.diff(np.r_[starts, len(groups)])[differ].sum())


def rare_labels(
    rows: Rows, labels: tuple[str, ...], kind: str, count: int
) -> list[tuple[str, int]]:
    """Labels with fewer rows than folds: some fold cannot hold one."""
    shown = _label_indicators(rows.targets, kind).sum(axis=0)
    return [(name, int(n)) for name, n in zip(labels, shown, strict=True) if n < count]
