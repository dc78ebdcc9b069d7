"""The base class of the parts of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foldstack.errors import InputError
from foldstack.records import Record, read_record, verify
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

    def _refuse_foreign(self, path: Path, is_own: Callable[[Path], bool], command: str) -> None:
        """Raise InputError if something is at a path where this command is to write its own file."""
        if path.is_symlink() or path.is_dir() or (path.exists() and not is_own(path)):
            raise InputError(
                f"{self.name(path)} is there already and `{command}` did not write it so: move it away"
            )

    def _is_record(self, path: Path, form: type[Record]) -> bool:
        """Return whether a file is an undamaged record of this form."""
        try:
            return path.is_file() and bool(read_record(path, form, self.name(path), ""))
        except InputError:
            return False

    def folder(self, name: str) -> Path:
        """Return a folder of the workspace."""
        return self.root / name
