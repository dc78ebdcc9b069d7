"""The columns that a model of drift reads: n-grams, surface features, repeats and feature columns.

No column depends on which file a row is from: under random assignment of rows to files, all of them
are exchangeable. Counts of repeats within one file would not be, so they are over both files together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, hstack

from foldstack.drift.both_files import Files
from foldstack.rows import normalise
from foldstack.text.features import feature_names, text_features
from foldstack.text.ngrams import NgramTfidf

NGRAMS = (("word", (1, 1)), ("char", (1, 2)))
MIN_DOCUMENTS = 5
HUGE = 1e100  # beyond it the square of a number overflows
MOST_NGRAMS = 20_000  # of each analyzer
MOST_CATEGORIES = 50  # of a column, the most frequent ones
WHOLE = {1: "text", 2: "pair", 3: "triple"}  # what a row's segments are together
READ = 1_000  # characters of a text whose n-grams are read


@dataclass(frozen=True)
class DriftColumn:
    """A column of the table and how it is described.

    Attributes:
        kind: `word`, `char`, `text` (a surface feature), `repeats`, `number`, `empty` or `category`.
        name: the n-gram, feature or column.
        value: of a category.
    """

    kind: str
    name: str
    value: str = ""

    @property
    def is_ngram(self) -> bool:
        return self.kind in ("word", "char")


def table_of(files: Files) -> tuple[csr_matrix, list[DriftColumn]]:
    """Return (n + t, columns) features and their columns; dense ones are standardised."""
    texts = [text[:READ] for text in files.rows.joined_texts()]
    parts, columns = [], []
    for analyzer, ngrams in NGRAMS:
        vectorizer = NgramTfidf(
            analyzer, ngrams, min_df=min(MIN_DOCUMENTS, len(texts)), max_features=MOST_NGRAMS
        )
        try:
            parts.append(vectorizer.fit(texts).transform(texts))
        except ValueError:  # no n-gram is frequent enough
            continue
        columns += [DriftColumn(analyzer, ngram) for ngram in vectorizer.vocabulary_]
    dense, more = zip(*_dense(files), strict=True)
    values = np.clip(np.column_stack(dense), -HUGE, HUGE)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return hstack([*parts, csr_matrix(values)], format="csr"), [*columns, *more]


def _dense(files: Files) -> Iterator[tuple[np.ndarray, DriftColumn]]:
    """Yield (n + t,) values and columns."""
    names = feature_names(files.segment_count)
    for name, values in zip(names, text_features(files.rows).T, strict=True):
        yield values, DriftColumn("text", name)
    for name, units in repeatable(files).items():
        yield np.log1p(repeats(units)), DriftColumn("repeats", name)
    yield from _of_features(files)


def _of_features(files: Files) -> Iterator[tuple[np.ndarray, DriftColumn]]:
    features = files.rows.features
    if features is None:
        return
    numeric = len(files.numeric)
    for name, values in zip(files.numeric, features[:, :numeric].T, strict=True):
        known = np.isfinite(values)
        yield (
            np.where(known, values, values[known].mean() if known.any() else 0),
            DriftColumn("number", name),
        )
        if not known.all():
            yield (~known).astype(float), DriftColumn("empty", name)
    for name, names, codes in zip(
        files.categorical, files.categories, features[:, numeric:].T, strict=True
    ):
        for code, _ in Counter(codes[np.isfinite(codes)].tolist()).most_common(MOST_CATEGORIES):
            yield (codes == code).astype(float), DriftColumn("category", name, names[int(code)])
        if not np.isfinite(codes).all():
            yield np.isnan(codes).astype(float), DriftColumn("empty", name)


def repeatable(files: Files) -> dict[str, list[Sequence[Hashable]]]:
    """Return what may repeat: per name the n + t values of one or more columns that are one pool."""
    texts = files.rows.texts
    count = files.segment_count
    found = {WHOLE[count]: [[normalise(text) for text in texts]]}
    if count > 1:
        one = "sentence" if count == 2 else "segment"
        found[one] = [[normalise((text[side],)) for text in texts] for side in range(count)]
    if files.keys is not None:
        found["group"] = [files.keys]
    return found


def repeats(columns: list[Sequence[Hashable]]) -> np.ndarray:
    """Return (rows,) how often a row's values occur in other rows' columns, the mean over columns.

    Empty values do not repeat.
    """
    count = Counter(value for column in columns for value in column)
    often = [[count[value] - 1 if value else 0 for value in column] for column in columns]
    return np.mean(often, axis=0)
