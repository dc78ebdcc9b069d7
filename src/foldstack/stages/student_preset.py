"""The preset of a student, as `distil` writes it and finds it again."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foldstack import config
from foldstack.files import write_text
from foldstack.yaml_edit import plain
from foldstack.yaml_text import parse_yaml

MADE = re.compile(r"^# made by `(make distil[^`]*)`, digest (\w+)", re.M)
PLANNED = ("pseudo_labels", "distil", "external_files")


@dataclass(frozen=True)
class StudentPreset:
    """A preset that stands in the workspace.

    Attributes:
        request: the command that wrote it; None if distil did not.
        edited: whether its settings were changed since.
        teachers: the models that it names as teachers of unlabelled rows.
        data: its settings, as text.
    """

    request: str | None
    edited: bool
    teachers: list[str]
    data: dict[str, Any] = field(default_factory=dict, compare=False)

    def has(self, planned: dict[str, Any]) -> bool:
        """Return whether what is learned beside the labels is as planned."""
        wanted = parse_yaml(_body(planned))
        return all(self.data.get(key) == wanted.get(key) for key in PLANNED)

    @classmethod
    def read(cls, path: Path) -> StudentPreset | None:
        """Return the preset in a file; None if there is none. Raises InputError if it is no YAML."""
        if not path.exists():
            return None
        data = config.read_yaml(path)
        made = MADE.search(path.read_text(encoding="utf-8-sig"))
        if made is None:
            return cls(None, True, [])
        of_pseudo = data.get("pseudo_labels")
        teachers = of_pseudo.get("teachers") if isinstance(of_pseudo, dict) else None
        named = list(teachers) if isinstance(teachers, list | dict) else [str(teachers)]
        return cls(made[1], config.digest(data) != made[2], named, data)


def write_preset(path: Path, data: dict[str, Any], request: str, notes: list[str]) -> None:
    """Write a preset with comments.

    Args:
        path: its file.
        data: its settings.
        request: the command that it is written by, which `StudentPreset.read` finds.
        notes: sentences for the comments.
    """
    body = _body(data)
    digest = config.digest(parse_yaml(body))
    made = f"made by `{request}`, digest {digest}: once the settings are edited, it keeps this file"
    write_text(path, "".join(f"# {line}\n" for line in [*notes, made]) + body)


def _body(data: dict[str, Any]) -> str:
    return "".join(f"{key}: {plain(value)}\n" for key, value in data.items())
