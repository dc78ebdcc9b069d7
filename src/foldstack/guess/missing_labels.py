"""Training rows without a label: refused, or as UNLABELLED= says."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np

from foldstack.errors import InputError, some
from foldstack.guess.contents import MANY_NUMBERS, distinct
from foldstack.guess.given import GivenTables, Guess
from foldstack.kinds import Kind
from foldstack.labels import value_of
from foldstack.separators import find_separator
from foldstack.settings import CompetitionSettings
from foldstack.targets import marks_among, missing_values, unlabelled_sentence

RARE = 0.1  # the share of rows up to which `-` among names may mark rows without a label
WAYS = get_args(CompetitionSettings.model_fields["unlabelled"].annotation)


def guess_unlabelled(tables: GivenTables, found: Guess) -> None:
    """Refuse rows without a label, or set what happens with them and guess from the others."""
    way = tables.given.get("unlabelled", "refuse")
    if way not in WAYS:
        raise InputError(f"UNLABELLED={way}: choose one of {', '.join(WAYS)}")
    if way != "refuse":
        found.set("unlabelled", way, "given by UNLABELLED=")
    if way == "class":
        return
    target, train = found.settings["target"], tables.train.reset_index(drop=True)
    of_columns = {c: train[c].isin(_missing(tables, c, target)).to_numpy() for c in target}
    missing = np.any([*of_columns.values()], axis=0)
    if missing.any() and way == "refuse":
        column = next(name for name, own in of_columns.items() if own.any())
        own, rows = of_columns[column], int(missing.sum())
        raise InputError(
            unlabelled_sentence(Path("train"), train[column], own, len(target) - 1, rows)
        )
    if missing.all() and len(missing):
        raise InputError(f"UNLABELLED={way}: no row of train has a label: name another TARGET=")
    if missing.any():
        tables.train = tables.train[~missing].reset_index(drop=True)
    if way == "refuse" and len(found.settings["target"]) == 1:
        _ask_for_marks(tables, found)


def _ask_for_marks(tables: GivenTables, found: Guess) -> None:
    """Propose to leave out rows whose rare label looks like a mark for none."""
    column = found.settings["target"][0]
    cells = tables.train[column]
    marks = marks_among(distinct(cells))
    rows = cells.isin(marks).sum()
    if not 0 < rows <= RARE * len(cells) or find_separator(distinct(cells)) is not None:
        return
    found.propose(
        "unlabelled",
        "drop",
        f"'{column}' holds {some(sorted(marks))} in {rows:,} of {len(cells):,} rows: if these rows have "
        f"no label, give {tables.again(unlabelled='drop')}; UNLABELLED=class confirms a class",
    )


def _missing(tables: GivenTables, column: str, target: tuple[str, ...]) -> set[str]:
    """Return the values of a target column that say that a row has no label."""
    values = distinct(tables.train[column])
    labels = {value_of(v) for v in values}
    quantities = len(labels) > MANY_NUMBERS or tables.given.get("kind") == Kind.REGRESSION
    missing = missing_values(values, numbers=quantities or labels == {-1.0, 1.0})
    if len(target) == 1 and tables.given.get("unlabelled") in ("drop", "pool"):
        missing |= marks_among(values)
    if len(target) == 1 and "" in missing and find_separator(values) is not None:
        missing.discard("")  # a row without any label
    return missing
