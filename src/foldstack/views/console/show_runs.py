"""Console views of the stages that make runs."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import TrainedRecord
from foldstack.views.console import show
from foldstack.views.console.show_scores import show_models
from foldstack.views.console.text import say_marks


@show.register
def _(result: TrainedRecord) -> None:
    """Print the models' scores, or a line if every run was finished; each run has logged its own."""
    for sentence in result.missing:
        say(sentence)
    if result.nothing_to_do:
        say(result.nothing_to_do)
    if result.scores is not None and result.scores.rows:
        show_models(result.scores)
        for row in result.scores.rows:
            say_marks(row.model, [], row.optimistic)
