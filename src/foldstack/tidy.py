"""Removal of leftovers of killed processes, and recognition of files made by stages."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from foldstack import config
from foldstack.files import remove, size_of
from foldstack.store import FOLDERS, TEMPORARY, Store

SEED = re.compile(r"seed\d+")
OURS = re.compile(r"\..+\.\d+\.tmp")
LEFT_SECONDS = 600  # a file that is being written is modified more often


def tidy(store: Store) -> int:
    """Remove what kills have left in the workspace; return the bytes freed.

    Unfinished runs and backbones are kept: the command that made them resumes them.
    """
    freed = sum(store.tidy_run(key) for key in store.run_keys()) + store.tidy_blends()
    made = [store.folder(name) for name in (*FOLDERS, "predictions", "input")]
    for folder in [*made, store.root]:
        found = folder.glob(TEMPORARY) if folder == store.root else folder.rglob(TEMPORARY)
        freed += sum(remove(path) for path in list(found) if _is_ours(path) and _is_left(path))
    sharded = (store.tokens_dir, store.vectors_dir, store.filled_dir)
    caches = [
        p for folder in sharded for name in (".part-*", ".removed-*") for p in folder.glob(name)
    ]
    return freed + sum(remove(path) for path in caches if _is_left(path))


def unfinished(store: Store) -> dict[str, int]:
    """Return the bytes of unfinished runs and backbones, by name."""
    return {store.name(path): size_of(path) for path in store.unfinished()}


def sort_made(store: Store, folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what stages have made below folds/, oof/ or submissions/, and what they have not.

    A folder is one entry if all that is in it is of one sort. Links are not followed.
    """
    made, kept = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name == ".gitkeep" and folder.parent == store.root:
            continue
        if not _is_shared(store, path):
            (made if _has_made(store, path) else kept).append(path)
            continue
        inner_made, inner_kept = sort_made(store, path)
        if inner_made and inner_kept:
            made += inner_made
            kept += inner_kept
        elif inner_made or (not inner_kept and _is_of_stages(store, path)):
            made.append(path)
        else:
            kept.append(path)
    return made, kept


def _is_shared(store: Store, path: Path) -> bool:
    """Return whether a folder holds files of stages, beside which the user may have put others."""
    if path.is_symlink() or not path.is_dir():
        return False
    if path in store.shared_folders:
        return True
    oof = store.folder("oof")
    if path.parent == oof:  # a model, unless it is the blend of an old version
        return bool(config.MODEL_NAME.fullmatch(path.name)) and not (path / "oof.parquet").exists()
    named = path.parent.parent == oof and path.parent not in store.shared_folders
    return named and bool(SEED.fullmatch(path.name))


def _is_of_stages(store: Store, path: Path) -> bool:
    """Return whether an empty folder has a name that stages give."""
    return path in store.shared_folders or bool(SEED.fullmatch(path.name))


def _has_made(store: Store, path: Path) -> bool:
    """Return whether a stage made this file, or this folder as a whole."""
    parent, oof = path.parent, store.folder("oof")
    if path.suffix == ".lock" or _is_ours(path):
        return path.name.startswith(".")
    if parent == oof:
        texts = (store.tokens_dir, store.vectors_dir, store.filled_dir, store.near_dir)
        return path in (*texts, store.pretrained_dir, store.index_dir) or _is_whole_model(path)
    if parent == store.folder("folds"):
        files = (store.folds_path, store.folds_record_path, store.folds_report_path)
        return (path in files and store.are_as_written()) or store.is_of_drift(path)
    if parent == store.folder("submissions"):
        return _is_own_submission(store, path)
    known = {
        store.private_dir: store.is_private_report,
        store.blends_dir: store.is_of_blend,
        store.audits_dir: store.is_audit,
        store.comparisons_dir: store.is_comparison,
    }
    if parent in known:
        return known[parent](path)
    if SEED.fullmatch(parent.name):
        return store.is_of_run(path)
    return path.is_file() and path.name == "views.csv" and store.is_views(path)


def _is_whole_model(path: Path) -> bool:
    """Return whether this is the blend of an old version, or a link to a model's folder."""
    return path.is_dir() and ((path / "oof.parquet").exists() or any(path.glob("seed*")))


def _is_own_submission(store: Store, path: Path) -> bool:
    if path.suffix == ".html":
        return path.is_file() and not path.is_symlink() and store.is_page(path)
    if path.suffix not in (".csv", ".json") or not config.MODEL_NAME.fullmatch(path.stem):
        return False
    record, table = path.with_suffix(".json"), path.with_suffix(".csv")
    if not record.exists() or not store.is_submissions(record):
        return False
    return not table.exists() or store.is_as_submitted(path.stem, store.read_submission(record))


def require_nothing_is_trained(store: Store) -> None:
    """Raise InputError if a process holds a run's lock."""
    for key in store.locked_keys():
        with store.lock(key):
            pass


def _is_ours(path: Path) -> bool:
    """Return whether a temporary file is named as `files.publish` names them."""
    return path.is_file() and not path.is_symlink() and bool(OURS.fullmatch(path.name))


def _is_left(path: Path) -> bool:
    """Return whether this temporary file is old and its process no longer runs.

    The process id in its name may be of another machine that shares the disk.
    """
    number = path.name.split(".")[-2]
    old = time.time() - path.stat().st_mtime > LEFT_SECONDS
    if not number.isdecimal():
        return old
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return old
    except PermissionError:
        pass
    return False
