"""The jinja2 environment of what is shown as HTML."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import Environment, FunctionLoader, StrictUndefined


def environment(read: Callable[[str], str]) -> Environment:
    """Return an environment that escapes all text; `read` returns a template by its name."""
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(read),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["abs"] = abs
    return made
