"""Vectors of texts from their words, reduced to few columns and fitted inside a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.linalg import solve_triangular
from scipy.optimize import nnls
from scipy.sparse import csr_matrix
from sklearn.decomposition import NMF, LatentDirichletAllocation, TruncatedSVD

from foldstack.errors import InputError
from foldstack.files import placing, read_json, write_json
from foldstack.guess.contents import LOOKED_AT
from foldstack.learners import LearnerContext
from foldstack.learners.ngram_choice import choose_ngrams
from foldstack.rows import Rows
from foldstack.techniques import AUTO, LatentSource, TfidfSettings, VectorsSettings
from foldstack.text.ngrams import NgramTfidf

ITERATIONS = 400
PASSES = 30  # of LDA over all texts
WORDS, COMPONENTS = "words.json", "words.safetensors"


class LatentVectors:
    """TF-IDF or counts of words and (size, words) components; Chinese words are cut by rjieba.

    A subclass fits the components and reduces rows to them, each independent of the others.
    """

    kept = False
    precision = None

    def __init__(self, settings: VectorsSettings, context: LearnerContext):
        self.source: LatentSource = settings.source
        self.seed = context.seed
        self.tfidf: NgramTfidf | None = None
        self.components = np.zeros((0, 0))

    @property
    def size(self) -> int:
        return len(self.components)

    def fit(self, texts: Sequence[str], rows: Rows) -> None:
        s = self.source
        auto = TfidfSettings(learner="tfidf", words=AUTO)
        words = choose_ngrams(auto, texts[:LOOKED_AT])["words"].value
        self.tfidf = NgramTfidf(
            "word", (1, 1), min_df=s.min_count, max_features=s.max_features, words=words
        )
        try:
            x = self._features(self.tfidf.fit(texts), texts)
        except ValueError:
            raise InputError(
                f"source {s.name}: no word occurs in {s.min_count} of the {len(texts):,} training "
                "texts: set a smaller source.min_count, or take source backbone"
            ) from None
        self.components = self._fitted(x, min(s.components, *x.shape))

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, size) float32 vectors."""
        return self._reduced(self._features(self.tfidf, texts)).astype(np.float32)

    def _features(self, words: NgramTfidf, texts: Sequence[str]) -> csr_matrix:
        """Return (n, words) features of texts."""
        return words.transform(texts)

    def _fitted(self, x: csr_matrix, size: int) -> np.ndarray:
        """Return (size, words) components of (n, words) features."""
        raise NotImplementedError

    def _reduced(self, x: csr_matrix) -> np.ndarray:
        """Return (n, size) vectors of (n, words) features."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        described = {"vocabulary": self.tfidf.vocabulary_, "words": self.tfidf.words}
        write_json(folder / WORDS, described)
        tensors = {"idf": self.tfidf.idf_, "components": np.ascontiguousarray(self.components)}
        with placing(folder / COMPONENTS) as beside:
            save_file(tensors, beside)

    def load(self, folder: Path) -> None:
        tensors, described = load_file(folder / COMPONENTS), read_json(folder / WORDS)
        self.components = tensors["components"]
        self.tfidf = NgramTfidf("word", (1, 1), idf=tensors["idf"], **described)


class SvdVectors(LatentVectors):
    """Latent semantic analysis."""

    def _fitted(self, x: csr_matrix, size: int) -> np.ndarray:
        if x.shape[1] == 1:  # which scikit-learn refuses
            return np.ones((1, 1))
        with np.errstate(invalid="ignore", divide="ignore"):  # of texts that do not vary
            return TruncatedSVD(size, random_state=self.seed).fit(x).components_

    def _reduced(self, x: csr_matrix) -> np.ndarray:
        return x @ self.components.T


class TopicVectors(LatentVectors):
    """Weights of topics by non-negative least squares.

    scikit-learn's `NMF.transform` stops when all rows together have converged, so that a row's weights
    depend on the others.
    """

    def _fitted(self, x: csr_matrix, size: int) -> np.ndarray:
        model = NMF(size, init="nndsvda", random_state=self.seed, max_iter=ITERATIONS)
        return model.fit(x).components_

    def _reduced(self, x: csr_matrix) -> np.ndarray:
        """Return the w of least |x - wH|², which is that of |L⁻¹Hx - Lᵀw|² with LLᵀ = HHᵀ.

        A row's bits do not depend on the others, as they would after a solution for all rows at once:
        a tree may split between 0 and 1e-17.
        """
        squares = self.components @ self.components.T
        squares[np.diag_indices_from(squares)] += 1e-9 * max(squares.diagonal().mean(), 1e-9)
        lower = np.linalg.cholesky(squares)
        targets = x @ solve_triangular(lower, self.components, lower=True).T
        found = [nnls(lower.T, target)[0] for target in targets]
        return np.array(found).reshape(x.shape[0], self.size)


class LdaVectors(LatentVectors):
    """Shares of topics by latent Dirichlet allocation of counts, by scikit-learn's variational Bayes.

    Components are exp(E[log p(word | topic)]), all that the shares of a text depend on.
    """

    def _features(self, words: NgramTfidf, texts: Sequence[str]) -> csr_matrix:
        return words.counts(texts)

    def _fitted(self, x: csr_matrix, size: int) -> np.ndarray:
        model = LatentDirichletAllocation(size, max_iter=PASSES, random_state=self.seed)
        return model.fit(x).exp_dirichlet_component_

    def _reduced(self, x: csr_matrix) -> np.ndarray:
        if not x.shape[0]:
            return np.zeros((0, self.size))
        model = LatentDirichletAllocation(self.size)
        model.exp_dirichlet_component_, model.doc_topic_prior_ = self.components, 1 / self.size
        model.components_ = self.components  # of which only the type is read
        return model.transform(x)
