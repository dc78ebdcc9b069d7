"""What follows from a kind, as a table; and that a kind is its name to JSON and to comparisons."""

from __future__ import annotations

import json

import pytest

from foldstack.kinds import Kind
from foldstack.settings import CompetitionSettings

# Link, outputs of the labels a and b, and the traits that hold.
TABLE = {
    "binary": ("sigmoid", "b", "has_labels has_positive_class one_class decides_by_thresholds"),
    "multiclass": ("softmax", "ab", "has_labels is_one_hot one_class has_output_per_label"),
    "multilabel": (
        "sigmoid",
        "ab",
        "has_labels several_labels has_output_per_label decides_by_thresholds",
    ),
    "regression": ("identity", "ab", "is_values"),
}
TRAITS = {
    "is_values",
    "has_labels",
    "is_one_hot",
    "has_positive_class",
    "one_class_per_row",
    "several_labels_per_row",
    "has_output_per_label",
    "decides_by_thresholds",
}


@pytest.mark.parametrize("name", TABLE)
def test_what_follows_from_a_kind(name: str) -> None:
    link, outputs, traits = TABLE[name]
    kind = Kind(name)
    assert (kind.link, "".join(kind.outputs_of(tuple("ab")))) == (link, outputs)
    held = {trait.removesuffix("_per_row") for trait in TRAITS if getattr(kind, trait)}
    assert held == set(traits.split())
    assert kind.predicted == ("values" if name == "regression" else "probabilities")


def test_a_kind_is_its_name() -> None:
    assert list(Kind) == list(TABLE)
    kind = CompetitionSettings(name="x", kind="binary", metric="f1", target="y").kind
    assert kind is Kind.BINARY
    assert json.dumps({kind: [kind]}) == '{"binary": ["binary"]}'
    assert f"{kind}" == "binary" and {"binary": 1}[kind] == 1
