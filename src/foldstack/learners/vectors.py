"""Classical models on texts' vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.learners import LearnerContext, Measured, stored_mb
from foldstack.learners.columns import FeatureColumns
from foldstack.learners.keyword_columns import KEYWORDS, KeywordColumns
from foldstack.learners.ngram_choice import AutoChoice
from foldstack.learners.pair_columns import PAIRS, PairColumns
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import VectorsSettings
from foldstack.techniques.compared import EDITS
from foldstack.text.features import text_features
from foldstack.text.vector_cache import TextNetwork

COLUMNS, COSINES = "columns.json", "cosines.json"


class FittedVectors(Protocol):
    """A source of vectors, constructed as `(preset's settings, context)`.

    kept: whether the vectors are computed once for all runs. precision: of a network, or None. size:
    of a vector, once it is fitted.
    """

    kept: bool
    precision: str | None
    size: int

    def fit(self, texts: Sequence[str], rows: Rows) -> np.ndarray | None:
        """Learn what the vectors depend on from the training texts and their rows.

        Return the (n, size) vectors that the model learns the texts by; None if they are those of
        `vectors`. They are others if `vectors` knows the rows' labels.
        """

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, size) float32 vectors."""

    def save(self, folder: Path) -> None:
        """Write into a folder what `load` reads, without pickle."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""


class VectorModel(Protocol):
    """A model on vectors, constructed as `(settings, task, seed, threads)`.

    One that reads labels has `texts` of them, and is given their vectors by `describe` before `fit`.
    """

    def fit(self, x: np.ndarray, rows: Rows) -> dict[str, AutoChoice]:
        """Learn the rows from their (n, width) vectors; return what was chosen by the data."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return (n, outputs) finite logits (values for regression) of (n, width) vectors."""

    def save(self, folder: Path) -> None:
        """Write the fitted model into a folder, without pickle."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""


class VectorsLearner:
    """A source of vectors, and a model on them."""

    def __init__(self, settings: VectorsSettings, context: LearnerContext):
        self.settings, self.task = settings, context.task
        self.link, self.threads = self.task.link, context.threads
        self.source: FittedVectors = settings.source.load()(settings, context)
        self.columns: FeatureColumns | None = None
        self.cosines: FeatureColumns | None = None
        self.pairs: PairColumns | None = None
        self.files = context.files
        self.keywords: KeywordColumns | None = None
        made = settings.classifier.load()
        self.model: VectorModel = made(
            settings.classifier, self.task, context.seed, context.threads
        )

    @property
    def precision(self) -> str | None:
        return self.source.precision

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        return self._fit_model(self._fit_source(train), train)

    def _fit_source(self, train: Rows) -> np.ndarray:
        """Return the vectors to learn from, as `_vectors` does."""
        texts = _texts(train)
        with threadpool_limits(self.threads):
            learned = self.source.fit(texts, train)
            return self._of_rows(self.source.vectors(texts) if learned is None else learned, train)

    def _fit_model(self, vectors: np.ndarray, train: Rows) -> dict:
        if (features := self._features(train)) is not None:
            joined = replace(train, features=features)
            self.columns = FeatureColumns.of(joined, self._categories)
        self._fit_pairs(vectors, train)
        if self.settings.keywords:
            self.keywords = KeywordColumns.of(self.files["keywords.file"], train.joined_texts())
        x = self._joined(vectors, train)
        if self.settings.classifier.reads_labels:
            self._describe_labels(train)
        with threadpool_limits(self.threads):
            made = self.model.fit(x, train)
        computed = f" in {self.precision}" if self.precision else ""
        say(f"{len(train):,} rows, {x.shape[1]:,} columns of vectors{computed}")
        auto = {name: vars(choice) for name, choice in made.items()}
        facts = {"features": x.shape[1]}
        facts |= {"precision": self.precision} if self.precision else {}
        return facts | ({"auto": auto} if auto else {})

    def _fit_pairs(self, vectors: np.ndarray, train: Rows) -> None:
        """Fit the columns of how alike every two segments are."""
        compared = self.settings.pair_features
        if compared != "none":
            found = replace(train, features=self._cosines(vectors, train))
            self.cosines = FeatureColumns.of(found, ())
        if compared not in ("none", "meaning"):
            self.pairs = PairColumns.of(train, compared == EDITS)

    def _cosines(self, vectors: np.ndarray, rows: Rows) -> np.ndarray:
        """Return (n, pairs of segments) cosines of the vectors of every two; 0 of zeros."""
        segments = len(rows.texts[0]) if len(rows) else 2
        width = segments * self.source.size
        of_segments = vectors[:, :width].reshape(-1, self.source.size)
        unit = normalised(of_segments.astype(np.float64)).reshape(len(rows), segments, -1)
        twos = combinations(range(segments), 2)
        return np.column_stack([(unit[:, a] * unit[:, b]).sum(axis=1) for a, b in twos])

    def _describe_labels(self, train: Rows) -> None:
        """Give the model the vectors of its labels' texts."""
        if len(train) and (segments := len(train.texts[0])) > 1:
            raise InputError(
                f"classifier {self.settings.classifier.name} compares one text per row, but `text` in "
                f"competition.yaml names {segments}: name one, or take another classifier"
            )
        with threadpool_limits(self.threads):
            self.model.describe(self.source.vectors(self.model.texts))

    def text_network(self, fitted: str | None) -> TextNetwork:
        """Return the frozen backbone; see `learners.GivesVectors`."""
        return self.source.network()

    def predict(self, rows: Rows) -> np.ndarray:
        return self._predict(self._vectors(rows), rows)

    def _predict(self, vectors: np.ndarray, rows: Rows) -> np.ndarray:
        with threadpool_limits(self.threads):
            return self.model.predict(self._joined(vectors, rows)).astype(np.float32)

    def _vectors(self, rows: Rows) -> np.ndarray:
        """Return (n, width) vectors of the rows' segments side by side, see `side_by_side`."""
        with threadpool_limits(self.threads):
            return self._of_rows(self.source.vectors(_texts(rows)), rows)

    def _of_rows(self, found: np.ndarray, rows: Rows) -> np.ndarray:
        """Return the same from the (segments, size) vectors of all texts."""
        segments = len(rows.texts[0]) if len(rows) else 1
        if self.settings.normalise:
            found = normalised(found)
        return side_by_side(found.reshape(len(rows), segments, self.source.size))

    def _joined(self, vectors: np.ndarray, rows: Rows) -> np.ndarray:
        """Return (n, width) float64 vectors with feature columns and keywords beside them."""
        parts = [vectors]
        if self.columns is not None:
            parts.append(self.columns.apply(self._features(rows), self._categories))
        if self.cosines is not None:
            parts.append(self.cosines.apply(self._cosines(vectors, rows), ()))
        if self.pairs is not None:
            parts.append(self.pairs.apply(rows.texts))
        if self.keywords is not None:
            parts.append(self.keywords.apply(rows.joined_texts()).toarray())
        return np.concatenate(parts, axis=1, dtype=np.float64)

    @property
    def _categories(self) -> tuple[tuple[str, ...], ...]:
        return self.task.categories if self.settings.join_features else ()

    def _features(self, rows: Rows) -> np.ndarray | None:
        """Return (n, f) features of the texts and the feature columns, as set; None without any."""
        parts = [text_features(rows)] if self.settings.text_features else []
        parts += [rows.features] if self.settings.join_features else []
        return np.concatenate(parts, axis=1) if parts else None

    def measure(self, rows: Rows, learned: int, sized: bool = False) -> Measured:
        """Return the times of vectors, a fit and predictions of these rows, see `Measured`."""
        n, begin = len(rows), time.monotonic()
        learned_by = self.source.fit(_texts(rows), rows)
        prepared = time.monotonic()
        vectors = self._vectors(rows)
        computed = time.monotonic()
        self._fit_model(vectors if learned_by is None else self._of_rows(learned_by, rows), rows)
        fitted = time.monotonic()
        self._predict(vectors, rows)
        end = time.monotonic()
        of_vectors, of_fit, of_rows = computed - prepared, fitted - computed, end - fitted
        if not self.source.kept:
            of_fit, of_rows = fitted - begin, of_rows + of_vectors
        return Measured(
            # The time that a backbone takes to load is a run's, whatever its rows.
            seconds=end - (prepared if self.source.kept else begin),
            fit_seconds=of_fit * learned / n,
            learned_per_second=n / of_fit,
            row_seconds=of_rows / n,
            once_row_seconds=of_vectors / n if self.source.kept else 0.0,
            mb=stored_mb(self) if sized else None,
        )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.source.save(folder)
        if self.columns:
            write_json(folder / COLUMNS, asdict(self.columns))
        if self.cosines:
            write_json(folder / COSINES, asdict(self.cosines))
        if self.pairs:
            write_json(folder / PAIRS, asdict(self.pairs))
        if self.keywords:
            write_json(folder / KEYWORDS, asdict(self.keywords))
        self.model.save(folder)

    def load(self, folder: Path) -> None:
        self.source.load(folder)
        if (folder / COLUMNS).exists():
            self.columns = FeatureColumns.from_json(read_json(folder / COLUMNS))
        if (folder / COSINES).exists():
            self.cosines = FeatureColumns.from_json(read_json(folder / COSINES))
        if (folder / PAIRS).exists():
            self.pairs = PairColumns.from_json(read_json(folder / PAIRS))
        if (folder / KEYWORDS).exists():
            self.keywords = KeywordColumns.from_json(read_json(folder / KEYWORDS))
        self.model.load(folder)


def _texts(rows: Rows) -> list[str]:
    return [text for row in rows.texts for text in row]


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Return (n, size) vectors of Euclidean length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def side_by_side(vectors: np.ndarray) -> np.ndarray:
    """Return (n, width) of (n, segments, size): all segments, then |u - v| and u * v of every two."""
    parts = list(vectors.transpose(1, 0, 2))
    for u, v in combinations(parts[:], 2):
        parts += [np.abs(u - v), u * v]
    return np.concatenate(parts, axis=1)
