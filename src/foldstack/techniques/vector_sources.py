"""Where texts' vectors are from; the implementations are in learners/."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import PositiveInt

from foldstack.techniques.registry import Technique


class VectorSource(Technique):
    """How a text becomes a vector.

    implementation: `(preset's settings, learners.LearnerContext) -> learners.vectors.FittedVectors`.

    Traits:
        reads_backbone: the preset's `backbone` computes the vectors.
    """

    reads_backbone: ClassVar[bool] = False


class BackboneSource(VectorSource):
    """The preset's `backbone`, frozen."""

    implementation: ClassVar[str] = "foldstack.learners.frozen_backbone:BackboneVectors"
    reads_backbone: ClassVar[bool] = True
    name: Literal["backbone"] = "backbone"


class LatentSource(VectorSource):
    """TF-IDF of words, reduced inside the run: by a truncated SVD (latent semantic analysis, Deerwester
    et al. 1990), or to topics by a non-negative matrix factorisation (Lee and Seung 1999).

    components: size of a vector; less if the words or texts are fewer.
    min_count: least number of training texts that a word occurs in.
    max_features: most words, the most frequent ones.
    """

    implementation: ClassVar[dict[str, str]] = {
        "tfidf_svd": "foldstack.learners.latent:SvdVectors",
        "nmf": "foldstack.learners.latent:TopicVectors",
    }
    name: Literal["tfidf_svd", "nmf"]
    components: PositiveInt = 100
    min_count: PositiveInt = 2
    max_features: PositiveInt = 20_000
