"""Finished parts of a run, stages or repeated fits, which are not trained again after a kill."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foldstack.errors import InputError
from foldstack.progress import say
from foldstack.records import Record, read_mapping, verify

FACTS = "facts.json"


def finished_facts(
    folder: Path, name: str, again: str, required: Iterable[str]
) -> dict[str, Any] | None:
    """Return the facts of a finished part of a run; None if it is unfinished or damaged, which is said.

    Args:
        folder: of the part, with FACTS, which has the digests of the other files.
        name: of the part, for messages.
        again: what is done if it is damaged, for messages.
        required: files that it must have.
    """
    if not (folder / FACTS).exists():
        return None
    try:
        facts = read_mapping(folder / FACTS, Record, name, again)
        files = facts.pop("files", None)
        for file in (*required, *(files or {})):
            verify(folder, files, file, name, again)
    except (InputError, OSError) as e:
        say(str(e))
        return None
    return facts
