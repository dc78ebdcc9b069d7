"""A linear model on TF-IDF of word and character n-grams, fitted inside the fold."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, hstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from foldstack.files import placing, write_text
from foldstack.learners import LearnerContext
from foldstack.progress import say
from foldstack.rows import Rows
from foldstack.techniques import TfidfSettings
from foldstack.text.features import shared_words
from foldstack.text.ngrams import WORD, NgramTfidf, pieces, stack_rows

MANY_COEFFICIENTS = 5_000_000  # of classes and features, for which L-BFGS would take a gigabyte
RowsOf = Callable[[np.ndarray], csr_matrix]  # from row numbers to their features


def log_count_ratios(x: csr_matrix, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (width,) log-count ratios of features between rows of class 1 and rows of class 0.

    ln p_j / Σp − ln q_j / Σq, where p_j and q_j are one plus the total weight of each class's rows
    that contain the feature (Wang and Manning 2012, Baselines and Bigrams, with f̂ and α = 1).
    """
    of_entry, length = np.diff(x.indptr), x.shape[1]
    p, q = (
        1 + np.bincount(x.indices, np.repeat(weights * (y == one), of_entry), length)
        for one in (1, 0)
    )
    return np.log(p / p.sum()) - np.log(q / q.sum())


def _pieces(texts: Sequence[tuple[str, ...]]) -> Iterator[slice]:
    """Yield slices of consecutive rows of about as many characters as `pieces` takes of texts."""
    return pieces([" ".join(text) for text in texts])


class TfidfLearner:
    """Logistic regression (multinomial for multiclass, else one per label), or ridge regression.

    Soft targets become row weights. The ridge penalty is 1/(2C): both models minimise the sum of
    the rows' losses plus the squared coefficients times that penalty.
    """

    def __init__(self, settings: TfidfSettings, context: LearnerContext):
        self.settings, self.task, self.seed = settings, context.task, context.seed
        self.link = context.task.link
        self.vectorizers: list[NgramTfidf] = []
        self.places: list[
            int
        ] = []  # what each vectorizer reads: 0 is the whole row, k its segment k
        self.shared = 0  # columns of words that two segments have in common
        self.coef = self.intercept = np.zeros(0)

    def _new_vectorizers(self) -> list[NgramTfidf]:
        s = self.settings
        return [
            NgramTfidf(analyzer, ngrams, min_df=s.min_count, max_features=s.max_features)
            for analyzer, ngrams in (("word", s.word_ngrams), ("char", s.char_ngrams))
            if ngrams != (0, 0)
        ]

    @property
    def _width(self) -> int:
        return sum(len(v.vocabulary_) for v in self.vectorizers) + self.shared

    def _texts(self, rows: Rows) -> list[tuple[str, ...]]:
        """Return each row's texts that have n-grams of their own: all in one, and its segments."""
        count = len(rows.texts[0]) if len(rows) else 1
        apart = count > 2 if self.settings.segments == "auto" else self.settings.segments == "apart"
        whole = rows.joined_texts()
        if apart and count > 1:
            return [(text, *parts) for text, parts in zip(whole, rows.texts, strict=True)]
        return [(text,) for text in whole]

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
        return hstack(found, format="csr")

    def _fit_columns(self, texts: Sequence[tuple[str, ...]]) -> None:
        self.vectorizers, self.places = [], []
        columns = list(zip(*texts, strict=True))
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
                    say(
                        f"no {vectorizer.analyzer} n-gram{of} occurs in {vectorizer.min_df} texts: "
                        "left out"
                    )

    def fit(self, train: Rows, select: Rows | None, run_dir: Path) -> dict:
        texts = self._texts(train)
        self._fit_columns(texts)
        if self.task.kind.is_one_hot:
            self.coef, self.intercept = self._regress_classes(self._by_row(texts), train)
        elif self.task.kind.is_values:
            self.coef, self.intercept = self._regress_values(texts, train)
        elif len(train.targets.T) == 1:
            fits = [self._regress(self._by_row(texts), train.targets[:, 0], train.weights)]
            self.coef, self.intercept = (np.stack(a) for a in zip(*fits, strict=True))
        else:
            x = self._features(texts)
            fits = [self._regress(x.__getitem__, t, train.weights) for t in train.targets.T]
            self.coef, self.intercept = (np.stack(a) for a in zip(*fits, strict=True))
        return {"features": self._width}

    def _by_row(self, texts: Sequence[tuple[str, ...]]) -> RowsOf:
        """Return a function from row numbers to their features, built in that order without a copy."""
        return lambda index: self._features([texts[i] for i in index.tolist()])

    def _regress(self, rows_of: RowsOf, target: np.ndarray, weights: np.ndarray):
        """Fit one label: a soft target t is a positive row of weight t and a negative one of 1 − t."""
        n = len(target)
        w = np.concatenate([weights * (1 - target), weights * target])
        keep = np.flatnonzero(w > 0)
        y = np.repeat([0, 1], n)[keep]
        total = [w[:n].sum(), w[n:].sum()]
        if self._width == 0 or min(total) == 0:  # nothing to learn from: the smoothed log odds
            return np.zeros(self._width), np.log((total[1] + 0.5) / (total[0] + 0.5))
        x, w = rows_of(keep % n), w[keep]
        ratios = np.ones(self._width)
        if self.settings.naive_bayes:
            ratios = log_count_ratios(x, y, w)
            x.data *= ratios[x.indices]
        model = self._solve(x, y, w)
        return model.coef_[0] * ratios, model.intercept_[0]

    def _regress_classes(self, rows_of: RowsOf, train: Rows):
        n, classes = train.targets.shape
        w = (train.targets * train.weights[:, None]).T.ravel()
        keep = np.flatnonzero(w > 0)
        y = np.repeat(np.arange(classes), n)[keep]
        seen = np.unique(y)
        coef = np.zeros((classes, self._width))
        # A class without rows gets the log odds of half a row.
        intercept = np.full(classes, np.log(0.5 / (n + 0.5)))
        if self._width and len(seen) > 1:
            model = self._solve(rows_of(keep % n), y, w[keep])
            if len(seen) == 2:  # scikit-learn keeps one row for two classes
                coef[seen] = np.stack([-model.coef_[0], model.coef_[0]]) / 2
                intercept[seen] = np.array([-model.intercept_[0], model.intercept_[0]]) / 2
            else:
                coef[seen], intercept[seen] = model.coef_, model.intercept_
        else:
            intercept = np.log(np.bincount(y, w[keep], minlength=classes) + 0.5)
        return coef, intercept

    def _regress_values(self, texts: Sequence[tuple[str, ...]], train: Rows):
        if self._width == 0:
            mean = np.average(train.targets, axis=0, weights=train.weights)
            return np.zeros((len(mean), 0)), mean
        # Conjugate gradients, which need no dense copy and no random numbers.
        model = Ridge(alpha=1 / (2 * self.settings.C), solver="sparse_cg", tol=1e-6)
        model.fit(self._features(texts), train.targets, sample_weight=train.weights)
        return model.coef_.reshape(len(model.intercept_), -1), model.intercept_

    def _solve(self, x: csr_matrix, y: np.ndarray, weights: np.ndarray) -> LogisticRegression:
        """Fit by L-BFGS; many coefficients by SAG, which keeps two copies of them instead of 25."""
        classes, solver = int(y.max()) + 1, "lbfgs"
        if classes > 2 and classes * x.shape[1] > MANY_COEFFICIENTS:
            solver, megabytes = "sag", 3 * 8 * classes * x.shape[1] / 2**20
            say(
                f"tfidf: {classes:,} classes with {x.shape[1]:,} features are solved by SAG, in about "
                f"{megabytes + 8 * classes * len(y) / 2**20:,.0f} MB; a larger min_count or a smaller "
                "max_features needs less"
            )
        model = LogisticRegression(
            C=self.settings.C, max_iter=300, random_state=self.seed, solver=solver
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(x, y, sample_weight=weights)
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                say("tfidf: the regression stopped at 300 iterations before it had converged")
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        return model

    def predict(self, rows: Rows) -> np.ndarray:
        if self._width == 0:
            return np.tile(self.intercept, (len(rows), 1)).astype(np.float32)
        texts = self._texts(rows)
        found = [self._piece(texts[part]) @ self.coef.T for part in _pieces(texts)]
        values = np.concatenate(found) if found else np.zeros((0, len(self.intercept)))
        return (values + self.intercept).astype(np.float32)

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
            for place, v in zip(self.places, self.vectorizers, strict=True)
        ]
        tensors = {f"idf{i}": v.idf_ for i, v in enumerate(self.vectorizers)}
        tensors |= {"coef": np.ascontiguousarray(self.coef), "intercept": self.intercept}
        with placing(folder / "model.safetensors") as beside:
            save_file(tensors, beside)
        facts = {"link": self.link, "vectorizers": described}
        if self.shared:
            facts["shared"] = self.shared
        write_text(folder / "model.json", json.dumps(facts, ensure_ascii=False))

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.shared = described.get("shared", 0)
        self.places = [d.get("segment", 0) for d in described["vectorizers"]]
        self.coef, self.intercept = tensors["coef"], tensors["intercept"]
        self.vectorizers = [
            NgramTfidf(
                d["analyzer"],
                tuple(d["ngram_range"]),
                vocabulary=d["vocabulary"],
                idf=tensors[f"idf{i}"],
            )
            for i, d in enumerate(described["vectorizers"])
        ]
