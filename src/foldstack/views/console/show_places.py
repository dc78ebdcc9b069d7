"""Changes of a workspace's files on the console: the competition written, folders emptied."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from foldstack.competition_file import flow
from foldstack.errors import cut
from foldstack.progress import duration, say
from foldstack.records import (
    CleanResult,
    CompetitionMade,
    DemoForecast,
    DemoResult,
    DemoScores,
    InitResult,
    ReadFile,
    TidyResult,
)
from foldstack.views.console import show


@show.register
def _(made: CompetitionMade) -> None:
    of, presets = ("data", "") if made.presets is None else ("recipe", f", {made.presets} by what")
    say(
        f"{of}: {made.name}, {made.train_rows:,} training and {made.test_rows:,} test rows in "
        f"{made.input}; {made.settings} says what is predicted{presets}"
    )


@show.register
def _(made: InitResult) -> None:
    for copied in made.copied:
        say(f"init: copied {copied.source} to {copied.place}")
    if made.encoding != "utf-8":
        say(
            f"init: encoding: {made.encoding} (guessed: not all files are UTF-8; check a few words)"
        )
    say_read("init", made.files)
    for note in made.notes:
        say(f"init: {note}")
    for each in made.rows:
        name = each.setting
        shown = f"column {flow(name)}" if each.value is None else f"{name}: {_short(each.value)}"
        say(f"init: {shown} ({each.reason})")
    if not made.checked:
        say("init: nothing is written; METRIC= KIND= ID= TEXT= TARGET= PAIR= override")
    else:
        say(
            f"init: {made.file} is written; METRIC= KIND= ID= TEXT= TARGET= PAIR= override, with FORCE=1"
        )
        say(
            "init: next, look at competition.yaml, then `make folds`, `make train`, `make blend submit`"
        )


def say_read(stage: str, files: list[ReadFile]) -> None:
    """Print how many rows were read from how many lines, if these differ, and cells like rows."""
    for each in files:
        name = PurePath(each.file).name
        if each.lines and each.lines != each.rows:
            say(f"{stage}: {name}: {each.rows:,} rows were read from {each.lines:,} lines")
        if each.cells:
            cell, more = each.cells[0], len(each.cells) - 1
            also = f", and {more:,} more cells do" if more else ""
            rows = "1 row" if cell.rows == 1 else f"{cell.rows:,} rows"
            say(
                f"warning: {name}, line {cell.line}: a cell of column '{cut(cell.column)}' holds what "
                f"looks like {rows} of the file{also}: fix its quotes, or set `quoting: none`"
            )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"[{', '.join(map(flow, value[:8]))}, … {len(value) - 8} more]"
    return flow(value)


@show.register
def _(cleaned: CleanResult) -> None:
    for each in cleaned.folders:
        for name in each.kept:
            say(f"clean: {each.folder}/{name} stays: no stage wrote it, or it changed since")
        say(f"clean: {each.folder}/ {'emptied' if each.removed else 'was empty'}")


@show.register
def _(tidied: TidyResult) -> None:
    say(f"clean: {tidied.freed / 2**20:,.1f} MB of temporary files and old checkpoints removed")
    for name, size in tidied.unfinished.items():
        say(
            f"clean: {name} ({size / 2**20:,.1f} MB) is unfinished and stays: `make train` resumes it, "
            "and `rm -r` drops it"
        )


@show.register
def _(forecast: DemoForecast) -> None:
    say(
        f"demo: minilm takes {forecast.learned_per_second:.0f} rows/s in training "
        f"({forecast.precision}) and {forecast.predicted_per_second:.0f} in prediction here: "
        f"{forecast.folds} folds take about {duration(forecast.seconds)}"
    )
    if forecast.short_folds is not None:
        say(
            f"demo: that is more than {forecast.limit // 60} minutes: taking {forecast.short_folds} "
            "folds and one epoch instead; competition.yaml says so, change it there"
        )


@show.register
def _(scored: DemoScores) -> None:
    say("")
    show(scored.scores)


@show.register
def _(done: DemoResult) -> None:
    say(
        f"\ndemo: done in {duration(done.seconds)}; the workspace is {done.workspace}, `make help` "
        "shows what to try next"
    )
