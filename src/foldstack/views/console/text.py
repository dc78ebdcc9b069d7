"""Parts of lines that several views print."""

from __future__ import annotations

import math
from collections.abc import Iterable

from foldstack.progress import say
from foldstack.records import DifferenceRecord, EstimateRecord, FoldsUsed

UNDEFINED = "undefined"
MANY = 0.05  # of the resamples, whose lack is said beside an interval


def number(value: float, form: str = ".4f") -> str:
    """Return a number with four decimals, or `undefined`."""
    return UNDEFINED if math.isnan(value) else format(value, form)


def interval(estimate: EstimateRecord) -> str:
    """Return `0.8012 [0.7903, 0.8121]`, or `undefined`."""
    return span(estimate.score, estimate.low, estimate.high)


def span(score: float, low: float, high: float) -> str:
    """Return the same from its numbers; without an interval if that is undefined."""
    if math.isnan(score) or math.isnan(low):
        return number(score)
    return f"{score:.4f} [{low:.4f}, {high:.4f}]"


def difference(d: DifferenceRecord) -> str:
    """Return `+0.0012 [-0.0003, +0.0027]`, or `undefined`."""
    if math.isnan(d.difference):
        return UNDEFINED
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


def say_undefined(
    name: str, undefined: Iterable[str] | None, nested: EstimateRecord | None = None
) -> None:
    """Print what of a metric is undefined, and if many resamples of the bootstrap are."""
    for reason in undefined or ():
        say(f"{name}: {reason}")
    share = nested and nested.undefined_share
    if share and share > MANY and not math.isnan(nested.score):
        say(
            f"{name}: the score is undefined in {share:.0%} of the bootstrap's resamples; the interval "
            "is of the others"
        )


def mark(stale: Iterable[str], optimistic: Iterable[str]) -> str:
    """Return the marks for a table's cell."""
    words = [word for word, why in (("stale", stale), ("optimistic", optimistic)) if why]
    return ", ".join(words)
