"""The debug workspace: the same competition with at most 200 rows per file, in its own folder.

Original files are never changed. Truncated files are written under names defined here. Files that
are read in full are copied if they are in `input/`, else read in place; those of presets are linked.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import yaml

from foldstack import config
from foldstack.competition import Competition
from foldstack.errors import InputError
from foldstack.files import publish, write_table, write_text
from foldstack.input_tables import in_spelling_of
from foldstack.settings import CompetitionSettings, ExternalSource

DEBUG_ROWS = 200
DEBUG_SETTINGS = ("folds.count=2", "training.epochs=1", "training.max_length=64", "repeats=1")
MARK = ".made-by-debug"
PATTERNS = "patterns.yaml"
SOURCES = ("external-", "pool-")  # how names of their files begin
EDITS = "edits.csv"
# Truncated files are always CSV, and given folds are for other rows.
FILES = {
    "files": {"train": "train.csv", "test": "test.csv", "sample": "sample_submission.csv"},
    "folds": {"file": "null"},
    "delimiter": "null",
    "quoting": "csv",
    "header": True,
    "columns": "null",
    "join": [],
}


def make_debug_workspace(root: Path, given: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Write `root/debug` from the current files; return it and the settings to open it with.

    Args:
        given: the settings that the user gave by --set.

    Raises:
        InputError: a file cannot be read, or `root/debug` was not made by this function.
    """
    of_competition, _ = config.split_overrides(given)
    competition = Competition.load(root, of_competition)
    s, place = competition.settings, root / "debug"
    _claim(competition, place)
    ids = _write_truncated(competition, place / "input")
    named: dict[str, Any] = dict(FILES)
    if s.external:
        named["external"] = [
            _external(competition, source, f"external-{i}.csv", place)
            for i, source in enumerate(s.external)
        ]
    if s.pool:
        named["pool"] = [
            _write_rows(competition, name, f"pool-{i}.csv", place) for i, name in enumerate(s.pool)
        ]
    if s.edits is not None:
        named["edits"] = _write_edits(competition, ids, place)
    if isinstance(s.costs, str):
        named["costs"] = _carry(competition, s.costs, place)
    if s.patterns is not None:
        named["patterns"] = _write_patterns(competition, place)
    presets = [p.relative_to(root) for p in (root / "presets").glob("*.yaml")]
    for name in ("competition.yaml", "metrics.py", *presets):
        if (root / name).is_file():
            publish(place / name, (root / name).read_bytes())
    for _, name in competition.models_files:
        _link(competition, name, place)
    overrides = config.merge(config.parse_overrides(list(DEBUG_SETTINGS)), given)
    return place, config.merge(overrides, named)


def _claim(competition: Competition, place: Path) -> None:
    """Mark the folder as made by DEBUG=1. Raises InputError if it may hold the user's files."""
    inner, mark = place / "input", place / MARK
    found = [p for p in place.iterdir() if p.name != ".gitkeep"] if place.exists() else []
    if inner.is_symlink() or (found and not mark.exists()):
        what = f"{inner} is a link" if inner.is_symlink() else f"{place} was not made by DEBUG=1"
        raise InputError(
            f"{what}, so its files may be yours and are not written over: move it away, or remove it "
            "with `make clean-debug`"
        )
    for setting, path in competition.named_files.items():
        if path.resolve().is_relative_to(place.resolve()):
            raise InputError(
                f"{path} is named by `{setting}` of competition.yaml and lies where DEBUG=1 writes: "
                "move it into input/"
            )
    publish(mark, b"Made by DEBUG=1, which writes over the files of this folder.\n")


def _write_truncated(competition: Competition, folder: Path) -> set[str]:
    """Write the first rows of train, test and sample; return the ids of the training rows."""
    s, tables = competition.settings, competition.tables
    train, test = (
        tables.joined(competition.input_path(name), tables.read(name))
        for name in (s.files.train, s.files.test)
    )
    sample = tables.read(s.files.sample)
    rng = np.random.default_rng(0)
    train = train.iloc[_small_sample(train, s, rng)]
    all_ids = test[s.id] if s.id in test.columns else []
    test = test.iloc[np.sort(rng.permutation(len(test))[:DEBUG_ROWS])]
    if s.id in sample.columns and s.id in test.columns:
        sample = sample[in_spelling_of(all_ids, sample[s.id]).isin(test[s.id])]
    for role, table in (("train", train), ("test", test), ("sample", sample)):
        write_table(folder / FILES["files"][role], table, s.encoding)
    return set(train[s.id]) if s.id in train.columns else set()


def _external(
    competition: Competition, source: ExternalSource, name: str, place: Path
) -> dict[str, Any]:
    """Write the first rows of an external file; return it as a source, called as before."""
    return source.model_dump() | {
        "file": _write_rows(competition, source.file, name, place),
        "name": source.called,
    }


def _write_rows(competition: Competition, source: str, name: str, place: Path) -> str:
    """Write the first rows of an external or a pool file; return the new name in `input/`."""
    table = competition.tables.read(source)
    table = competition.tables.joined(competition.input_path(source), table, required=False)
    write_table(place / "input" / name, table.head(DEBUG_ROWS), competition.settings.encoding)
    return name


def _write_edits(competition: Competition, ids: set[str], place: Path) -> str:
    """Write the edits of these training rows; return the new name in `input/`, null without any."""
    s = competition.settings
    table = competition.tables.read(s.edits)
    if s.id in table.columns:
        table = table[in_spelling_of(sorted(ids), table[s.id]).isin(ids)]
    if table.empty:
        return "null"
    write_table(place / "input" / EDITS, table, s.encoding)
    return EDITS


def _write_patterns(competition: Competition, place: Path) -> str:
    """Write the rules and copy the files that they name; return the name of the rules."""
    rules = config.read_yaml(competition.root / competition.settings.patterns)
    for rule in rules.get("rules", []):
        if isinstance(rule, dict) and isinstance(rule.get("texts"), str):
            rule["texts"] = _carry(competition, rule["texts"], place)
    write_text(place / PATTERNS, yaml.safe_dump(rules, allow_unicode=True, sort_keys=False))
    return PATTERNS


def _carry(competition: Competition, name: str, place: Path) -> str:
    """Copy a file that a setting names to `input/`; return its name there, or its full path."""
    source, plain = competition.input_path(name), PurePath(name)
    ours = (*FILES["files"].values(), EDITS)
    taken = name in ours or plain.name.startswith(SOURCES)
    if plain.is_absolute() or ".." in plain.parts or taken or not source.is_file():
        return str(source.resolve())
    publish(place / "input" / name, source.read_bytes())
    return name


def _link(competition: Competition, name: str, place: Path) -> None:
    """Link a file that a model's settings name, which may be large, to `input/`."""
    source, link = competition.input_path(name), place / "input" / name
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts or not source.is_file():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(source.resolve())


def _small_sample(
    table: pd.DataFrame, settings: CompetitionSettings, rng: np.random.Generator
) -> np.ndarray:
    """Return positions of 200 rows; the first three of each label come first, to keep every class."""
    order = rng.permutation(len(table))
    targets = [t for t in settings.target if t in table.columns]
    seen = table.iloc[order].groupby(targets, sort=False).cumcount() if targets else pd.Series()
    first = order[(seen < 3).to_numpy()] if targets else order[:0]
    rest = order[~np.isin(order, first)]
    return np.sort(np.concatenate([first, rest])[:DEBUG_ROWS])
