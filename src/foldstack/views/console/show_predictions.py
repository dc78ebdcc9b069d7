"""Predictions of new texts on the console."""

from __future__ import annotations

from foldstack.progress import say, table
from foldstack.records import PredictedFile, PredictedText
from foldstack.views.console import show
from foldstack.views.console.text import say_marks


@show.register
def show_predicted_text(predicted: PredictedText) -> None:
    """Print the label, who decided it, and the probabilities."""
    if predicted.label is not None:
        by = "" if predicted.by is None else f" (by {predicted.by})"
        say(f"predict: {predicted.label or 'no label'}{by}")
    rows = [[name, f"{value:.4f}"] for name, value in predicted.probabilities.items()]
    say(table(["", "predicted"], rows))
    say_marks("predict", predicted.stale, predicted.optimistic)


@show.register
def show_predicted_file(predicted: PredictedFile) -> None:
    """Print where the predictions are and which models made them."""
    if predicted.unrecorded is not None:
        say(
            f"warning: {predicted.workspace} cannot be written to ({predicted.unrecorded}), so "
            "it keeps no record that these texts got their labels from it: keep "
            f"{predicted.file} out of `external`"
        )
    members = ", ".join(f"{model} ({count} runs)" for model, count in predicted.runs.items())
    say(f"predict: {predicted.file}, {predicted.rows:,} rows by {predicted.winner} of {members}")
    say_marks("predict", predicted.stale, predicted.optimistic)
