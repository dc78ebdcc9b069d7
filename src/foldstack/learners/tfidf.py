"""A linear model on TF-IDF of word and character n-grams, fitted inside the fold."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, hstack

from foldstack.files import placing, read_json, write_json, write_text
from foldstack.guess.contents import LOOKED_AT
from foldstack.learners import LearnerContext, Measured, stored_mb
from foldstack.learners.keyword_columns import KEYWORDS, KeywordColumns
from foldstack.learners.ngram_choice import AutoChoice, choose_ngrams
from foldstack.learners.pair_columns import PAIRS, PairColumns
from foldstack.learners.penalty import DEFAULT, choose_penalty, inner_folds
from foldstack.learners.regressions import LinearModel, RowsOf
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import AUTO, TfidfSettings
from foldstack.text.features import shared_words
from foldstack.text.ngrams import WORD, NgramTfidf, pieces, stack_rows
from foldstack.text.word_reader import NONE, WordLists, WordReader


def _pieces(texts: Sequence[tuple[str, ...]]) -> Iterator[slice]:
    """Yield slices of consecutive rows of about as many characters as `pieces` takes of texts."""
    return pieces([" ".join(text) for text in texts])


def _segments(rows: Rows) -> int:
    return len(rows.texts[0]) if len(rows) else 1


class TfidfLearner:
    """Logistic regression (multinomial for multiclass, else one per label), or ridge regression.

    Soft targets become row weights. With naive_bayes a multiclass competition has one regression per
    class, each against all others; their probabilities are normalised to a sum of one.
    """

    def __init__(self, settings: TfidfSettings, context: LearnerContext):
        self.settings, self.task, self.seed = settings, context.task, context.seed
        self.link = context.task.link
        self.model = LinearModel(
            context.task.kind,
            DEFAULT if settings.C == AUTO else settings.C,
            settings.naive_bayes,
            context.seed,
        )
        self.auto: dict[str, AutoChoice] = {}
        self._files, self.lists = context.files, NONE
        self.vectorizers: list[NgramTfidf] = []
        self.places: list[
            int
        ] = []  # what each vectorizer reads: 0 is the whole row, k its segment k
        self.shared = 0  # columns of words that two segments have in common
        self.keywords: KeywordColumns | None = None
        self.pairs: PairColumns | None = None
        self.coef = self.intercept = np.zeros(0)

    def _new_vectorizers(self) -> list[NgramTfidf]:
        s = self.settings.model_copy(update={k: c.value for k, c in self.auto.items()})
        return [
            NgramTfidf(
                analyzer,
                ngrams,
                min_df=s.min_count,
                max_df=s.max_share,
                max_features=s.max_features,
                sublinear=s.sublinear,
                words=s.words if analyzer == "word" else "unicode",
                rules=self._rules(analyzer, s.words),
            )
            for analyzer, ngrams in (("word", s.word_ngrams), ("char", s.char_ngrams))
            if ngrams != (0, 0)
        ]

    def _rules(self, analyzer: str, words: str) -> WordReader | None:
        """Return what becomes of words, if the settings say so and n-grams are of words."""
        if analyzer == "char" or not self.settings.word_rules:
            return None
        return WordReader(self.settings, words == "rjieba", self.lists)

    @property
    def _width(self) -> int:
        further = sum(each.width for each in (self.keywords, self.pairs) if each)
        return sum(len(v.vocabulary_) for v in self.vectorizers) + self.shared + further

    def _texts(self, rows: Rows) -> list[tuple[str, ...]]:
        """Return each row's texts: all in one, and its segments if there are several."""
        whole = rows.joined_texts()
        if _segments(rows) > 1:
            return [(text, *parts) for text, parts in zip(whole, rows.texts, strict=True)]
        return [(text,) for text in whole]

    def _reads_apart(self, segments: int) -> bool:
        """Return whether each segment has n-grams of its own."""
        if self.settings.segments == "auto":
            return segments > 2
        return self.settings.segments == "apart" and segments > 1

    def _features(self, texts: Sequence[tuple[str, ...]]) -> csr_matrix:
        """Return (n, width), built chunk by chunk: `hstack` of all rows would need twice the memory."""
        parts = (self._piece(texts[part]) for part in _pieces(texts))
        return stack_rows(parts, self._width)

    def _piece(self, texts: Sequence[tuple[str, ...]]) -> csr_matrix:
        columns = list(zip(*texts, strict=True))
        found = [
            v.transform(columns[k]) for k, v in zip(self.places, self.vectorizers, strict=True)
        ]
        if self.shared:
            found.append(csr_matrix(shared_words([parts for _, *parts in texts])))
        if self.keywords:
            found.append(self.keywords.apply(columns[0]))
        if self.pairs:
            found.append(csr_matrix(self.pairs.apply([parts for _, *parts in texts])))
        return hstack(found, format="csr")

    def _fit_columns(self, texts: Sequence[tuple[str, ...]]) -> None:
        self.vectorizers, self.places = [], []
        columns = list(zip(*texts, strict=True))
        if not self._reads_apart(len(columns) - 1):
            columns = columns[:1]
        self.shared = math.comb(len(columns) - 1, 2)
        for place, column in enumerate(columns):
            for vectorizer in self._new_vectorizers():
                if len(texts) < self.settings.min_count:
                    vectorizer.min_df = 1
                try:
                    self.vectorizers.append(vectorizer.fit(column))
                    self.places.append(place)
                except ValueError:  # no n-gram of this kind is frequent enough
                    of = f" of segment {place}" if place else ""
                    most = self.settings.max_share
                    than = f" and no more than {most:.0%} of them" if most < 1 else ""
                    say(
                        f"no {vectorizer.analyzer} n-gram{of} occurs in {vectorizer.min_df} texts"
                        f"{than}: left out"
                    )

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        texts = self._texts(train)
        self.auto = choose_ngrams(self.settings, [text[0] for text in texts[:LOOKED_AT]])
        self.lists = WordLists.read(self.settings, self._files)
        self._fit_columns(texts)
        if self.settings.keywords:
            path = self._files["keywords.file"]
            self.keywords = KeywordColumns.of(path, [text[0] for text in texts])
        compared = self.settings.of_segments(_segments(train)).pair_features
        self.pairs = PairColumns.of(train, compared == "edits") if compared != "none" else None
        if self.settings.C == AUTO and self._width:
            self.auto["C"] = self._choose_penalty(texts, train)
            self.model = replace(self.model, C=self.auto["C"].value)
        rows_of = self._by_row(texts)
        if self._width and not self.model.reads_rows_once:
            rows_of = self._features(texts).__getitem__
        self.coef, self.intercept = self.model.fit(
            rows_of, self._width, train.targets, train.weights
        )
        auto = {name: vars(choice) for name, choice in self.auto.items()}
        return {"features": self._width} | ({"auto": auto} if auto else {})

    def _choose_penalty(self, texts: Sequence[tuple[str, ...]], train: Rows) -> AutoChoice:
        sample, folds = inner_folds(train)
        x = self._by_row(texts)(sample)
        return choose_penalty(self.model, self.task, x, train.take(sample), folds)

    def _by_row(self, texts: Sequence[tuple[str, ...]]) -> RowsOf:
        """Return a function from row numbers to their features, built in that order without a copy."""
        return lambda index: self._features([texts[i] for i in index.tolist()])

    def predict(self, rows: Rows) -> np.ndarray:
        if self._width == 0:
            return np.tile(self.model.logits(self.intercept), (len(rows), 1)).astype(np.float32)
        texts = self._texts(rows)
        found = [self._piece(texts[part]) @ self.coef.T for part in _pieces(texts)]
        values = np.concatenate(found) if found else np.zeros((0, len(self.intercept)))
        return self.model.logits(values + self.intercept).astype(np.float32)

    def measure(self, rows: Rows, learned: int, sized: bool = False) -> Measured:
        """Return the times of a fit on these rows and of their predictions, see `Measured`."""
        begin = time.monotonic()
        self.fit(rows, None, Path())
        fitted = time.monotonic()
        self.predict(rows)
        end = time.monotonic()
        return Measured(
            seconds=end - begin,
            fit_seconds=(fitted - begin) * learned / len(rows),
            learned_per_second=len(rows) / (fitted - begin),
            row_seconds=(end - fitted) / len(rows),
            mb=stored_mb(self) if sized else None,
        )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        described = [
            {
                "analyzer": v.analyzer,
                "ngram_range": v.ngram_range,
                "token_pattern": WORD.pattern if v.analyzer == "word" else None,
                "vocabulary": v.vocabulary_,
            }
            | ({"segment": place} if self.shared else {})
            | ({} if v.words == "unicode" else {"words": v.words})
            | ({} if v.sublinear else {"sublinear": False})
            for place, v in zip(self.places, self.vectorizers, strict=True)
        ]
        tensors = {f"idf{i}": v.idf_ for i, v in enumerate(self.vectorizers)}
        tensors |= {"coef": np.ascontiguousarray(self.coef), "intercept": self.intercept}
        with placing(folder / "model.safetensors") as beside:
            save_file(tensors, beside)
        facts = {"link": self.link, "vectorizers": described}
        if self.shared:
            facts["shared"] = self.shared
        if self.keywords:
            write_json(folder / KEYWORDS, asdict(self.keywords))
        if self.pairs:
            write_json(folder / PAIRS, asdict(self.pairs))
        if self.settings.word_rules:
            facts["lists"] = self.lists.to_json()
        write_text(folder / "model.json", json.dumps(facts, ensure_ascii=False))

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.shared = described.get("shared", 0)
        if "lists" in described:
            self.lists = WordLists.from_json(described["lists"])
        self.places = [d.get("segment", 0) for d in described["vectorizers"]]
        if (folder / KEYWORDS).exists():
            self.keywords = KeywordColumns.from_json(read_json(folder / KEYWORDS))
        if (folder / PAIRS).exists():
            self.pairs = PairColumns.from_json(read_json(folder / PAIRS))
        self.coef, self.intercept = tensors["coef"], tensors["intercept"]
        self.vectorizers = [
            NgramTfidf(
                d["analyzer"],
                tuple(d["ngram_range"]),
                vocabulary=d["vocabulary"],
                idf=tensors[f"idf{i}"],
                sublinear=d.get("sublinear", True),
                words=d.get("words", "unicode"),
                rules=self._rules(d["analyzer"], d.get("words", "unicode")),
            )
            for i, d in enumerate(described["vectorizers"])
        ]
