"""What the settings of all techniques are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from foldstack.settings import Settings, none_from_text

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
UnitShare = Annotated[float, Field(gt=0, le=1)]


class LearnerSettings(Settings):
    """What a preset sets; its `learner` says which class."""

    @property
    def hard_model(self) -> str | None:
        """The model whose losses say which rows are hard, where one does."""
        return None

    @property
    def learns_auxiliary(self) -> bool:
        """Whether the competition's auxiliary columns are learned."""
        return False

    def check_kind(self, kind: str) -> None:
        """Raises ValueError where a setting is not for this kind of competition."""

    def check_columns(self, features: tuple[str, ...], auxiliary: tuple[str, ...]) -> None:
        """Raises ValueError where a setting wants columns of which the competition has none."""


def named(value: Any) -> Any:
    """`focal` is short for `{name: focal}`."""
    return {"name": value} if isinstance(value, str) else value


def named_or_none(value: Any) -> Any:
    return named(none_from_text(value))


def named_or_auto(value: Any) -> Any:
    return None if value == "auto" else named(value)


def each_named(value: Any) -> Any:
    """`[keyboard]` is short for `[{name: keyboard}]`; a single one needs no list."""
    value = none_from_text(value)
    listed = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [named(one) for one in listed]


def none_from_auto(value: Any) -> Any:
    return None if value == "auto" else value


Length = Annotated[Annotated[int, Field(ge=4)] | None, BeforeValidator(none_from_auto)]


def one_of(union: Any, before: Callable[[Any], Any] = named_or_none) -> Any:
    """The annotation of a setting that is one of several techniques, told apart by `name`, or None."""
    return Annotated[Annotated[union, Field(discriminator="name")] | None, BeforeValidator(before)]
