"""Remove what stages have made, never what they were given."""

from __future__ import annotations

import shutil
from pathlib import Path

from foldstack.errors import InputError
from foldstack.progress import say


def clean(root: Path, what: str) -> None:
    """Empty folds/, oof/, submissions/, remove debug/, or all of them; of a link the link alone."""
    if not (root / "competition.yaml").exists():
        raise InputError(
            f"{root / 'competition.yaml'} does not exist: this is no workspace, so nothing "
            "is removed"
        )
    names = ("folds", "oof", "submissions", "debug") if what == "all" else (what,)
    for folder in (root / name for name in names):
        if folder.is_symlink():
            raise InputError(
                f"{folder} is a link to {folder.resolve()}, which other workspaces may use: empty "
                "that folder yourself, or remove the link"
            )
    for name in names:
        folder, count = root / name, 0
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name == ".gitkeep":
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            count += 1
        say(f"clean: {name}/ {'emptied' if count else 'was empty'}")
