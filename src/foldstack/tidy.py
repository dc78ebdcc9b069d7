"""Removal of leftovers of killed processes, and recognition of files made by stages."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from foldstack import config
from foldstack.files import remove, size_of
from foldstack.store import FOLDERS, TEMPORARY, Store

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
    caches = [*store.tokens_dir.glob(".part-*"), *store.tokens_dir.glob(".removed-*")]
    return freed + sum(remove(path) for path in caches if _is_left(path))


def unfinished(store: Store) -> dict[str, int]:
    """Return the bytes of unfinished runs and backbones, by name."""
    return {store.name(path): size_of(path) for path in store.unfinished()}


def has_made(store: Store, path: Path) -> bool:
    """Return whether a stage made this file or folder of folds/, oof/ or submissions/."""
    if path.name.startswith("."):
        return path.is_dir() or path.suffix == ".lock" or _is_ours(path)
    if path.parent == store.folder("folds"):
        made = (store.folds_path, store.folds_record_path, store.folds_report_path)
        return path in (*made, store.drift_path, store.drift_rows_path)
    if path.parent == store.folder("submissions"):
        return path == store.private_dir or _is_own_submission(store, path)
    kept = ("oof.parquet", "views.csv")
    return path.name.startswith("_") or (
        path.is_dir() and (any(path.glob("seed*")) or any((path / k).exists() for k in kept))
    )


def _is_own_submission(store: Store, path: Path) -> bool:
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
