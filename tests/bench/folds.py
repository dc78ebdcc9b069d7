"""How even folds are when groups must hold: ours, plain multilabel stratification, random groups.

    python tests/bench/folds.py

LD, ED and the fold-label pairs without a positive are those of Sechidis et al. 2011, smaller is better;
`split` is how many groups stand in more than one fold. All sets and groups are made by seed 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import GroupKFold

from foldstack.folds import split_groups
from foldstack.progress import table
from foldstack.stratify import assign_folds, balance

COUNT, SEED = 5, 0
TITLES = Path(__file__).parents[3] / "shared/data/duee/train.txt"
Splitter = Callable[[np.ndarray, np.ndarray], np.ndarray]


def titles(path: Path) -> np.ndarray:
    """(n, labels) of lines `label|label text`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    given = [line.split(" ", 1)[0].split("|") for line in lines if line.strip()]
    names = sorted({name for row in given for name in row})
    return np.array([[name in row for name in names] for row in given])


def long_tail(n: int, labels: int, first: float, exponent: float) -> np.ndarray:
    """(n, labels), independent, label k with frequency first / k ** exponent (Zipf)."""
    frequency = first / np.arange(1, labels + 1) ** exponent
    return np.random.default_rng(SEED).random((n, labels)) < frequency


def groups_of(sizes: np.ndarray, n: int) -> np.ndarray:
    """(n,) groups of these sizes in random places."""
    numbers = np.repeat(np.arange(len(sizes)), sizes)[:n]
    return np.random.default_rng(SEED).permutation(numbers)


def geometric(n: int, mean: float) -> np.ndarray:
    return groups_of(np.random.default_rng(SEED).geometric(1 / mean, size=n), n)


def uniform(n: int, most: int) -> np.ndarray:
    return groups_of(np.random.default_rng(SEED).integers(1, most + 1, size=n), n)


def ours(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return assign_folds(groups, labels, COUNT, SEED)


def by_splitter(kind: type) -> Splitter:
    def split(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
        folds = np.empty(len(labels), dtype=np.int64)
        splitter = kind(COUNT, shuffle=True, random_state=SEED)
        for fold, (_, held) in enumerate(splitter.split(labels, labels.astype(int), groups)):
            folds[held] = fold
        return folds

    return split


SPLITTERS: dict[str, Splitter] = {
    "ours, groups hold": ours,
    "MultilabelStratifiedKFold": by_splitter(MultilabelStratifiedKFold),
    "random groups (GroupKFold)": by_splitter(GroupKFold),
}


def compare(name: str, labels: np.ndarray, groups: np.ndarray) -> None:
    rows = []
    for splitter, split in SPLITTERS.items():
        begin = time.perf_counter()
        folds = split(labels, groups)
        seconds = time.perf_counter() - begin
        ld, ed, missing = balance(labels, folds, COUNT)
        parted = f"{split_groups(groups, folds):,}"
        rows.append([splitter, f"{ld:.6f}", f"{ed:.1f}", f"{missing}", parted, f"{seconds:.2f}"])
    print(
        f"{name}: {len(labels):,} rows, {labels.shape[1]} labels (the rarest in "
        f"{labels.sum(axis=0).min():,} rows), {len(np.unique(groups)):,} groups of up to "
        f"{np.bincount(groups).max()}"
    )
    print(table([f"{COUNT} folds", "LD", "ED", "missing", "split", "seconds"], rows), end="\n\n")


def main() -> None:
    if TITLES.exists():
        labels = titles(TITLES)
        compare("duee titles", labels, geometric(len(labels), 4))
    else:
        print("duee titles: skipped, ../shared/data/duee/train.txt is not here\n")
    zipf = long_tail(20_000, 100, 0.5, 1.0)
    compare("Zipf, large groups", zipf, uniform(len(zipf), 50))
    steep = long_tail(20_000, 300, 0.3, 1.2)
    compare("steep tail, small groups", steep, geometric(len(steep), 5))


if __name__ == "__main__":
    main()
