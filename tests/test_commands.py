"""The parser and the dispatch follow from the table of commands, down to a command added to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foldstack.commands import COMMANDS, SEED, Command, Option, at_least_one
from foldstack.views.console import show
from tiny import foldstack, refuses


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the stage of a new command, `count`, is called with."""
    seen: list[tuple] = []

    def count(*args: object, **options: object) -> None:
        seen.append((args, options))

    options = (
        SEED,
        Option("rows", "how many", type=at_least_one, default=7),
        Option("whole", "all of them", switch=True),
        Option("column", "which", into="columns"),
    )
    command = Command("count", "count the rows", "score:count", options)
    monkeypatch.setattr("foldstack.stages.score.count", count, raising=False)
    monkeypatch.setitem(COMMANDS, "count", command)
    return seen


def test_an_entry_of_the_table_is_a_command(workspace: Path, calls: list[tuple]) -> None:
    assert foldstack(workspace, "count") == 0
    assert foldstack(workspace, "count", "--rows", "2", "--whole", "--column=text", "--seed=3") == 0
    (first, unset), (_, given) = calls
    assert first[0].root == workspace
    assert unset == {"seed": None, "rows": 7, "whole": False, "columns": {}}
    assert given == {"seed": "3", "rows": 2, "whole": True, "columns": {"column": "text"}}


def test_it_is_refused_as_others_are(workspace, calls, monkeypatch, capsys) -> None:
    for value in ("0", "-1", "x"):
        sentence = f"--rows (ROWS=): '{value}' is not a whole number of 1 or more"
        refuses(workspace, ["count", f"--rows={value}"], sentence, capsys)
    monkeypatch.setitem(COMMANDS, "count", Command("count", "count", "score:count", no_debug="no"))
    refuses(workspace, ["count", "--debug"], "no", capsys)
    assert not calls


def test_settings_before_and_after_the_command_add_up(workspace: Path, calls: list[tuple]) -> None:
    foldstack(workspace, "--set", "folds.count=4", "count", "--set", "folds.seed=3")
    ((ws,), _) = calls[0]
    assert ws.overrides == {"folds": {"count": "4", "seed": "3"}}


def test_what_a_stage_returns_is_shown(workspace: Path, monkeypatch, capsys) -> None:
    class Total(int):
        pass

    show.register(Total, lambda total: print(f"{total} rows"))
    monkeypatch.setattr("foldstack.stages.score.scores", lambda ws: Total(5))
    assert foldstack(workspace, "scores") == 0
    assert capsys.readouterr().out == "5 rows\n"
