"""The base class of the parts of the store."""

from __future__ import annotations

from pathlib import Path

from foldstack.records import verify
from foldstack.store.advice import make_again


class StorePart:
    """A part of the files of one workspace."""

    def __init__(self, root: Path):
        self.root = root

    def name(self, path: Path) -> str:
        """Return a path as messages show it: relative to the workspace."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def _verify(self, folder: Path, files: dict[str, str] | None, what: str) -> None:
        verify(folder, files, what, self.name(folder), lambda: make_again(folder))

    def folder(self, name: str) -> Path:
        """Return a folder of the workspace."""
        return self.root / name
