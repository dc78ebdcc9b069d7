"""The files of drift: folds/drift.json and folds/drift.csv."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from foldstack.errors import InputError
from foldstack.files import csv_text, file_sha256, publish, together
from foldstack.records import DriftRecord, read_record, write_record
from foldstack.store.part import StorePart
from foldstack.tables import read_table


class DriftFiles(StorePart):
    """How the test file differs, and which training rows are most like it."""

    @property
    def drift_path(self) -> Path:
        return self.root / "folds" / "drift.json"

    @property
    def drift_rows_path(self) -> Path:
        """The training rows with their probability to be test rows, most like test first."""
        return self.drift_path.with_name("drift.csv")

    def write_drift(self, record: DriftRecord, rows: pd.DataFrame) -> DriftRecord:
        """Write drift.csv and drift.json; return the record with the digest of the former."""
        data = csv_text(rows).encode("utf-8")
        record = record.model_copy(update={"sha256": hashlib.sha256(data).hexdigest()})
        with together():
            publish(self.drift_rows_path, data)
            write_record(self.drift_path, record.to_json())
        return record

    def read_drift(self) -> DriftRecord | None:
        """Return drift.json; None if there is none, or if drift.csv is another."""
        if not self.drift_path.exists() or not self.drift_rows_path.exists():
            return None
        again = "remove it and run `make drift`"
        record = read_record(self.drift_path, DriftRecord, self.name(self.drift_path), again)
        return record if record.sha256 == file_sha256(self.drift_rows_path) else None

    def is_of_drift(self, path: Path) -> bool:
        """Return whether this is a file of drift as it was written."""
        try:
            return path in (self.drift_path, self.drift_rows_path) and self.read_drift() is not None
        except InputError:
            return False

    def read_drift_rows(self) -> pd.DataFrame:
        """Return columns `p` and `weight` by id."""
        return read_table(self.drift_rows_path, "utf-8").set_index("id").astype(float)
