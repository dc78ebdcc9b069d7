"""Settings of a backbone that is tuned on pairs of labelled texts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, PositiveInt, model_validator

from foldstack.kinds import Kind
from foldstack.techniques.biencoder_preset import BiEncoderSettings
from foldstack.techniques.classifiers import LogisticClassifier, VectorClassifier
from foldstack.techniques.common import named
from foldstack.techniques.learner import Traits
from foldstack.techniques.pair_losses import CosineError, PairLoss
from foldstack.techniques.transformer_preset import TransformerSettings


class SetfitSettings(BiEncoderSettings):
    """A bi-encoder tuned on pairs of training texts of one class or of two, and a classical model on its
    vectors: for few rows per class (Tunstall et al. 2022, SetFit).

    training: of the bi-encoder; an epoch is all pairs once.
    pair_loss: what is trained on pairs, whose target is 1 if both texts have one class; not softmax.
    iterations: pairs per training row: as many with a text of its class, and as many with one of
        another.
    classifier: what predicts the targets from the vectors, which have Euclidean length 1.
    """

    implementation: ClassVar[str] = "foldstack.learners.setfit:SetfitLearner"
    traits: ClassVar[Traits] = Traits(torch=True, processes=True, weights=True)
    learner: Literal["setfit"]
    pair_loss: Annotated[PairLoss, BeforeValidator(named)] = CosineError(name="cosine_mse")
    iterations: PositiveInt = 20
    classifier: Annotated[VectorClassifier, BeforeValidator(named)] = LogisticClassifier(C=1.0)

    @model_validator(mode="after")
    def _compares_texts(self) -> SetfitSettings:
        if self.pair_loss.scores_vectors:
            raise ValueError(
                f"pair_loss {self.pair_loss.name} trains a linear layer over two vectors, and learner "
                "setfit predicts from one: take another"
            )
        if self.classifier.reads_labels:
            raise ValueError(
                f"classifier {self.classifier.name} learns nothing from rows: take another, or learner "
                "vectors"
            )
        return self

    def check_kind(self, kind: Kind) -> None:
        if not kind.one_class_per_row:
            raise ValueError(
                f"learner setfit pairs texts of one class, but this competition is {kind}: take learner "
                "vectors or transformer"
            )
        TransformerSettings.check_kind(self, kind)
        self.classifier.check_kind(kind)
