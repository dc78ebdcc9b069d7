"""Predictions of new texts on the console."""

from __future__ import annotations

from itertools import groupby

from foldstack.progress import say, table
from foldstack.records import AttendedText, PredictedFile, PredictedText
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
    if predicted.attention is not None:
        show_attended_text(predicted.attention)


@show.register
def show_attended_text(attended: AttendedText) -> None:
    """Print each token with its weight, sentence by sentence if the head reads sentences."""
    run = attended.run
    if attended.runs > 1:
        run += f", the first of {attended.runs} runs"
    if attended.fits > 1:
        run += f", in the first of its {attended.fits} fits"
    say(f"attention of {run}" + ("" if attended.label is None else f", for {attended.label}"))
    for number, tokens in enumerate(attended.windows, 1):
        if len(attended.windows) > 1:
            say(f"window {number} of {len(attended.windows)}")
        for sentence, group in groupby(tokens, key=lambda each: each.sentence):
            own = list(group)
            if sentence is not None:
                say(f"{sum(each.weight for each in own):.4f}  sentence {sentence}")
            indent = "" if sentence is None else "    "
            for each in own:
                say(f"{indent}{each.weight:.4f}  {each.token}")


@show.register
def show_predicted_file(predicted: PredictedFile) -> None:
    """Print where the predictions are and which models made them."""
    if predicted.unrecorded is not None:
        say(
            f"warning: {predicted.workspace} cannot be written to ({predicted.unrecorded}), so "
            "it keeps no record that these texts got their labels from it: keep "
            f"{predicted.file} out of `external`"
        )
    members = ", ".join(
        f"{model} ({count} run{'s' * (count != 1)})" for model, count in predicted.runs.items()
    )
    say(f"predict: {predicted.file}, {predicted.rows:,} rows by {predicted.winner} of {members}")
    say_marks("predict", predicted.stale, predicted.optimistic)
