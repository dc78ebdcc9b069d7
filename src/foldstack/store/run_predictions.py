"""The predictions of runs: held-out and test rows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from typing import Any

import numpy as np

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, filling, replace_folder
from foldstack.records import RunRecord, write_record
from foldstack.rows import Rows
from foldstack.store.advice import make_again
from foldstack.store.keys import RunKey
from foldstack.store.parquet import Predictions, parquet_meta, read_parquet, write_parquet
from foldstack.store.run_files import CHECKPOINTS, RunFiles


class RunPredictionFiles(RunFiles):
    """The runs of one workspace, with their predictions."""

    def write_predictions(
        self, key: RunKey, name: str, rows: Rows, predictions: Predictions, outputs: Iterable[str]
    ) -> str:
        """Write an unfinished run's predictions.

        Args:
            key: the run.
            name: the set of rows: `heldout` or `test`.
            rows: the n rows.
            predictions: (n, outputs).
            outputs: the names of the outputs.

        Returns:
            A digest of the predictions.
        """
        path = self.partial_dir(key) / f"{name}.parquet"
        return write_parquet(path, rows, predictions.raw, predictions.link, outputs)

    def replace_predictions(
        self,
        key: RunKey,
        record: RunRecord,
        name: str,
        rows: Rows,
        predictions: Predictions,
        outputs: Iterable[str],
    ) -> RunRecord:
        """Replace a finished run's predictions of a named set of rows.

        Predictions and record are replaced by one rename, so that a kill leaves the run as it was. All
        other files are hard links, or copies if the disk has none.

        Args:
            key: the run.
            record: the run's record, with the digests of the old predictions.
            name: the set of rows: `heldout` or `test`.
            rows: the n rows.
            predictions: (n, outputs).
            outputs: the names of the outputs.

        Returns:
            The record as written.
        """
        place, beside, file = self.run_dir(key), self._beside(key, "next"), f"{name}.parquet"
        shutil.rmtree(beside, ignore_errors=True)
        leave_out = shutil.ignore_patterns(file, CHECKPOINTS, ".*")
        with filling(beside, place):
            shutil.copytree(place, beside, copy_function=_link, ignore=leave_out)
            content = write_parquet(beside / file, rows, predictions.raw, predictions.link, outputs)
            changes: dict[str, Any] = {"predictions": record.predictions | {name: content}}
            if record.files is not None:
                changes["files"] = record.files | {file: file_sha256(beside / file)}
            record = record.model_copy(update=changes)
            write_record(beside / "run.json", record.to_json())
        replace_folder(beside, place)
        return record

    def read_predictions(
        self, key: RunKey, name: str, rows: Rows, record: RunRecord | None = None
    ) -> Predictions:
        """Read a run's predictions of exactly these rows, in their order.

        Args:
            key: the run.
            name: the set of rows: `heldout` or `test`.
            rows: the n rows.
            record: the run's record; None to read it.

        Returns:
            The (n, outputs) logits.

        Raises:
            InputError: they are missing, damaged, for other rows, or not finite.
        """
        path = self.run_dir(key) / f"{name}.parquet"
        if not path.exists():
            raise InputError(f"{key} has no predictions for {name}: {make_again(path.parent)}")
        ids, predictions, meta = read_parquet(path)
        if meta["rows"] != rows.hash():
            raise InputError(
                f"{self.name(path)} is for other rows (hash {meta['rows']}) than the "
                f"{name} rows of today (hash {rows.hash()}): train {key} again"
            )
        if list(ids) != list(rows.ids):
            raise InputError(
                f"{self.name(path)}: its ids are not those of its rows: train {key} "
                "again with --force"
            )
        bad = np.flatnonzero(~np.isfinite(predictions.raw).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.name(path)}: row {bad[0] + 1} (id '{rows.ids[bad[0]]}') holds a "
                f"prediction that is not finite: train {key} again with --force, or "
                "leave the model out"
            )
        self._verify_predictions(key, name, record)
        return predictions

    def _verify_predictions(self, key: RunKey, name: str, record: RunRecord | None = None) -> None:
        record = record or self.read_run(key)
        if record is not None:
            self._verify(self.run_dir(key), record.files, f"{name}.parquet")

    def stored_predictions(self, key: RunKey, name: str) -> Predictions:
        """Return a run's logits without checking their rows; raise InputError if they are damaged."""
        _, predictions, _ = read_parquet(self.run_dir(key) / f"{name}.parquet")
        self._verify_predictions(key, name)
        return predictions

    def verify_heldout(self, key: RunKey, record: RunRecord) -> None:
        """Raise InputError if a finished run's held-out predictions are missing or damaged."""
        if "heldout" in record.predictions:
            self._verify_predictions(key, "heldout", record)

    def rows_hash(self, key: RunKey, name: str) -> str | None:
        """Return the hash of the rows of a run's predictions; None if it has none."""
        path = self.run_dir(key) / f"{name}.parquet"
        return parquet_meta(path)["rows"] if path.exists() else None

    def content(self, key: RunKey, name: str) -> str:
        """Return a digest of a run's predictions."""
        return parquet_meta(self.run_dir(key) / f"{name}.parquet")["content"]

    def model_content(self, key: RunKey, record: RunRecord) -> str:
        """Return a digest of the fitted model; of the test predictions, if the model was not kept.

        It does not change if the run predicts a new test file.
        """
        files = (record.files or {}).items()
        model = {name: sha256 for name, sha256 in files if name.startswith("model/")}
        return digest(model) if model else self.content(key, "test")


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:  # a disk without links
        shutil.copy2(source, place)
