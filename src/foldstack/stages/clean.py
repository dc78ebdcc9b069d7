"""Remove what stages have made, never what they were given."""

from __future__ import annotations

from pathlib import Path

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.files import remove
from foldstack.progress import say
from foldstack.store import Store
from foldstack.tidy import has_made, require_nothing_is_trained, tidy, unfinished


def clean(root: Path, what: str) -> None:
    """Empty folds/, oof/, submissions/, remove debug/, or all of them; of a link the link alone.

    what: one of these, 'all', or 'tmp' for what kills have left.
    """
    if not (root / "competition.yaml").exists():
        raise InputError(
            f"{root / 'competition.yaml'} does not exist: this is no workspace, so nothing "
            "is removed"
        )
    if what == "tmp":
        return _clean_tmp(Store(root))
    names = ("folds", "oof", "submissions", "debug") if what == "all" else (what,)
    for folder in (root / name for name in names):
        if folder.is_symlink():
            raise InputError(
                f"{folder} is a link to {folder.resolve()}, which other workspaces may use: empty "
                "that folder yourself, or remove the link"
            )
    _refuse_named(root, [root / name for name in names])
    store = Store(root)
    if "oof" in names:
        require_nothing_is_trained(store)
    for name in names:
        folder, count = root / name, 0
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name == ".gitkeep":
                continue
            if name != "debug" and not has_made(store, path):
                say(f"clean: {name}/{path.name} stays: no stage has made it, or not as it is now")
                continue
            remove(path)
            count += 1
        say(f"clean: {name}/ {'emptied' if count else 'was empty'}")


def _clean_tmp(store: Store) -> None:
    freed = sum(tidy(each) for each in (store, Store(store.root / "debug")))
    say(f"clean: {freed / 2**20:,.1f} MB of temporary files and old checkpoints removed")
    left = unfinished(store) | {
        f"debug/{name}": size for name, size in unfinished(Store(store.root / "debug")).items()
    }
    for name, size in left.items():
        say(
            f"clean: {name} ({size / 2**20:,.1f} MB) is unfinished and stays: `make train` resumes it, "
            "and `rm -r` drops it"
        )


def _refuse_named(root: Path, folders: list[Path]) -> None:
    """Raise InputError if a file that competition.yaml names as input lies in one of the folders."""
    for setting, path in Competition.load(root).named_files.items():
        for folder in folders:
            if path.exists() and path.resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"{path} is named by `{setting}` of competition.yaml and would be removed: move it "
                    "into input/, or take that setting out"
                )
