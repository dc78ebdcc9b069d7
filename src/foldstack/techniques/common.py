"""Types of numbers and names that the settings of techniques consist of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from foldstack.settings import none_from_text

AUTO = "auto"

Ratio = Annotated[float, Field(gt=0, le=100)]  # rows beside each of a batch, all of them in memory
Temperature = Annotated[float, Field(ge=0.01, le=1000)]  # logits / 1e-300 are infinite
UnitShare = Annotated[float, Field(gt=0, le=1)]


def named(value: Any) -> Any:
    """Expand a name: `focal` is short for `{name: focal}`."""
    return {"name": value} if isinstance(value, str) else value


def named_or_none(value: Any) -> Any:
    return named(none_from_text(value))


def named_or_auto(value: Any) -> Any:
    return None if value == "auto" else named(value)


def each_named(value: Any) -> Any:
    """Expand names: `[keyboard]` is short for `[{name: keyboard}]`; one name needs no list."""
    value = none_from_text(value)
    listed = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return [named(one) for one in listed]


def _unless_auto(value: Any, handler: Callable[[Any], Any]) -> Any:
    return AUTO if value == AUTO else handler(value)


class OrAuto:
    """The annotation of a setting that may also be `auto`, see `techniques.auto`."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        inner = handler(source)
        written = core_schema.wrap_serializer_function_ser_schema(_unless_auto, schema=inner)
        return core_schema.no_info_wrap_validator_function(
            _unless_auto, inner, serialization=written
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Any:
        return {"anyOf": [handler(schema["schema"]), {"const": AUTO}]}


def _auto_from_none(value: Any) -> Any:
    return AUTO if value is None else value


# Tokens per sequence; runs of earlier versions have `auto` as null.
Length = Annotated[int, Field(ge=4), OrAuto(), BeforeValidator(_auto_from_none)]


def one_of(family: type, before: Callable[[Any], Any] = named_or_none) -> Any:
    """Return the annotation of a setting that is a technique of this family, or None."""
    return Annotated[family | None, BeforeValidator(before)]
