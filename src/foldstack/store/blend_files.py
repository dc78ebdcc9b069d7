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

    def audit_path(self, name: str) -> Path:
        """Return the path of the audit of patterns on a blend or a model."""
        return self.root / "oof" / "_patterns" / f"{config.check_name(name, 'name')}.json"

    def write_audit(self, audit: PatternsAudit, text: str) -> None:
        """Write the audit of patterns as JSON and its table as text."""
        path = self.audit_path(audit.of)
        with together():
            write_json(path, audit.to_json())
            write_text(path.with_suffix(".txt"), text)
