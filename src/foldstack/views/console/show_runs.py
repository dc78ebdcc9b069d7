"""Console views of the stages that make runs."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import TrainedRecord
from foldstack.views.console import show


@show.register
def _(result: TrainedRecord) -> None:
    """Print a line if every run was finished; each that was trained has logged its own."""
    if result.nothing_to_do:
        say(result.nothing_to_do)
