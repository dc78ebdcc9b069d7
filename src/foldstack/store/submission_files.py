"""The folder submissions/."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import csv_text, file_sha256, locked, publish, together, write_text
from foldstack.records import SubmissionRecord, read_record, write_record
from foldstack.store.part import StorePart
from foldstack.tables.form import TableForm


class SubmissionFiles(StorePart):
    """The submissions of one workspace."""

    def write_submission(
        self, name: str, table: pd.DataFrame, record: SubmissionRecord, form: TableForm
    ) -> Path:
        """Write NAME.csv and NAME.json, which has the sha256 of the CSV.

        NAME.json is written first with the digests of both the new and the old CSV, so that after a
        kill the CSV is still recognised as one of `submit`.

        Args:
            name: the submission.
            table: the rows of the CSV.
            record: its record without digests.
            form: encoding and delimiter of the CSV.

        Returns:
            The path of the CSV.

        Raises:
            InputError: NAME.csv exists and differs from what `submit` wrote.
        """
        path = self.submission_path(name)
        data = csv_text(table, sep=form.delimiter or ",").encode(form.encoding)
        sha256 = hashlib.sha256(data).hexdigest()
        with locked(path.with_name(f".{name}.lock")):
            old = self._own_submission(name)
            replaces = None if old == sha256 else old
            known = record.model_copy(update={"sha256": sha256, "replaces": replaces})
            with together():
                write_record(path.with_suffix(".json"), known.to_json())
                publish(path, data)
            if replaces is not None:
                alone = known.model_copy(update={"replaces": None})
                write_record(path.with_suffix(".json"), alone.to_json())
        return path

    def _own_submission(self, name: str) -> str | None:
        """Return the sha256 of the stored CSV, if any; raise InputError if `submit` did not write it."""
        path, beside = self.submission_path(name), self.submission_path(name).with_suffix(".json")
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InputError(f"{self.name(path)} is a link or a folder: move it away, or add NAME=")
        if not path.exists():
            if beside.is_symlink() or (beside.exists() and not self.is_submissions(beside)):
                raise InputError(
                    f"{self.name(beside)} is there already and `submit` did not write it: move it away, "
                    "or name another submission with NAME="
                )
            return None
        found = file_sha256(path)
        known = self._digests_of_submission(beside) if beside.exists() else []
        if known is not None and found not in known:
            raise InputError(
                f"{self.name(path)} is there already and `submit` did not write it so: move it away, or "
                "name another submission with NAME="
            )
        return found

    def _digests_of_submission(self, path: Path) -> list[str | None] | None:
        """Return the digests that NAME.csv may have; None if its record has none."""
        record = self.read_submission(path)
        return None if record.sha256 is None else [record.sha256, record.replaces]

    def submissions(self) -> dict[str, SubmissionRecord]:
        """Return the record of each submission with a CSV, by name."""
        paths = sorted((self.root / "submissions").glob("*.json"))
        ours = [p for p in paths if config.MODEL_NAME.fullmatch(p.stem)]
        return {p.stem: self.read_submission(p) for p in ours if p.with_suffix(".csv").exists()}

    def read_submission(self, path: Path) -> SubmissionRecord:
        again = f"remove it and {path.stem}.csv, then run `make submit` again"
        return read_record(path, SubmissionRecord, self.name(path), again)

    def is_submissions(self, path: Path) -> bool:
        return self._is_record(path, SubmissionRecord)

    def is_as_submitted(self, name: str, record: SubmissionRecord) -> bool:
        """Return whether NAME.csv is unchanged since `submit` wrote it."""
        return record.sha256 in (None, file_sha256(self.submission_path(name)))

    def submission_path(self, name: str) -> Path:
        return self.root / "submissions" / f"{config.check_name(name, 'name')}.csv"

    @property
    def private_dir(self) -> Path:
        """The folder of scores against the solution, which no other stage reads."""
        return self.root / "submissions" / "private"

    def is_private_report(self, path: Path) -> bool:
        """Return whether `write_private` wrote this file; the text is known by the CSV beside it."""
        table = path.with_suffix(".csv")
        if path.suffix not in (".csv", ".txt") or not table.is_file():
            return False
        with table.open("rb") as f:
            return f.readline().startswith(b"label,precision,recall,")

    def write_private(self, name: str, table: str, text: str) -> None:
        """Write the scores per label of a submission as CSV and as text."""
        for suffix in (".csv", ".txt"):
            place = self.private_dir / f"{name}{suffix}"
            self._refuse_foreign(place, self.is_private_report, "score")
        with together():
            write_text(self.private_dir / f"{name}.csv", table)
            write_text(self.private_dir / f"{name}.txt", text)
