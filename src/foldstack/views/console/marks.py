"""Reasons to doubt a number, as lines and as cells of a table."""

from __future__ import annotations

from collections.abc import Iterable

from foldstack.progress import say
from foldstack.results import Marks


def show_marks(marks: Marks) -> None:
    """Print one line per reason."""
    for reason in marks.stale:
        say(f"{marks.name}: STALE, {reason}")
    for reason in marks.optimistic:
        say(f"{marks.name}: OPTIMISTIC, {reason}")


def words(stale: Iterable[str], optimistic: Iterable[str]) -> list[str]:
    """Return the words for what there are reasons of."""
    return [word for word, why in (("stale", stale), ("optimistic", optimistic)) if why]
