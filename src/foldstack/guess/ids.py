"""The id column."""

from __future__ import annotations

import numpy as np

from foldstack.errors import InputError, nearest, some
from foldstack.guess.given import GivenTables, Guess


def guess_id(tables: GivenTables, found: Guess) -> None:
    train, test, sample = tables.train, tables.test, tables.sample
    shared = [c for c in sample.columns if c in test.columns]
    given = tables.given.get("id")
    if given:
        for name, table in (("the sample", sample), ("test", test)):
            if given not in table.columns:
                raise InputError(
                    f"ID={given}: {name} has no column '{given}' ({nearest(given, table.columns)})"
                )
        shared = [given]
    if not shared:
        raise InputError(
            f"test (columns {some(list(test.columns))}) and the sample (columns "
            f"{some(list(sample.columns))}) share no id column: add one with a different value in each "
            "row to both"
        )
    unique = [c for c in shared if test[c].is_unique]
    if not unique:
        row = np.flatnonzero(test[shared[0]].duplicated())[0]
        raise InputError(
            f"test, row {row + 1} repeats '{shared[0]}' '{test[shared[0]].iloc[row]}', and no other "
            "column of the sample names its rows: give every row an id of its own"
        )
    tables.id = unique[0]
    why = (
        "given by ID=" if given else "the sample's column that test has too, different in each row"
    )
    if not given and unique[0] == sample.columns[0]:
        why = "the sample's first column, which test has too, different in each row"
    found.set("id", tables.id, why)
    if tables.id not in train.columns:
        found.set(
            "train_has_id", False, f"train has no column '{tables.id}': its rows are numbered"
        )
