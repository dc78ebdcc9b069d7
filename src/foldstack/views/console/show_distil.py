"""The student of `distil` beside its blend on the console."""

from __future__ import annotations

from foldstack.progress import say, table
from foldstack.records import Distilled, DistilledSide
from foldstack.views.console import show
from foldstack.views.console.text import difference, interval, say_marks

STATES = {
    "kept": "stands as it was written",
    "edited": "was edited and is trained as it is",
}


@show.register
def show_distilled(made: Distilled) -> None:
    """Print the choice, both sides, their difference and the command to predict."""
    if not made.trained and made.state != "written":
        say("distil: nothing is left to train, so that no speed is measured")
    if made.measured:
        _say_choice(made)
    say(f"distil: {made.preset} {STATES.get(made.state, f'is {made.chosen}')}")
    if made.state != "edited":
        weights = ", which count equally: weights that a blend has fitted have seen every label"
        several = weights if len(made.teachers) > 1 else ""
        say(f"distil: taught by {', '.join(made.teachers)}{several}")
    for note in made.notes:
        say(f"distil: {note}")
    if made.why_not_distilled:
        say(f"distil: it learns pseudo-labels alone, since {made.why_not_distilled}")
    rows = [_cells(made.student), _cells(made.blend, "blend ")]
    speed = [] if made.student.rate is None else ["rows/s"]
    say(table(["", f"nested {made.metric}", "runs", "MB", *speed], rows))
    say(
        f"distil: {made.student.name} beside blend '{made.blend.name}': {difference(made.better_by)}, "
        f"{_ratio(made)}"
    )
    for side in (made.student, made.blend):
        say_marks(side.name, [], side.optimistic)
    _say_missed(made)
    command = f'make predict MODEL={made.student.name} FOLD=full TEXT="…"'
    say(f"distil: now `{command}`; its score is that of its fold runs")


def _say_choice(made: Distilled) -> None:
    rows = [
        [each.name, f"{each.mb:.3g}", f"{each.rate:,.0f}", "yes" if each.fits else "no"]
        for each in made.measured
    ]
    say(table(["candidate", "MB", "rows/s", "fits"], rows))
    if made.without_limit:
        say(
            f"distil: {made.chosen} without MB= or RATE=: of the students that are small and quick, it "
            "has scored best (docs/teachers.md)"
        )


def _cells(side: DistilledSide, kind: str = "") -> list[str]:
    score = interval(side.nested)
    speed = [] if side.rate is None else [f"{side.rate:,.0f}"]
    return [f"{kind}{side.name}", score, str(side.runs), f"{side.mb:.3g}", *speed]


def _ratio(made: Distilled) -> str:
    share = f"with {100 * made.student.mb / made.blend.mb:.2g} % of its MB"
    if made.student.rate is None:
        return share
    quicker = made.student.rate / made.blend.rate
    times = f"{quicker:,.0f}" if quicker >= 10 else f"{quicker:.2g}"
    return f"{share} and {times} times its rows a second"


def _say_missed(made: Distilled) -> None:
    """Print which limit the trained student does not keep: an edited one, or on a busy machine."""
    if made.mb is not None and made.student.mb > made.mb:
        say(f"distil: {made.student.name} has more than MB={made.mb:g}: FORCE=1 chooses again")
    own = made.student.rate
    if made.rate is not None and own is not None and own < made.rate:
        say(
            f"distil: {made.student.name} predicts fewer rows a second than RATE={made.rate:g} now: "
            "FORCE=1 chooses again"
        )
