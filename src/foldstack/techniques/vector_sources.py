"""Where texts' vectors are from; the implementations are in learners/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from foldstack.kinds import Kind
from foldstack.settings import Positive
from foldstack.techniques.network_preset import Words
from foldstack.techniques.registry import Technique
from foldstack.techniques.word_vectors_settings import WordVectorsSettings
from foldstack.text.vector_files import vector_file

OF_WORDS = "source.words."  # before the names of settings of words


class VectorSource(Technique):
    """How a text becomes a vector.

    implementation: `(preset's settings, learners.LearnerContext) -> learners.vectors.FittedVectors`.

    Traits:
        reads_backbone: the preset's `backbone` computes the vectors.
        by_length: the length of a vector counts, so that it must not be normalised.
    """

    reads_backbone: ClassVar[bool] = False
    by_length: ClassVar[bool] = False

    @property
    def files(self) -> dict[str, str]:
        """The names of files in input/ that it reads, by setting."""
        return {}

    def check_files(self, files: dict[str, Path]) -> None:
        """Raise InputError if one is wrong or a package is missing; files: those that are there."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages besides those of all learners that predictions need."""
        return ()

    @property
    def reads_pool(self) -> bool:
        """Whether it learns from the texts of the competition's `pool` files."""
        return False

    def check_kind(self, kind: Kind) -> None:
        """Raise ValueError if it does not apply to this kind of competition."""


class BackboneSource(VectorSource):
    """The preset's `backbone`, frozen."""

    implementation: ClassVar[str] = "foldstack.learners.frozen_backbone:BackboneVectors"
    reads_backbone: ClassVar[bool] = True
    name: Literal["backbone"] = "backbone"


class LatentSource(VectorSource):
    """TF-IDF of words, reduced inside the run: by a truncated SVD (latent semantic analysis, Deerwester
    et al. 1990), or to topics by a non-negative matrix factorisation (Lee and Seung 1999); or counts of
    words, reduced to topics by latent Dirichlet allocation (Blei et al. 2003).

    components: size of a vector; less if the words or texts are fewer.
    min_count: least number of training texts that a word occurs in.
    max_features: most words, the most frequent ones.
    """

    implementation: ClassVar[dict[str, str]] = {
        "tfidf_svd": "foldstack.learners.latent:SvdVectors",
        "nmf": "foldstack.learners.latent:TopicVectors",
        "lda": "foldstack.learners.latent:LdaVectors",
    }
    name: Literal["tfidf_svd", "nmf", "lda"]
    components: PositiveInt = 100
    min_count: PositiveInt = 2
    max_features: PositiveInt = 20_000


class WordsSource(VectorSource):
    """The mean of the vectors of a text's words, each word of the run's vocabulary that has one.

    words: what a word is, and which are in the vocabulary, which the training texts give; settings as
        learner network's.
    weighting: tfidf: a word counts as often as it occurs times ln((n + 1) / (d + 1)) + 1, d of the n
        training texts hold it; mean: as often as it occurs.
    """

    name: str
    words: Words = Words()
    weighting: Literal["tfidf", "mean"] = "tfidf"

    @property
    def files(self) -> dict[str, str]:
        return self.words.word_files(OF_WORDS)

    def check_files(self, files: dict[str, Path]) -> None:
        self.words.check_words(files, OF_WORDS)

    @property
    def packages(self) -> tuple[str, ...]:
        return self.words.packages


class WordMeanSource(WordsSource):
    """The mean of word vectors of a file, or trained without labels.

    vectors: the word vectors; settings as learner network's, without `mode`, since nothing is trained
        further.
    size: of trained vectors; those of a file have their own.
    """

    implementation: ClassVar[str] = "foldstack.learners.word_means:WordMeans"
    name: Literal["word_mean"]
    vectors: WordVectorsSettings
    size: PositiveInt = 100

    @property
    def reads_pool(self) -> bool:
        return self.vectors.reads_pool

    @model_validator(mode="after")
    def _trains_nothing_further(self) -> WordMeanSource:
        if self.vectors.mode != type(self.vectors).model_fields["mode"].default:
            raise ValueError(
                "vectors.mode says what a network does with word vectors, but source word_mean trains "
                "no network: leave it out"
            )
        return self

    @property
    def files(self) -> dict[str, str]:
        of_vectors = self.vectors.files.items()
        return super().files | {f"source.{setting}": name for setting, name in of_vectors}

    def check_files(self, files: dict[str, Path]) -> None:
        super().check_files(files)
        self.vectors.check_package()
        if "source.vectors.file" in files:
            vector_file(files["source.vectors.file"]).check()


class SvmWordsSource(WordsSource):
    """The mean of words' weights in linear SVMs, one per class, on the run's own rows.

    A word's vector is its weight in each SVM, which is fitted on TF-IDF, or counts if `weighting` is
    mean, in rows of Euclidean length 1. The vectors of training rows are from SVMs of the other inner
    folds, since those that know a row's label would be more confident on it than on new rows.

    C: inverse strength of the SVMs' L2 penalty.
    folds: number of inner folds.
    """

    implementation: ClassVar[str] = "foldstack.learners.word_means:SvmWords"
    by_length: ClassVar[bool] = True
    name: Literal["svm_words"]
    C: Positive = 1.0
    folds: Annotated[int, Field(ge=2)] = 5

    def check_kind(self, kind: Kind) -> None:
        if kind.is_values:
            raise ValueError(
                f"source svm_words has a number per class, but this competition is a {kind}: take "
                "another source"
            )
