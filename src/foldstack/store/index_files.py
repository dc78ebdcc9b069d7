"""The folder oof/.index/: vectors of the competition's texts, for search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from foldstack.errors import InputError
from foldstack.files import file_sha256, placing
from foldstack.records import IndexRecord, damaged, read_record, write_record
from foldstack.store.part import StorePart

AGAIN = "run `make index` again"


class IndexFiles(StorePart):
    """The index of one workspace, which may be removed at any time."""

    @property
    def index_dir(self) -> Path:
        return self.root / "oof" / ".index"

    @property
    def index_path(self) -> Path:
        return self.index_dir / "index.json"

    @property
    def index_vectors_path(self) -> Path:
        return self.index_dir / "vectors.npy"

    def write_index(self, record: IndexRecord, fill: Callable[[np.ndarray], None]) -> IndexRecord:
        """Write vectors.npy and index.json; return the record with the digest of the former.

        fill: writes the vectors into a (texts, size) float32 array, which is the file's.
        """
        with placing(self.index_vectors_path) as beside:
            shape = (record.texts, record.size)
            out = np.lib.format.open_memmap(beside, "w+", np.float32, shape)
            fill(out)
            out.flush()
            record = record.model_copy(update={"sha256": file_sha256(beside)})
        write_record(self.index_path, record.to_json())  # a kill before it leaves a damaged index
        return record

    def read_index(self) -> IndexRecord | None:
        """Return index.json; None if there is none; raise InputError if it is damaged."""
        if not self.index_path.exists():
            return None
        return read_record(self.index_path, IndexRecord, self.name(self.index_path), AGAIN)

    def read_index_vectors(self, record: IndexRecord) -> np.ndarray:
        """Return the (texts, size) vectors, memory-mapped; raise InputError if they are others."""
        path, name = self.index_vectors_path, self.name(self.index_vectors_path)
        if not path.exists() or file_sha256(path) != record.sha256:
            again = f"run `make index MODEL={record.model}` again"
            raise damaged(name, "it is not as its record says", again)
        return np.load(path, mmap_mode="r")

    def has_index(self, record: IndexRecord) -> bool:
        """Return whether the stored index is the one of this record, and whole."""
        try:
            found = self.read_index()
            if found is None or found != record.model_copy(update={"sha256": found.sha256}):
                return False
            return bool(len(self.read_index_vectors(found)))
        except InputError:
            return False
