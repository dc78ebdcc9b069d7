"""Settings of the classical models on frozen vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from foldstack.backbones import BackboneSize, locate
from foldstack.kinds import Kind
from foldstack.settings import Listed, OptionalText
from foldstack.techniques.classifiers import LogisticClassifier, VectorClassifier
from foldstack.techniques.common import named
from foldstack.techniques.compared import check_compared, check_edits, packages_of
from foldstack.techniques.heads import Head, MeanHead
from foldstack.techniques.keyword_settings import KeywordSettings
from foldstack.techniques.learner import Traits
from foldstack.techniques.long import Beginning, Long
from foldstack.techniques.vector_sources import BackboneSource, VectorSource

MB = 2**20
OF_BACKBONE = (
    "backbone",
    "sha256",
    "trust_remote_code",
    "ignore_weights",
    "prefix",
    "special_tokens",
    "max_length",
    "long",
    "head",
    "precision",
)


class VectorsSettings(KeywordSettings):
    """A classical model on each text's vector.

    A frozen backbone's vectors are computed once per workspace and kept in oof/.vectors for all
    folds, seeds and models. Of several segments each has a vector, and every two also their absolute
    difference and their product.

    source: where vectors are from; with another source than backbone its settings are left out.
    backbone: a hub name, a folder, or `package:NAME/FOLDER` in an installed package; or SmolLM2's GGUF
        file there, which is converted once.
    sha256: pinned checksum of its model.safetensors, or of the GGUF file.
    trust_remote_code: run the Python code that the checkpoint brings.
    ignore_weights: checkpoint entries that belong to another task's head.
    prefix: put before each segment, for backbones trained with one (`"query: "`).
    special_tokens: what a special token typed in a text, such as [SEP] or </s>, is read as: text, or
        the token that it names.
    max_length: most tokens of a segment, special tokens included.
    long: what is read of a segment that is longer; of windows the vectors are averaged.
    head: how token vectors become one vector, without weights to be learned.
    normalise: divide each vector by its Euclidean length.
    precision: of the backbone; auto: the fastest safe one of the machine.
    classifier: what predicts the targets from the vector.
    text_features: join lengths, readability, shares of kinds of characters and the like of each text.
    pair_features: columns that say how alike every two segments of a row are; meaning: the cosine of
        their vectors; overlap: also those of learner tfidf, by the run's own rows; edits: also edit
        distances, by rapidfuzz.
    join_features: join the competition's numeric and categorical columns to the vector.
    row_weights: drift multiplies the rows' weights by those of `make drift`, which are large for
        rows like the test file's.
    """

    implementation: ClassVar[str] = "foldstack.learners.vectors:VectorsLearner"
    traits: ClassVar[Traits] = Traits(torch=True, features=True, weights=True)
    learner: Literal["vectors"]
    source: Annotated[VectorSource, BeforeValidator(named)] = BackboneSource()
    backbone: OptionalText = None
    sha256: OptionalText = None
    trust_remote_code: bool = False
    ignore_weights: Listed[str] = ()
    prefix: str = ""
    special_tokens: Literal["text", "tokens"] = "text"
    max_length: Annotated[int, Field(ge=4)] = 256
    long: Annotated[Long, BeforeValidator(named)] = Beginning()
    head: Annotated[Head, BeforeValidator(named)] = MeanHead()
    normalise: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    classifier: Annotated[VectorClassifier, BeforeValidator(named)] = LogisticClassifier()
    text_features: bool = False
    pair_features: Literal["none", "meaning", "overlap", "edits"] = "none"
    join_features: bool = False
    row_weights: Literal["file", "drift"] = "file"

    @model_validator(mode="after")
    def _backbone_is_read(self) -> VectorsSettings:
        if self.source.reads_backbone:
            if self.backbone is None:
                raise ValueError(
                    "source backbone requires a backbone: set `backbone` to a hub name, a folder or "
                    "package:NAME/FOLDER"
                )
            return self
        for name in OF_BACKBONE:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"source {self.source.name} reads no backbone: leave {name} out")
        return self

    @model_validator(mode="after")
    def _length_is_kept(self) -> VectorsSettings:
        if self.normalise and self.source.by_length:
            raise ValueError(
                f"source {self.source.name} has one number per class, whose size counts: set normalise "
                "to false"
            )
        return self

    @model_validator(mode="after")
    def _labels_have_vectors(self) -> VectorsSettings:
        joined = ("text_features", "join_features", "keywords")
        if self.classifier.reads_labels and (named := [n for n in joined if getattr(self, n)]):
            raise ValueError(
                f"classifier {self.classifier.name} compares vectors of texts with those of labels, "
                f"which have no {named[0]}: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _reads_alike(self) -> VectorsSettings:
        if self.long.redraws or self.long.fits_keywords:
            fitted = Long.with_trait("fits_keywords")
            kept = [name for name in Long.with_trait("redraws", False) if name not in fitted]
            raise ValueError(
                f"long {self.long.name} depends on the epoch or on other texts, but a vector is "
                f"computed once for all runs: take one of {', '.join(kept)}"
            )
        return self

    @model_validator(mode="after")
    def _head_is_fixed(self) -> VectorsSettings:
        if not self.head.fixed:
            raise ValueError(
                f"head {self.head.name} has weights to learn, but learner vectors trains no network: "
                f"take one of {', '.join(Head.with_trait('fixed'))}"
            )
        return self

    def check_kind(self, kind: Kind) -> None:
        self.classifier.check_kind(kind)
        self.source.check_kind(kind)

    @property
    def untouched_backbone(self) -> dict[str, Any] | None:
        read = self.source.reads_backbone
        return {name: getattr(self, name) for name in OF_BACKBONE} if read else None

    @property
    def reads_pool(self) -> bool:
        return super().reads_pool or self.source.reads_pool

    @property
    def input_files(self) -> dict[str, str]:
        return super().input_files | self.source.files

    def of_segments(self, count: int) -> VectorsSettings:
        if self.pair_features != "none":
            check_compared(count)
        return self

    @property
    def models_read(self) -> dict[str, str]:
        return super().models_read | ({"backbone": self.backbone} if self.backbone else {})

    @property
    def packages(self) -> tuple[str, ...]:
        return (*self.source.packages, *packages_of(self.pair_features))

    def check_inputs(self, files: dict[str, Path]) -> None:
        super().check_inputs(files)
        self.source.check_files(files)
        check_edits(self.pair_features)

    def check_backbone(self) -> None:
        if self.backbone is not None:
            locate(self.backbone, self.sha256)

    def fit_mb(self, rows: int) -> int | None:
        size = BackboneSize.of(self.backbone) if self.backbone else None
        if size is None:
            return None
        weights = size.parameters + size.words * size.hidden
        return (4 * weights + 24 * rows * size.hidden) // MB

    @property
    def text_vectors(self) -> Literal["backbone", "run"] | None:
        return "backbone" if self.source.reads_backbone else None

    @property
    def weighs_by_drift(self) -> bool:
        return self.row_weights == "drift"

    @property
    def joins_features(self) -> bool:
        return self.join_features
