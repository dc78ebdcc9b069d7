"""Both orders of two texts of a row, and what else changes places with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    model_validator,
)

from foldstack.errors import cut, nearest
from foldstack.kinds import Kind
from foldstack.settings import Listed, Settings, none_from_text

OPPOSITE = "opposite"


def _as_text(value: Any) -> Any:
    """Read labels that YAML takes for numbers as what is written."""
    value = none_from_text(value)
    if not isinstance(value, Mapping):
        return value
    return {str(one): str(other) for one, other in value.items()}


class BothOrders(Settings):
    """Two texts of a row in both orders, such as two answers of which one is preferred.

    when: predict: the logits of a row are the mean of those of both orders, each with its outputs
        exchanged back; train: and in each epoch each row is learned in an order at random.
    texts: the two, by name; by default those of a pair.
    exchange: labels, or targets, that change places with the texts, `{winner_a: winner_b}`; opposite:
        the two of a binary competition; others stay.
    columns: numeric and auxiliary columns that do, `{length_a: length_b}`.
    """

    when: Literal["predict", "train"] = "train"
    texts: Listed[str] = ()
    exchange: Annotated[Literal["opposite"] | dict[str, str] | None, BeforeValidator(_as_text)] = (
        None
    )
    columns: Annotated[dict[str, str] | None, BeforeValidator(_as_text)] = None

    @property
    def pairs(self) -> dict[str, str]:
        """The outputs that change places, by name."""
        return self.exchange if isinstance(self.exchange, dict) else {}

    @property
    def column_pairs(self) -> dict[str, str]:
        """The columns that change places, by name."""
        return self.columns or {}

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the two texts of a pair changes places."""
        return not (self.texts or self.exchange or self.columns)

    @model_validator(mode="after")
    def _each_once(self) -> BothOrders:
        if self.texts and len(self.texts) != 2:
            raise ValueError(
                f"both_orders.texts exchanges two texts, and it names {len(self.texts)}"
            )
        for setting, pairs in (("exchange", self.pairs), ("columns", self.column_pairs)):
            named = [name for pair in pairs.items() for name in pair]
            twice = next((name for name in named if named.count(name) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"both_orders.{setting} names '{cut(twice)}' twice: write each pair once"
                )
        return self

    def check_kind(self, kind: Kind) -> None:
        """Raise ValueError if the outputs of this kind of competition cannot be exchanged so."""
        if self.exchange == OPPOSITE and not kind.has_positive_class:
            raise ValueError(
                f"both_orders.exchange opposite is of the two labels of a binary competition, but this "
                f"one is {kind}: write {{label: label}}"
            )
        if self.pairs and kind.has_positive_class:
            raise ValueError(
                "both_orders.exchange has no pairs in a binary competition, whose labels are each "
                "other's opposite: set `exchange: opposite`"
            )

    def check_names(
        self, texts: Collection[str], numbers: Collection[str], read: Collection[str]
    ) -> None:
        """Raise ValueError if a text or column is unknown, or a column is not read.

        Args:
            texts: names of the texts of a row.
            numbers: names of the numeric and auxiliary columns.
            read: those of them that training or prediction reads.
        """
        for name in self.texts:
            if name not in texts:
                raise ValueError(
                    f"both_orders.texts names '{cut(name)}', which is no text of a row: "
                    f"{nearest(name, texts)}"
                )
        for name in [name for pair in self.column_pairs.items() for name in pair]:
            if name not in numbers:
                raise ValueError(
                    f"both_orders.columns names '{cut(name)}', which is no numeric or auxiliary column: "
                    f"{nearest(name, numbers)}"
                )
            if name not in read:
                raise ValueError(
                    f"both_orders.columns exchanges '{cut(name)}', which this preset does not read: set "
                    "join_features or training.auxiliary, or leave it out"
                )


def _expanded(value: Any) -> Any:
    """Expand a word: `train` is short for `{when: train}`."""
    value = none_from_text(value)
    return {"when": value} if isinstance(value, str) else value


def _written(orders: BothOrders | None, dump: SerializerFunctionWrapHandler) -> Any:
    """Return the short form if it says all, as runs of earlier versions have it."""
    if orders is None:
        return "none"
    return orders.when if orders.is_plain else dump(orders)


OrNoOrders = Annotated[
    BothOrders | None, BeforeValidator(_expanded), WrapSerializer(_written, when_used="json")
]
