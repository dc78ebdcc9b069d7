"""The folder folds/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foldstack.config import digest
from foldstack.errors import InputError, cut
from foldstack.files import together, write_table
from foldstack.records import FoldsRecord, read_record, write_record
from foldstack.rows import Rows
from foldstack.store.part import StorePart
from foldstack.store.splits import Folds
from foldstack.tables import read_table


class FoldFiles(StorePart):
    """The folds of one workspace."""

    @property
    def folds_path(self) -> Path:
        return self.root / "folds" / "folds.csv"

    @property
    def folds_record_path(self) -> Path:
        return self.folds_path.with_name("folds.json")

    @property
    def folds_report_path(self) -> Path:
        """The table with one row per fold and all labels."""
        return self.folds_path.with_name("report.csv")

    @staticmethod
    def folds_hash(ids: np.ndarray, splits: np.ndarray, groups: np.ndarray | None = None) -> str:
        """Return the hash of everything that determines the rows a run learns from.

        Args:
            ids: (n,) ids.
            splits: (n,) or (n, repeats) folds.
            groups: (n,) groups of folds in time order.
        """
        columns = [splits] if groups is None else [splits, groups]
        numbers = np.column_stack(columns).astype(int).tolist()
        return digest([[str(i), *row] for i, row in zip(ids, numbers, strict=True)])

    def write_folds(
        self, rows: Rows, folds: Folds, record: FoldsRecord, per_fold: pd.DataFrame
    ) -> None:
        """Write folds.csv, folds.json and report.csv together.

        Args:
            rows: the n training rows.
            folds: their folds.
            record: the content of folds.json.
            per_fold: the table for report.csv, one row per fold.
        """
        table = pd.DataFrame({"id": rows.ids})
        for split, fold in enumerate(folds.splits.T):
            table[f"fold_{split}" if split else "fold"] = fold
        if folds.groups is not None:
            table["group"] = folds.groups
        with together():
            write_record(self.folds_record_path, record.to_json())
            write_table(self.folds_report_path, per_fold)
            write_table(self.folds_path, table)

    def are_as_written(self) -> bool:
        """Return whether folds.csv and folds.json are as `write_folds` wrote them."""
        try:
            record = self.read_folds_record()
            table = read_table(self.folds_path, "utf-8")
            splits, groups = self._splits_and_groups(table, self.name(self.folds_path))
        except InputError:
            return False
        found = self.folds_hash(table["id"].to_numpy(), splits, groups)
        return record is not None and record.hash == found

    def foreign_folds(self) -> Path | None:
        """Return a file in the place of one of folds/ that `write_folds` did not write; None if none.

        folds.json is the first to be put in place, so that after a kill the others are known by it.
        """
        if self._is_record(self.folds_record_path, FoldsRecord):
            return None
        paths = (self.folds_path, self.folds_report_path, self.folds_record_path)
        return next((path for path in paths if path.exists()), None)

    def has_folds(self) -> bool:
        return self.folds_path.exists()

    def read_folds(self, rows: Rows) -> Folds:
        """Return the stored folds in the order of these rows.

        Raises InputError if there are none, if they are damaged, or if they are for other rows.
        """
        if not self.has_folds():
            raise InputError(f"{self.name(self.folds_path)} does not exist: run `make folds` first")
        name = self.name(self.folds_path)
        try:
            table = read_table(self.folds_path, "utf-8")
        except InputError as e:
            raise InputError(f"{name} is damaged: {e}; run `make folds FORCE=1`") from None
        splits, groups = self._splits_and_groups(table, name)
        if len(table) != len(rows) or set(table["id"]) != set(rows.ids):
            raise InputError(
                f"{name} is for other rows than input/train.csv ({len(table)} ids there, "
                f"{len(rows)} here): run `make folds FORCE=1`"
            )
        # Either file may have been sorted since: align by id.
        in_file = self.folds_hash(table["id"].to_numpy(), splits, groups)
        order = pd.Index(table["id"]).get_indexer(rows.ids)
        splits, groups = splits[order], None if groups is None else groups[order]
        of_rows = self.folds_hash(rows.ids, splits, groups)
        return Folds(splits, self._folds_settings(of_rows, in_file), of_rows, groups)

    def _splits_and_groups(
        self, table: pd.DataFrame, name: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return (n, splits) folds and (n,) groups, if any, of the rows of folds.csv."""
        columns = list(table.columns)
        timed = columns == ["id", "fold", "group"]
        of_splits = columns[1:2] if timed else columns[1:]
        if columns[:2] != ["id", "fold"] or of_splits[1:] != [
            f"fold_{split}" for split in range(1, len(of_splits))
        ]:
            raise InputError(
                f"{name} has columns {', '.join(columns)}: id and fold are required; "
                "run `make folds FORCE=1`"
            )
        least = -1 if timed else 0
        found = [self._fold_numbers(table, c, name, least, len(of_splits)) for c in of_splits]
        splits = np.column_stack(found)
        self._refuse_gaps(splits, name)
        return splits, self._fold_numbers(table, "group", name, 0, 1) if timed else None

    def _folds_settings(self, found: str, in_file: str) -> dict[str, Any]:
        """Return the settings in folds.json, if it exists; its hash must be one of these."""
        record = self.read_folds_record()
        if record is None:
            return {}
        if record.hash not in (found, in_file):
            raise InputError(
                f"{self.name(self.folds_path)} is not as `make folds` wrote it (hash {found}, "
                f"folds.json says {record.hash}): run `make folds FORCE=1`, or give your own folds "
                "by `folds.file`"
            )
        return record.settings

    def read_folds_record(self) -> FoldsRecord | None:
        """Return folds.json; None if it does not exist."""
        path = self.folds_record_path
        if not path.exists():
            return None
        return read_record(path, FoldsRecord, self.name(path), "run `make folds FORCE=1`")

    @staticmethod
    def _fold_numbers(
        table: pd.DataFrame, column: str, name: str, least: int, splits: int
    ) -> np.ndarray:
        """Return the (n,) integers of a column of folds.csv; raise InputError if one is invalid.

        least: the smallest valid number; the largest follows from the number of splits, since a split
        has no more folds than rows.
        """
        values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
        good = (values >= least) & (values < splits * len(table)) & (values == np.floor(values))
        bad = np.flatnonzero(~good)
        if len(bad):
            raise InputError(
                f"{name}: row {bad[0] + 1}: {column} '{cut(table[column].iloc[bad[0]])}' is not "
                "a number 0, 1, 2 …: run `make folds FORCE=1`"
            )
        return values.astype(np.int64)

    @staticmethod
    def _refuse_gaps(splits: np.ndarray, name: str) -> None:
        """Raise InputError if a fold has no row, or a split has one fold only."""
        lacking = np.flatnonzero(np.bincount(splits[splits >= 0], minlength=2) == 0)
        alone = (splits.min(axis=0) == splits.max(axis=0)).any()
        if len(lacking) or alone:
            what = f"no row has fold {lacking[0]}" if len(lacking) else "a split has one fold only"
            raise InputError(f"{name}: {what}: run `make folds FORCE=1`")
