"""Stage: remove what stages have made, never their input."""

from __future__ import annotations

from pathlib import Path

from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.files import remove
from foldstack.records import CleanResult, EmptiedFolder, TidyResult
from foldstack.store import FOLDERS, Store
from foldstack.tidy import require_nothing_is_trained, sort_made, tidy, unfinished


def clean(root: Path, what: str) -> CleanResult | TidyResult:
    """Empty folds/, oof/ or submissions/, remove debug/, or do all of it; links are not followed.

    what: one of these folders, 'all', or 'tmp' for leftovers of killed processes.
    """
    if not (root / "competition.yaml").exists():
        raise InputError(
            f"{root / 'competition.yaml'} does not exist: this is not a workspace, so nothing "
            "is removed"
        )
    if what == "tmp":
        return _clean_tmp(Store(root))
    store = Store(root)
    names = (*FOLDERS, "debug") if what == "all" else (what,)
    folders = [store.folder(name) for name in names]
    for folder in folders:
        if folder.is_symlink():
            raise InputError(
                f"{folder} is a link to {folder.resolve()}, which other workspaces may use: empty "
                "that folder yourself, or remove the link"
            )
    _refuse_named(root, folders)
    if "oof" in names:
        require_nothing_is_trained(store)
    return CleanResult(folders=[_empty(store, name) for name in names])


def _empty(store: Store, name: str) -> EmptiedFolder:
    """Remove from one folder what stages have made."""
    folder = store.folder(name)
    made, kept = _all_of_debug(folder) if name == "debug" else sort_made(store, folder)
    for path in made:
        remove(path)
    removed, left = ([str(path.relative_to(folder)) for path in each] for each in (made, kept))
    return EmptiedFolder(folder=name, removed=removed, kept=left)


def _all_of_debug(folder: Path) -> tuple[list[Path], list[Path]]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.name != ".gitkeep"], []


def _clean_tmp(store: Store) -> TidyResult:
    debug = Store(store.folder("debug"))
    freed = sum(tidy(each) for each in (store, debug))
    left = unfinished(store) | {f"debug/{name}": size for name, size in unfinished(debug).items()}
    return TidyResult(freed=freed, unfinished=left)


def _refuse_named(root: Path, folders: list[Path]) -> None:
    """Raise InputError if one of the folders has an input file named by competition.yaml."""
    for setting, path in Competition.load(root).named_files.items():
        for folder in folders:
            if path.exists() and path.resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"{path} is named by `{setting}` of competition.yaml and would be removed: move it "
                    "into input/, or take that setting out"
                )
