"""Settings of the bi-encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from foldstack.kinds import Kind
from foldstack.techniques.common import named
from foldstack.techniques.learner import Traits
from foldstack.techniques.pair_losses import Cosent, PairLoss
from foldstack.techniques.transformer_preset import TransformerSettings

# Settings of a classifier's outputs and of its input of both texts in one.
OF_RUN = (
    "dropout_samples",
    "binary_link",
    "head_bias",
    "consistency",
    "match_hidden",
    "joint",
    "template",
    "label_words",
    "sharding",
)
OF_TRAINING = (
    "loss",
    "rdrop",
    "contrastive",
    "mixup",
    "micro_batch_size",
    "mask_spans",
    "freeze_backbone",
)


class BiEncoderSettings(TransformerSettings):
    """A vector for each sentence of a pair from one backbone, by whose cosine pairs are scored.

    Each sentence is read once in prediction, whatever the number of its pairs (Reimers and Gurevych
    2019, Sentence-BERT).

    pair_loss: what is trained.
    dropout: none: there is no layer over the pooled vectors, except with pair_loss softmax.
    """

    implementation: ClassVar[str] = "foldstack.learners.biencoder:BiEncoderLearner"
    traits: ClassVar[Traits] = Traits(
        torch=True,
        processes=True,
        int8=True,
        epochs=True,
        pretraining=True,
        start=True,
        weights=True,
    )
    learner: Literal["biencoder"]
    pair_loss: Annotated[PairLoss, BeforeValidator(named)] = Cosent()
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _compares_vectors(self) -> BiEncoderSettings:
        fields = TransformerSettings.model_fields
        for name in OF_RUN:
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"a bi-encoder has no use for {name}: leave it out")
        for stage in self.all_stages:
            fields = type(stage).model_fields
            for name in OF_TRAINING:
                if getattr(stage, name) != fields[name].default:
                    raise ValueError(
                        f"a bi-encoder has no use for training.{name}, see pair_loss: leave it out"
                    )
            if stage.makes_vectors or (stage.adversary and stage.adversary.of_the_task):
                raise ValueError(
                    "a bi-encoder has no outputs that training.sampling smote or an adversary by the "
                    "outputs could use: leave it out"
                )
        if self.dropout and not self.pair_loss.scores_vectors:
            raise ValueError(
                f"dropout is before a linear layer, which pair_loss {self.pair_loss.name} has not: "
                "leave it out, or set backbone_dropout"
            )
        if self.predicts_both_orders and not self.pair_loss.scores_vectors:
            raise ValueError(
                "both_orders has no effect on a cosine, which is the same in both orders: leave it out, "
                "or take pair_loss softmax"
            )
        if self.both_orders is not None and not self.both_orders.is_plain:
            raise ValueError(
                "a bi-encoder compares two texts whose order has no meaning: set both_orders predict or "
                "train alone"
            )
        if self.long.several_windows or self.long.redraws or self.long.fits_keywords:
            raise ValueError(
                f"long {self.long.name} is of one text with labels, and a bi-encoder reads sentences: "
                "take head, tail or head_tail"
            )
        return self

    @property
    def text_vectors(self) -> Literal["backbone", "run"] | None:
        return "run"

    def check_kind(self, kind: Kind) -> None:
        super().check_kind(kind)
        if kind not in self.pair_loss.kinds:
            names = ", ".join(n for n, loss in PairLoss.registered.items() if kind in loss.kinds)
            raise ValueError(
                f"pair_loss {self.pair_loss.name} is for {' and '.join(self.pair_loss.kinds)}, but this "
                f"competition is {kind}: take {names}"
            )
