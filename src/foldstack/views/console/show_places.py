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
    CompetitionSummary,
    CompletionScript,
    DemoForecast,
    DemoResult,
    DemoScores,
    GuessReason,
    InitResult,
    ModelForecast,
    ReadFile,
    RememberedSettings,
    TidyResult,
)
from foldstack.views.console import show

OF_FILES = ("delimiter", "header", "quoting", "columns", "join")
CHIEF = (*OF_FILES, "kind", "target", "text", "pair", "segments", "metric", "group")
MOST = 8  # values and columns that are listed


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
    chief = [each for name in CHIEF for each in made.rows if each.setting == name and _is_set(each)]
    further = [each for each in made.rows if each not in chief]
    for each in chief:
        _say_reason(each)
    for each in made.proposals:
        say(f"init: {each.setting.upper()}? {each.reason}")
    _say_forecasts(made.forecasts)
    if made.checked:
        say(
            f"init: {made.file} is written; METRIC= KIND= ID= TEXT= TARGET= PAIR= GROUP= override, with "
            "FORCE=1"
        )
        say(
            "init: next, look at competition.yaml, then `make folds`, `make train`, `make blend submit`"
        )
    else:
        say("init: nothing is written; METRIC= KIND= ID= TEXT= TARGET= PAIR= GROUP= override")
    if made.all_reasons:
        for each in further:
            _say_reason(each)
    else:
        _say_shortly(further)


def _say_forecasts(forecasts: list[ModelForecast]) -> None:
    """Print the time of each model's runs on this machine, and of all of them."""
    known = [each for each in forecasts if each.seconds is not None]
    for each in forecasts:
        if each.seconds is None:
            say(f"init: {each.model}: the time is not known, {each.reason}")
            continue
        work = f", {each.work}" if each.work else ""
        say(f"init: {each.model}: about {duration(each.seconds)} for {each.runs} runs here{work}")
    if len(known) > 1:
        rest = "" if len(known) == len(forecasts) else " of which the time is known"
        say(f"init: all models{rest}: about {duration(sum(each.seconds for each in known))}")


def _is_set(each: GuessReason) -> bool:
    return each.value is not None


def _say_reason(each: GuessReason) -> None:
    name = each.setting
    shown = f"{name}: {_short(each.value)}" if _is_set(each) else f"column {flow(name)}"
    say(f"init: {shown} ({each.reason})")


def _say_shortly(further: list[GuessReason]) -> None:
    """Print further settings on one line, and columns that no setting names on another."""
    settings = [f"{each.setting}: {_short(each.value)}" for each in further if _is_set(each)]
    columns = [flow(each.setting) for each in further if not _is_set(each)]
    more = f" … {len(columns) - MOST} more" if len(columns) > MOST else ""
    if settings:
        say(f"init: besides, {', '.join(settings)} (REASONS=1 says why)")
    if columns:
        say(f"init: columns not used: {', '.join(columns[:MOST])}{more} (REASONS=1 says why)")


def say_read(stage: str, files: list[ReadFile]) -> None:
    """Print how many rows were read from how many lines, if these differ, and cells like rows."""
    for each in files:
        name = PurePath(each.file).name
        if each.lines and each.lines != each.rows:
            why = ", since cells have line breaks" if each.lines > each.rows else ""
            say(f"{stage}: {name}: {each.rows:,} rows were read from {each.lines:,} lines{why}")
        if each.cells:
            cell, more = each.cells[0], len(each.cells) - 1
            also = f", and {more:,} more cells do" if more else ""
            rows = "1 row" if cell.rows == 1 else f"{cell.rows:,} rows"
            say(
                f"warning: {name}, line {cell.line}: a cell of column '{cut(cell.column)}' holds what "
                f"looks like {rows} of the file{also}: fix its quotes, or set `quoting: none`"
            )


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > MOST:
        return f"[{', '.join(map(flow, value[:MOST]))}, … {len(value) - MOST} more]"
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
def _(demo: DemoForecast) -> None:
    made = demo.forecast
    say(
        f"demo: {made.model}, a quick preset, takes {made.learned_per_second:.0f} rows/s in training "
        f"({made.precision}) and {made.predicted_per_second:.0f} in prediction here: "
        f"{made.runs} runs take about {duration(made.seconds)}"
    )
    if demo.short_folds is not None:
        say(
            f"demo: that is more than {demo.limit // 60} minutes: taking {demo.short_folds} folds "
            "instead; competition.yaml says so, change it there"
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


@show.register
def _(found: CompetitionSummary) -> None:
    say(f"{found.name}: {found.kind}, metric {found.metric}, {found.submits} are submitted")
    without = f", {found.unlabelled:,} more without a label" if found.unlabelled else ""
    say(f"rows: {found.train_rows:,} in train{without}, {found.test_rows:,} in test")
    for use, columns in found.columns.items():
        if columns:
            say(f"{use}: {_short(columns)}")
    if found.columns["target"] != found.labels:
        say(f"labels: {_short(found.labels)}")
    say(f"folds: {found.folds or 'none yet'}")
    for model in dict.fromkeys([*found.models, *found.runs]):
        listed = "" if model in found.models else ", not listed in competition.yaml"
        count = found.runs.get(model, 0)
        runs = "no run" if not count else "1 run" if count == 1 else f"{count} runs"
        stale = f", {found.stale[model]} of them stale" if model in found.stale else ""
        say(f"model {model}: {runs}{stale}{listed}")
    for what, names in (("blends", found.blends), ("submissions", found.submissions)):
        if names:
            say(f"{what}: {_short(names)}")
    if found.folds_remark is not None:
        say(f"warning: {found.folds_remark}")
    if not found.metric_confirmed:
        say(
            f"METRIC? {found.metric} was guessed: `make set SET=metric_confirmed=true` if the "
            'competition\'s page says so, else `make set SET="metric=NAME metric_confirmed=true"`'
        )
    say(f"next: `{found.next}`")


@show.register
def _(made: RememberedSettings) -> None:
    for name, value in made.settings.items():
        say(f"set: {name}: {value} is in {made.file}")


@show.register
def _(made: CompletionScript) -> None:
    say(made.script.rstrip())
