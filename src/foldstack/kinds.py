"""The kinds of competition, and what follows from a kind."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Kind(StrEnum):
    """A kind of target. It compares, hashes and is written as its name.

    Arrays of targets and predictions are (n, outputs) for every kind: the positive class for binary,
    one output per class (targets one-hot) for multiclass, per label for multilabel, and per target
    for regression.
    """

    BINARY = "binary"
    MULTICLASS = "multiclass"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"

    @property
    def is_values(self) -> bool:
        """Whether targets and predictions are numbers, for which there is no decision."""
        return self is Kind.REGRESSION

    @property
    def has_labels(self) -> bool:
        """Whether rows have labels: predictions are probabilities, and labels are decided."""
        return not self.is_values

    @property
    def is_one_hot(self) -> bool:
        """Whether exactly one output holds per row: probabilities sum to one over the outputs."""
        return self is Kind.MULTICLASS

    @property
    def has_positive_class(self) -> bool:
        """Whether the only output is the last of two labels, and the other one has none."""
        return self is Kind.BINARY

    @property
    def one_class_per_row(self) -> bool:
        """Whether each row has one class, of two or of several."""
        return self.has_positive_class or self.is_one_hot

    @property
    def several_labels_per_row(self) -> bool:
        """Whether a row may have any number of labels, none included."""
        return self is Kind.MULTILABEL

    @property
    def has_output_per_label(self) -> bool:
        """Whether every class or label is an output of its own."""
        return self.is_one_hot or self.several_labels_per_row

    @property
    def decides_by_thresholds(self) -> bool:
        """Whether each output has its own threshold, independent of the others."""
        return self.has_labels and not self.is_one_hot

    @property
    def link(self) -> str:
        """The function from logits to probabilities; 'identity' for values."""
        if self.is_values:
            return "identity"
        return "softmax" if self.is_one_hot else "sigmoid"

    @property
    def predicted(self) -> str:
        """The quantity that is averaged over runs."""
        return "values" if self.is_values else "probabilities"

    @property
    def label_nouns(self) -> tuple[str, str]:
        """The noun for one label and for several."""
        return ("class", "classes") if self.one_class_per_row else ("label", "labels")

    def outputs_of(self, labels: tuple[T, ...]) -> tuple[T, ...]:
        """Return those of the labels that have an output."""
        return labels[1:] if self.has_positive_class else labels
