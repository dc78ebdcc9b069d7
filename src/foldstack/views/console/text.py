"""Parts of lines that several views print."""

from __future__ import annotations

from collections.abc import Iterable

from foldstack.progress import say
from foldstack.records import DifferenceRecord, EstimateRecord, FoldsUsed


def interval(estimate: EstimateRecord) -> str:
    """Return `0.8012 [0.7903, 0.8121]`."""
    return f"{estimate.score:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


def difference(d: DifferenceRecord) -> str:
    """Return `+0.0012 [-0.0003, +0.0027]`."""
    return f"{d.difference:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"


def nested(folds: FoldsUsed | None) -> str:
    """Return `nested ` before a score or decisions; nothing with one fold, which nests nothing."""
    return "nested " if folds is None or len(folds.numbers) > 1 else ""


def say_marks(name: str, stale: Iterable[str], optimistic: Iterable[str]) -> None:
    """Print a line for each reason to doubt a number."""
    for reason in stale:
        say(f"{name}: STALE, {reason}")
    for reason in optimistic:
        say(f"{name}: OPTIMISTIC, {reason}")


def mark(stale: Iterable[str], optimistic: Iterable[str]) -> str:
    """Return the marks for a table's cell."""
    words = [word for word, why in (("stale", stale), ("optimistic", optimistic)) if why]
    return ", ".join(words)
