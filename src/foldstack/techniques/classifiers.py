"""Classical models on vectors; their implementations are in learners/."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from foldstack.errors import cut
from foldstack.kinds import Kind
from foldstack.settings import NonNegative, Positive, none_from_text
from foldstack.techniques.common import AUTO, OrAuto, UnitShare
from foldstack.techniques.registry import Technique


class VectorClassifier(Technique):
    """A model of the targets on a row's vector.

    implementation: `(settings, task, seed, threads) -> learners.vectors.VectorModel`.

    Traits:
        for_values: it predicts numbers.
        reads_labels: it compares with texts of the labels, and learns nothing from rows.
    """

    for_values: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = False

    def check_kind(self, kind: Kind) -> None:
        """Raise ValueError if it does not apply to this kind of competition."""
        if kind.is_values and not self.for_values:
            raise ValueError(
                f"classifier {self.name} predicts labels, but this competition is a {kind}: take one of "
                f"{', '.join(self.with_trait('for_values'))}"
            )


class LogisticClassifier(VectorClassifier):
    """Logistic regression: multinomial for multiclass, else one per label.

    C: inverse strength of the L2 penalty; auto: chosen by an inner cross-validation on the run's own
        rows, the same for all labels.
    """

    implementation: ClassVar[str] = "foldstack.learners.linear_fits:LogisticFit"
    for_values: ClassVar[bool] = False
    name: Literal["logistic"] = "logistic"
    C: Annotated[Positive, OrAuto()] = AUTO


class RidgeVectorClassifier(VectorClassifier):
    """Ridge regression; of labels one per label, its outputs calibrated by inner folds (Platt 1999).

    C: inverse strength of the L2 penalty, which is 1 / (2C); auto: chosen by an inner
        cross-validation on the run's own rows, the same for all outputs.
    """

    implementation: ClassVar[str] = "foldstack.learners.linear_fits:RidgeFit"
    name: Literal["ridge"]
    C: Annotated[Positive, OrAuto()] = AUTO


class SvmClassifier(VectorClassifier):
    """Linear SVM with squared hinge loss, one per label, its margins calibrated by inner folds (Platt
    1999).

    C: inverse strength of the L2 penalty.
    """

    implementation: ClassVar[str] = "foldstack.learners.linear_fits:SvmFit"
    for_values: ClassVar[bool] = False
    name: Literal["svm"]
    C: Positive = 1.0


class NeighboursClassifier(VectorClassifier):
    """The nearest training rows by cosine, each weighted by its row weight over its distance.

    k: number of neighbours.
    prior: weight of the mean of all training targets, in neighbours of average weight; of labels only.
    """

    implementation: ClassVar[str] = "foldstack.learners.neighbours:NeighboursFit"
    name: Literal["neighbours"]
    k: PositiveInt = 20
    prior: NonNegative = 1.0

    def check_kind(self, kind: Kind) -> None:
        # By value: the settings of a stored run name every field.
        if kind.is_values and self.prior != type(self).model_fields["prior"].default:
            raise ValueError(
                "classifier.prior keeps probabilities of labels from 0 and changes nothing in values: "
                "leave it out"
            )


class LightgbmClassifier(VectorClassifier):
    """Gradient boosting by LightGBM: one model for all classes, else one per output.

    rounds: number of trees, of each class.
    learning_rate: of the boosting.
    leaves: most leaves per tree.
    min_leaf_rows: least rows per leaf; a twentieth of the training rows if that is less.
    features: share of the vector's columns that each tree may use.
    """

    implementation: ClassVar[str] = "foldstack.learners.tree_fits:TreesFit"
    name: Literal["lightgbm"]
    rounds: PositiveInt = 200
    learning_rate: Positive = 0.05
    leaves: Annotated[int, Field(ge=2)] = 15
    min_leaf_rows: PositiveInt = 20
    features: UnitShare = 0.5


def texts_of_labels(value: Any) -> Any:
    """Read labels that YAML takes for numbers as what is written."""
    value = none_from_text(value)
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else value


class LabelTextsClassifier(VectorClassifier):
    """The label whose text is nearest by cosine, without learning from rows: zero-shot.

    labels: a text per label, such as {pos: a good film, neg: a bad film}; a label without one is
        described by its name, but of a binary competition both are given.
    scale: factor on the cosines, which then are logits.
    """

    implementation: ClassVar[str] = "foldstack.learners.label_texts:LabelTextsFit"
    for_values: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = True
    name: Literal["label_texts"]
    labels: Annotated[dict[str, str] | None, BeforeValidator(texts_of_labels)] = None
    scale: Positive = 20.0

    def check_kind(self, kind: Kind) -> None:
        super().check_kind(kind)
        empty = [label for label, text in (self.labels or {}).items() if not text.strip()]
        if empty:
            raise ValueError(
                f"classifier.labels gives '{cut(empty[0])}' an empty text: write one, or leave the "
                "label out, so that it has its name"
            )
        if not kind.one_class_per_row:
            raise ValueError(
                f"classifier label_texts chooses one label per row, but this competition is {kind}: "
                "take another"
            )
        if kind.has_positive_class and len(self.labels or ()) != 2:
            raise ValueError(
                "classifier label_texts requires a text for both labels of a binary competition: set "
                "classifier.labels to {label: text, label: text}"
            )
