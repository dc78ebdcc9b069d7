"""Bundles on the console."""

from __future__ import annotations

from foldstack.progress import say
from foldstack.records import BundleResult
from foldstack.views.console import show
from foldstack.views.console.text import interval


@show.register
def show_bundle(made: BundleResult) -> None:
    """Print what was made, what it will take, and how it differs from the submission."""
    say(
        f"bundle: {made.folder}/, {made.mb:,.1f} MB, and {made.packed}, {made.packed_mb:,.1f} MB: "
        f"{made.runs} runs, weights in {made.weights}"
    )
    say(
        f"bundle: {made.rows:,} rows take about {made.minutes:.1f} minutes and {made.peak_mb:,} MB of "
        f"memory on this machine, with {made.threads} thread{'s' * (made.threads != 1)}"
    )
    if made.dropped:
        say(
            f"bundle: without {', '.join(made.dropped)}, which the time limit does not allow, the nested "
            f"{made.metric} is {interval(made.nested)}; stored as blend '{made.name}'"
        )
    say(
        f"bundle: on {made.tried} test rows its predictions differ from the submission's by at most "
        f"{made.largest_difference:.2g}, {made.other_decisions} are decided otherwise"
    )
    say(f"bundle: predict with `python {made.folder}/infer.py --input FOLDER`, or infer.ipynb")
