"""The training file beside the test file: lengths, label shares, duplicates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from foldstack.records import (
    BlendRecord,
    DuplicateCounts,
    FilesCompared,
    LabelShare,
    LengthRow,
    PlotLine,
)
from foldstack.rows import Rows, duplicate_groups, evenly
from foldstack.stages.page_source import BlendRows
from foldstack.store import RunKey
from foldstack.text.augment.split import split_words
from foldstack.workspace import Workspace

SAMPLE = 20_000  # rows of a file whose tokens are counted
MOST_LABELS = 20  # with lengths of their own
MOST_SHARES = 200
BINS = 30
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)
PLOTTED = 0.99  # quantile of the lengths at which a histogram ends


def compare_files(ws: Workspace, source: BlendRows | None) -> FilesCompared:
    """Return what tells the training file from the test file.

    source: the blend, whose predictions show the labels of test rows; None without them.
    """
    competition = ws.competition
    train, test = competition.train, competition.test
    counted = {part: _sampled(rows) for part, rows in (("train", train), ("test", test))}
    count, tokens_are = _token_counter(ws, source)
    tokens = {part: count(rows.joined_texts()) for part, rows in counted.items()}
    characters = {part: _characters(rows) for part, rows in (("train", train), ("test", test))}
    lengths = [
        *_lengths("characters", characters, _of_labels(ws, train)),
        *_lengths("tokens", tokens, _of_labels(ws, counted["train"])),
    ]
    sampled = SAMPLE if max(len(train), len(test)) > SAMPLE else None
    drift = ws.store.read_drift()
    return FilesCompared(
        tokens_are=tokens_are,
        lengths=lengths,
        histograms=[*_histograms("characters", characters), *_histograms("tokens", tokens)],
        shares=[] if competition.kind.is_values else _shares(ws, source),
        duplicates=_duplicates(ws),
        sampled=sampled,
        drift=[reason.text for reason in drift.reasons] if drift and drift.claimed else [],
        auc=drift.auc.score if drift else math.nan,
    )


def _sampled(rows: Rows) -> Rows:
    """Return the rows, or evenly spaced ones if they are many."""
    if len(rows) <= SAMPLE:
        return rows
    return rows.take(evenly(len(rows), SAMPLE))


def _characters(rows: Rows) -> np.ndarray:
    return np.array([len(text) for text in rows.joined_texts()])


# Tokens

Count = Callable[[Sequence[str]], np.ndarray]


def _token_counter(ws: Workspace, source: BlendRows | None) -> tuple[Count, str]:
    """Return a function from texts to their numbers of tokens, and what a token is.

    Tokens are those of the blend's first model with a tokenizer of its own, otherwise words.
    """
    for model, run in _first_runs(source.record if source else None):
        key = RunKey.of_name(model, run)
        record = ws.store.read_run(key)
        folder = ws.store.model_dir(key, record) if record else None
        found = sorted(folder.rglob("tokenizer.json")) if folder else []
        if found:
            return _tokenizer(str(found[0])), f"tokens of {model}"
    return _count_words, "words, and letters of scripts without spaces"


def _first_runs(record: BlendRecord | None) -> list[tuple[str, str]]:
    members = record.members if record else {}
    return [(model, next(iter(runs))) for model, runs in members.items()]


def _tokenizer(file: str) -> Count:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(file)
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> np.ndarray:
        return np.array([len(each.ids) for each in tokenizer.encode_batch_fast(list(texts))])

    return count


def _count_words(texts: Sequence[str]) -> np.ndarray:
    return np.array([len(split_words(text)) for text in texts])


# Lengths


def _of_labels(ws: Workspace, train: Rows) -> dict[str, np.ndarray]:
    """Return which of these training rows have each of the largest labels."""
    kind, labels = ws.competition.kind, ws.competition.labels
    if kind.is_values:
        return {}
    targets = train.targets > 0.5
    if kind.has_positive_class:
        targets = np.hstack([~targets, targets])
    order = np.argsort(-targets.sum(axis=0), kind="stable")[:MOST_LABELS]
    return {labels[k]: targets[:, k] for k in sorted(order.tolist())}


def _lengths(
    unit: str, of: dict[str, np.ndarray], of_labels: dict[str, np.ndarray]
) -> list[LengthRow]:
    parts = of | {f"train: {label}": of["train"][its] for label, its in of_labels.items()}
    return [_length_row(unit, part, values) for part, values in parts.items() if len(values)]


def _length_row(unit: str, part: str, values: np.ndarray) -> LengthRow:
    return LengthRow(
        unit=unit,
        part=part,
        rows=len(values),
        mean=float(values.mean()),
        quantiles=[float(q) for q in np.quantile(values, QUANTILES, method="inverted_cdf")],
    )


def _histograms(unit: str, of: dict[str, np.ndarray]) -> list[PlotLine]:
    """Return the share of each file's rows by length, at the middle of each bin."""
    most = max(int(np.quantile(values, PLOTTED)) for values in of.values() if len(values))
    edges = np.unique(np.linspace(0, most + 1, BINS + 1).astype(int))
    lines = []
    for part, values in of.items():
        counts, _ = np.histogram(values, edges)
        shares = counts / max(len(values), 1) / np.diff(edges)  # per character or token
        middles = (edges[:-1] + edges[1:] - 1) / 2
        points = [(float(x), float(y)) for x, y in zip(middles, shares, strict=True)]
        lines.append(PlotLine(name=unit, of=part, points=points))
    return lines


# Labels and duplicates


def _shares(ws: Workspace, source: BlendRows | None) -> list[LabelShare]:
    competition = ws.competition
    targets = competition.train.targets.mean(axis=0)
    decided = source.decisions.mean(axis=0) if source else np.full(len(targets), math.nan)
    rates = source.record.positives if source else {}
    order = np.argsort(-targets, kind="stable")[:MOST_SHARES].tolist()
    return [
        LabelShare(
            label=name,
            train=float(targets[k]),
            predicted=float(decided[k]),
            test=rates[name].test if name in rates else math.nan,
        )
        for k in sorted(order)
        for name in [competition.outputs[k]]
    ]


def _duplicates(ws: Workspace) -> DuplicateCounts:
    competition = ws.competition
    train, test = competition.train, competition.test
    train_in_test, test_in_train = competition.repeated_in_test
    groups = duplicate_groups(train.texts)
    return DuplicateCounts(
        train_rows=len(train),
        test_rows=len(test),
        in_train=_repeats(groups),
        in_test=_repeats(duplicate_groups(test.texts)),
        train_in_test=train_in_test,
        test_in_train=test_in_train,
        conflicts=_conflicts(groups, train.targets),
    )


def _repeats(groups: np.ndarray) -> int:
    """Return the number of rows whose group has another row."""
    return int((np.bincount(groups)[groups] > 1).sum())


def _conflicts(groups: np.ndarray, targets: np.ndarray) -> int:
    """Return the number of groups of equal texts whose rows have different targets."""
    first = np.unique(groups, return_index=True)[1]
    differs = (targets != targets[first[groups]]).any(axis=1)
    return len(np.unique(groups[differs]))
