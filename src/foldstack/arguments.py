"""Checks of the arguments of the Python API, which raise InputError."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from foldstack.config import split_settings
from foldstack.errors import InputError, shown

# Text as on the command line, or Python values: `0`, `[0, 1]`, `"0,2-4"`, `"full"`.
Chosen = str | int | Iterable[str | int] | None


def as_text(chosen: Chosen, name: str) -> str | None:
    """Return a choice of models, folds or seeds in the syntax of the command line.

    name: of the argument, for messages.
    """
    if chosen is None or isinstance(chosen, str):
        return chosen
    number = _integer(chosen)
    if number is not None:
        return str(number)
    parts = [chosen] if isinstance(chosen, bytes | Mapping) else _listed(chosen)
    texts = [part if isinstance(part, str) else _integer(part) for part in parts]
    if None in texts:
        raise InputError(
            f"{name}={shown(chosen)}: give a name, a whole number, a list of them, or None for all"
        )
    if not texts:
        raise InputError(f"{name}={shown(chosen)} names nothing: give None for all")
    return ",".join(map(str, texts))


def whole_number(value: Any, name: str, least: int = 1) -> int:
    """Return a whole number of `least` or more."""
    number = _integer(value)
    if number is None or number < least:
        raise InputError(f"{name}={shown(value)} is not a whole number of {least} or more")
    return number


def above_zero(value: Any, name: str) -> float | None:
    """Return a number above 0; None if none is given."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise InputError(f"{name}={shown(value)} is not a number above 0")
    return float(value)


def one_name(value: Any, name: str) -> str | None:
    """Return the name of one model, blend or the like; None if none is given."""
    if value is not None and not isinstance(value, str):
        raise InputError(f"{name}={shown(value)} is not a name: give a text")
    return value


def switch(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name}={shown(value)} is neither True nor False")
    return value


def folder(value: Any, name: str) -> Path:
    if not isinstance(value, str | Path):
        raise InputError(f"{name}={shown(value)} is not a folder: give its path")
    return Path(value)


def settings(sets: Any) -> list[str]:
    """Return settings as a list of `name=value`; several in one text are split as by `--set`."""
    given = [sets] if isinstance(sets, str) else sets
    texts = [given] if isinstance(given, bytes | Mapping) else _listed(given)
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"sets={shown(sets)}: give a list of texts such as 'folds.count=10'")
    return [setting for text in texts for setting in split_settings(text)]


def _listed(value: Any) -> list[Any]:
    """Return the parts of a value; the value itself if it has none."""
    try:
        return list(value)
    except TypeError:
        return [value]


def _integer(value: Any) -> int | None:
    """Return a whole number, of Python or of numpy; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
