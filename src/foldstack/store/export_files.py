"""The folder exports/: trained networks in the forms of other tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import placing_folder
from foldstack.records import ExportRecord, digests_of, read_record, write_record
from foldstack.store.keys import RunKey
from foldstack.store.part import StorePart

EXPORT = "export.json"


class ExportFiles(StorePart):
    """The exported runs of one workspace."""

    def export_dir(self, key: RunKey, form: str) -> Path:
        """Return the default folder of an exported run."""
        name = f"{config.check_name(key.model, 'model')}-seed{key.seed}-{key.run}-{form}"
        return self.root / "exports" / name

    def refuse_foreign_export(self, place: Path) -> None:
        """Raise InputError if something is at this path that is not an unchanged export."""
        if not place.exists() and not place.is_symlink():
            return
        if place.is_symlink() or not place.is_dir() or not self._is_own_export(place):
            raise InputError(
                f"{self.name(place)} is there already and `export` did not write it so: move it away, "
                "or name a new folder with OUT="
            )

    def _is_own_export(self, place: Path) -> bool:
        if not any(place.iterdir()):
            return True
        if not self._is_record(place / EXPORT, ExportRecord):
            return False
        record = read_record(place / EXPORT, ExportRecord, self.name(place), "")
        return digests_of(place, leave_out=(EXPORT,)) == record.files

    @contextmanager
    def exporting(self, place: Path) -> Iterator[Path]:
        """Yield an empty folder to fill, which takes the place when the block succeeds.

        Raises InputError if the place holds something else.
        """
        self.refuse_foreign_export(place)
        with placing_folder(place, place.with_name(f".{place.name}.next")) as beside:
            yield beside

    def write_export(self, folder: Path, record: ExportRecord) -> ExportRecord:
        """Write the record of a filled folder, with the digests of its files."""
        record = record.model_copy(update={"files": digests_of(folder)})
        write_record(folder / EXPORT, record.to_json())
        return record
