"""Remove what stages have made, never what they were given."""

from __future__ import annotations

import shutil
from pathlib import Path

from foldstack.errors import InputError
from foldstack.progress import say


def clean(root: Path, what: str) -> None:
    """Empty folds/, oof/, submissions/, remove debug/, or all of them."""
    if not (root / "competition.yaml").exists():
        raise InputError(
            f"{root / 'competition.yaml'} does not exist: this is no workspace, so nothing "
            "is removed"
        )
    for name in ("folds", "oof", "submissions", "debug") if what == "all" else (what,):
        folder, count = root / name, 0
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name == ".gitkeep":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            count += 1
        say(f"clean: {name}/ {'emptied' if count else 'was empty'}")
