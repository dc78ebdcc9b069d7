"""The registry of techniques: defining a settings class with a name registers it.

`Loss`, `Adversary` and so on are families: subclasses of `Technique` without names of their own. A
subclass of a family with `name: Literal["focal"]` registers itself there, and a setting whose type
is the family then accepts `focal` and `{name: focal, gamma: 1}`. Capabilities and requirements of a
technique are class variables (traits) whose defaults are in the family.
"""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from foldstack.errors import InputError
from foldstack.settings import Settings

PATH = re.compile(r"\w+(\.\w+)*:\w+")


def load(path: str, owner: type) -> Any:
    """Return the object at `package.module:name`; import the module on first use.

    Raises InputError, which names the settings class that has this path, if there is no such object.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise InputError(
            f"{owner.__name__}: its implementation '{path}' cannot be loaded ({e}): correct the class "
            "variable, or install what that module imports"
        ) from None
    if not callable(found):
        raise InputError(f"{owner.__name__}: its implementation '{path}' cannot be called")
    return found


def check_path(path: Any, owner: type) -> None:
    """Raise TypeError, when a settings class registers, if its implementation is none."""
    if not isinstance(path, str) or not PATH.fullmatch(path):
        raise TypeError(
            f"{owner.__name__}: implementation {path!r} is not of the form 'package.module:name'"
        )


def _names(kind: type[Technique]) -> tuple[str, ...]:
    """Return the names of `name: Literal[…]`; none for a family."""
    annotation = kind.__pydantic_fields__["name"].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


class Technique(Settings):
    """Settings of one technique, identified within its family by `name`.

    Class variables:
        registered: the family's settings classes by name, in the order of their definition.
        implementation: `module:name` of the implementation, imported on first use; a dict by name
            if the class has several names. The family defines its signature.
    """

    registered: ClassVar[dict[str, type[Self]]] = {}
    implementation: ClassVar[str | dict[str, str]] = ""
    name: str

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        if Technique in cls.__bases__:
            cls.registered = {}
        for name in _names(cls):
            if name in cls.registered:
                raise TypeError(f"{cls.__name__}: the name '{name}' is registered already")
            path = cls.implementation
            check_path(path.get(name) if isinstance(path, dict) else path, cls)
            cls.registered[name] = cls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return a class's own schema; for a family, one that accepts any of its techniques."""
        if _names(cls) or Settings in cls.__bases__:  # no setting has the type Technique itself
            return handler(source)
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Return the technique of this family that `{name: …, setting: value}` names.

        Raises pydantic's ValidationError with the errors of a union that is discriminated by `name`.
        """
        return _union(tuple(cls.registered.values())).validate_python(value)

    @classmethod
    def with_trait(cls, trait: str, value: Any = True) -> tuple[str, ...]:
        """Return the names of the family's techniques that have this value of a trait."""
        return tuple(n for n, kind in cls.registered.items() if getattr(kind, trait) == value)

    def load(self) -> Any:
        """Return the implementation."""
        path = self.implementation
        return load(path if isinstance(path, str) else path[self.name], type(self))


@lru_cache
def _union(kinds: tuple[type[Technique], ...]) -> TypeAdapter:
    return TypeAdapter(Annotated[Union[kinds], Field(discriminator="name")])  # noqa: UP007


class ChosenByName:
    """The annotation of a setting that is the name alone of a technique without settings."""

    def __init__(self, family: type[Technique]):
        self.family = family

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._known)

    def _known(self, value: Any) -> str:
        names = [repr(name) for name in self.family.registered]
        if isinstance(value, str) and value in self.family.registered:
            return value
        expected = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        raise PydanticKnownError("literal_error", {"expected": expected})
