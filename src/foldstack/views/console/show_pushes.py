"""Submissions pushed to a site on the console."""

from __future__ import annotations

from foldstack.progress import say, table
from foldstack.records import Push, PushedFile, PushScores, RankCorrelation
from foldstack.views.console import show
from foldstack.views.console.text import mark, say_marks, span


@show.register
def _(made: PushedFile) -> None:
    """Print what was pushed, and the marks that it had."""
    if made.push is None:
        how = "a new private data set" if made.new else "another version of the data set"
        say(f"push: {made.what} is {how} {made.where}")
        return
    push = made.push
    nested = span(push.nested, push.low, push.high)
    say(
        f"push: {made.what} is submission {push.ref} to {made.where}, nested {push.metric} {nested}: "
        "`make log` shows its scores"
    )
    say_marks("push", push.stale, push.optimistic)


@show.register
def _(found: PushScores) -> None:
    """Print the submissions, how scores rank them, and which to select."""
    header = ["submission", "message", f"nested {found.metric}", "public", "private", "status", ""]
    say(table(header, [_cells(row) for row in found.rows]))
    for name, correlation in (("public", found.public), ("private", found.private)):
        say(f"log: rank correlation of nested and {name} scores: {_shown(correlation)}")
    for chosen in found.select:
        row = found.rows[chosen.row]
        say(f"log: select {row.name} ({row.ref}): {chosen.why}")
    if found.undecided is not None:
        say(f"log: no second one to select: {found.undecided}")
    for row in found.rows:
        if row.error:
            say(f"log: {row.name} ({row.ref}): {row.error}")
        say_marks(f"{row.name} ({row.ref})", row.stale, row.optimistic)


def _cells(row: Push) -> list[str]:
    nested = span(row.nested, row.low, row.high)
    scores = ("–" if score is None else f"{score:.5g}" for score in (row.public, row.private))
    marked = mark(row.stale, row.optimistic)
    return [row.name, row.message, nested, *scores, row.status or "unknown", marked]


def _shown(found: RankCorrelation) -> str:
    if found.correlation is None:
        return f"none, of {found.submissions} submission{'s' * (found.submissions != 1)} with both"
    return f"{found.correlation:+.2f} of {found.submissions} submissions"
