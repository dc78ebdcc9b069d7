"""Commands that sentences name, completed by the options of the call that prints them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

COMMAND = re.compile(r"`(make [a-z][^`]*)`")
WITHOUT_WORKSPACE = {"test", "venv", "lock", "lint", "reference", "help", "bench"}
_options: list[tuple[str, str]] = []


def remember(workspace: Path, debug: bool) -> None:
    """Let the commands of later sentences work in this call's workspace."""
    _options.clear()
    if workspace != Path("."):
        _options.append(("WORKSPACE", str(workspace)))
    if debug:
        _options.append(("DEBUG", "1"))


def completed(text: str) -> str:
    """Return a sentence whose commands in backquotes can be pasted: `make folds WORKSPACE=toxic`."""
    return COMMAND.sub(_with_options, text) if _options else text


def _with_options(found: re.Match) -> str:
    command = found[1]
    if command.split()[1] in WITHOUT_WORKSPACE:
        return found[0]
    missing = [f"{k}={shlex.quote(v)}" for k, v in _options if f" {k}=" not in command]
    return f"`{' '.join([command, *missing])}`"
