"""Exported models on the console."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import Exported
from foldstack.views.console import show
from foldstack.views.console.text import interval, say_marks


@show.register
def _(made: Exported) -> None:
    """Print each folder with its check, and the model's estimate once."""
    for each in made.folders:
        record = each.export
        say(
            f"export: {each.folder}, {record.run} as {record.form}; on {record.checked_rows} training "
            f"rows it differs from the trained network by at most {record.largest_difference:.1e}"
        )
    record = made.folders[0].export
    if record.estimate is not None:
        say(f"export: {record.metric} {interval(record.estimate)} on out-of-fold rows")
    for note in record.notes:
        say(f"export: {note}")
    say_marks("export", record.stale, record.optimistic)
