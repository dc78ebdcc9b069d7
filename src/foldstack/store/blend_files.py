"""The folders of blends, audits of patterns, and scores on parts of the rows, below oof/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from foldstack import config
from foldstack.files import (
    locked,
    placing_folder,
    remove,
    restore_folder,
    together,
    write_json,
    write_text,
)
from foldstack.records import (
    BlendRecord,
    PatternsAudit,
    damaged,
    digests_of,
    read_record,
    write_record,
)
from foldstack.store.advice import make_again
from foldstack.store.part import StorePart


class BlendFiles(StorePart):
    """The blends of one workspace."""

    @property
    def blends_dir(self) -> Path:
        return self.root / "oof" / "_blends"

    @property
    def audits_dir(self) -> Path:
        return self.root / "oof" / "_patterns"

    def is_of_blend(self, path: Path) -> bool:
        """Return whether an entry of `blends_dir` is a blend, or beside one."""
        if path.name.startswith("."):
            return path.suffix in (".lock", ".old", ".partial")
        return any((path / name).exists() for name in ("blend.json", "oof.parquet"))

    def blend_dir(self, name: str) -> Path:
        return self.blends_dir / config.check_name(name, "name")

    def write_blend(
        self, name: str, record: BlendRecord, fill: Callable[[Path], object]
    ) -> BlendRecord:
        """Write a blend's folder and put it in place by one rename, under a lock.

        Args:
            name: the blend.
            record: its record without name and digests.
            fill: writes all files but blend.json into the folder that it is called with.

        Returns:
            The record as written, with the name and the digests of the files.
        """
        place = self.blend_dir(name)
        with (
            locked(place.with_name(f".{name}.lock")),
            placing_folder(place, place.with_name(f".{name}.partial")) as beside,
        ):
            fill(beside)
            stored = record.model_copy(update={"name": name, "files": digests_of(beside)})
            write_record(beside / "blend.json", stored.to_json())
        return stored

    def read_blend(self, name: str) -> BlendRecord | None:
        path = self.blend_dir(name) / "blend.json"
        restore_folder(path.parent)
        if not path.exists():
            return None
        again = make_again(path.parent)
        record = read_record(path, BlendRecord, self.name(path), again)
        if record.name not in (None, name):
            raise damaged(self.name(path), f"it is the record of blend '{record.name}'", again)
        return record

    def blend_file(self, name: str, record: BlendRecord, file: str) -> Path | None:
        """Return the path of a blend's verified file or folder; None if the blend has none."""
        place = self.blend_dir(name)
        if not (place / file).exists() and not any(
            known.startswith(file) for known in record.files or ()
        ):
            return None
        self._verify(place, record.files, file)
        return place / file

    def blend_model(self, name: str, record: BlendRecord) -> Path:
        """Return the folder of a blend's fitted model, which is empty for a mean."""
        return self.blend_file(name, record, "model") or self.blend_dir(name) / "model"

    def blends(self) -> dict[str, BlendRecord]:
        paths = sorted(self.blends_dir.glob("*/blend.json"))
        names = [p.parent.name for p in paths if config.MODEL_NAME.fullmatch(p.parent.name)]
        return {name: self.read_blend(name) for name in names}

    def tidy_blends(self) -> int:
        """Remove what kills have left beside the blends; return the bytes freed."""
        freed = 0
        for path in [*self.blends_dir.glob(".*.partial"), *self.blends_dir.glob(".*.old")]:
            name = path.name[1:].rpartition(".")[0]
            with locked(self.blends_dir / f".{name}.lock"):
                restore_folder(self.blends_dir / name)
                freed += remove(path)
        return freed

    def views_path(self, name: str, *, of_model: bool) -> Path:
        """Return the path of the scores on parts of the rows, for a model or a blend."""
        if not of_model:
            return self.blend_dir(name) / "views.csv"
        return self.root / "oof" / config.check_name(name, "model") / "views.csv"

    def is_views(self, path: Path) -> bool:
        """Return whether a file has the header of `views.csv`."""
        with path.open("rb") as f:
            return f.readline().startswith(b"view,rows,")

    def write_views(self, name: str, table: str, *, of_model: bool) -> None:
        """Write the scores on parts of the rows as CSV.

        Args:
            name: the model or the blend.
            table: the CSV.
            of_model: whether it is a model.

        Raises:
            InputError: the model's views.csv is a file that `views` did not write.
        """
        path = self.views_path(name, of_model=of_model)
        if of_model:
            self._refuse_foreign(path, self.is_views, "views")
        write_text(path, table)

    def audit_path(self, name: str) -> Path:
        """Return the path of the audit of patterns on a blend or a model."""
        return self.audits_dir / f"{config.check_name(name, 'name')}.json"

    def is_audit(self, path: Path) -> bool:
        """Return whether `write_audit` wrote this file; a table is known by the record beside it."""
        record = path.with_suffix(".json")
        known = path.suffix in (".json", ".txt") and record.is_file()
        return known and self._is_record(record, PatternsAudit)

    def write_audit(self, audit: PatternsAudit, text: str) -> None:
        """Write the audit of patterns as JSON and its table as text."""
        path = self.audit_path(audit.of)
        for each in (path, path.with_suffix(".txt")):
            self._refuse_foreign(each, self.is_audit, "patterns")
        with together():
            write_json(path, audit.to_json())
            write_text(path.with_suffix(".txt"), text)
