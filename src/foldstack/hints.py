"""Commands that sentences name, completed by the options of the call that prints them.

Sentences name make targets. Where make did not start the call, they become commands of `foldstack`.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from foldstack.commands import COMMANDS, Command

COMMAND = re.compile(r"`(make [a-z][^`]*)`")
OF_MAKE = {"test", "venv", "lock", "lint", "reference", "help", "bench", "all"}
_options: list[tuple[str, str]] = []
_by_make = [True]


def remember(workspace: Path, debug: bool) -> None:
    """Let the commands of later sentences work in this call's workspace."""
    _by_make[0] = "MAKELEVEL" in os.environ
    _options.clear()
    if workspace != Path("."):
        _options.append(("WORKSPACE", str(workspace)))
    if debug:
        _options.append(("DEBUG", "1"))


def completed(text: str) -> str:
    """Return a sentence whose commands in backquotes can be pasted: `make folds WORKSPACE=toxic`."""
    return COMMAND.sub(_with_options, text) if _options or not _by_make[0] else text


def _with_options(found: re.Match) -> str:
    return f"`{' && '.join(map(_completed, found[1].split(' && ')))}`"


def _completed(command: str) -> str:
    target = command.split()[1]
    if target in OF_MAKE - {"all"}:
        return command
    missing = [f"{k}={shlex.quote(v)}" for k, v in _options if f" {k}=" not in command]
    whole = " ".join([command, *missing])
    if _by_make[0] or target in OF_MAKE:
        return whole
    return _without_make(whole)


def _without_make(command: str) -> str:
    """Return `foldstack --workspace w blend && foldstack --workspace w submit` for a make command."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:  # an ellipsis of quotes
        return command
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z0-9]+=", word))
    targets = [word for word in words if "=" not in word]
    first = [f"--workspace {shlex.quote(given['WORKSPACE'])}"] if "WORKSPACE" in given else []
    first += [f"--set {shlex.quote(given['SET'])}"] if "SET" in given else []
    first += ["--debug"] if given.get("DEBUG") else []
    return " && ".join(" ".join(["foldstack", *first, _subcommand(t, given)]) for t in targets)


def _subcommand(target: str, given: dict[str, str]) -> str:
    """Return a command with those of the options that it has."""
    name, _, choice = target.partition("-")
    command: Command | None = COMMANDS.get(name)
    if command is None:
        return target
    words = [name, *([choice] if choice else [])]
    for option in command.options:
        value = given.get(option.variable)
        if value is not None:
            words.append(f"--{option.name}" + ("" if option.switch else f" {shlex.quote(value)}"))
    return " ".join(words)
