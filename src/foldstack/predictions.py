"""The folder predictions/: output files of `predict`, and records of the texts it has labelled.

    predictions/<file>.csv          the default output path for a file
    predictions/.records/<key>.json one output file of `predict`, there or elsewhere
    predictions/.records/<key>.npy  digests of the texts of one predicted file or test file

The records let `predict` overwrite its own files only. They also tell a run which external rows may
be labelled by a model of this workspace (see `stages.dependencies`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, publish_with, read_json, write_json
from foldstack.tables import stem


class PredictionFiles:
    """The prediction files of one workspace and their records."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._records = folder / ".records"

    def place(self, out: str | None, file: Path) -> Path:
        """Return the output path for the predictions of a file.

        Args:
            out: the path given by the user; None for the default path.
            file: the file with the texts.

        Raises:
            InputError: the path exists and `predict` did not write it, or the default path has the
                predictions of another file.
        """
        if out is not None:
            self.check(Path(out))
            return Path(out)
        place = self.folder / f"{stem(file.name)}.csv"
        self.check(place)
        of = self._record(place).get("file")
        if place.exists() and of != self._known_as(file):
            raise InputError(
                f"{place} has the predictions of {of}: name another file for those of {file} with OUT="
            )
        return place

    def check(self, place: Path) -> None:
        """Raise InputError unless the path is free or an unchanged output of `predict`."""
        own = place.absolute() == self.folder.absolute()
        if own or place.is_symlink() or (place.exists() and not place.is_file()):
            raise InputError(
                f"OUT={place} is a link, a folder or a device: name a new file, ending in .csv"
            )
        if place.is_file() and file_sha256(place) not in self._known(place):
            raise InputError(
                f"{place} is there already and `predict` did not write it so: move it away, or name a "
                "new file with OUT="
            )

    def announce(self, place: Path, file: Path, sha256: str, texts: np.ndarray) -> None:
        """Record a file before it is renamed to `place`, so that a crash leaves no unknown file.

        Args:
            place: the output path.
            file: the file with the texts.
            sha256: of the new file. The hash of an existing file stays valid until `confirm`.
            texts: (n,) uint64 digests of the labelled texts (`rows.text_digests`).

        Raises:
            OSError: the workspace is not writable.
        """
        self.remember(texts)
        old = [file_sha256(place)] if place.is_file() else []
        self._write(place, file, [sha256, *old])

    def remember(self, texts: np.ndarray) -> None:
        """Record (n,) uint64 digests of texts that a model of this workspace has labelled."""
        known = np.unique(texts)
        path = self._records / f"{_key(known)}.npy"
        if not path.exists():
            publish_with(path, lambda f: np.save(f, known))

    def confirm(self, place: Path, file: Path, sha256: str) -> None:
        """Record that the new file has been renamed to `place`."""
        self._write(place, file, [sha256])

    def texts(self) -> np.ndarray:
        """Return the sorted digests of all labelled texts, with and without DEBUG=1.

        Raises InputError if a record is damaged.
        """
        found = [np.zeros(0, "<u8")]
        of_debug = self.folder.parent / "debug" / self.folder.name / self._records.name
        for path in sorted([*self._records.glob("*.npy"), *of_debug.glob("*.npy")]):
            try:
                found.append(_read(path))
            except (OSError, ValueError, EOFError, BadZipFile):
                raise InputError(
                    f"{path}, the texts that `predict` has labelled, is damaged: remove it and predict "
                    "those files again"
                ) from None
        return np.unique(np.concatenate(found))

    def _write(self, place: Path, file: Path, sha256: list[str]) -> None:
        value = {"out": self._known_as(place), "file": self._known_as(file), "sha256": sha256}
        write_json(self._path(place), value)

    def _known(self, place: Path) -> list[str]:
        """Return the valid hashes of an output of `predict` at this path."""
        known = self._record(place).get("sha256")
        return known if isinstance(known, list) else []

    def _record(self, place: Path) -> dict[str, Any]:
        try:
            found = read_json(self._path(place))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _path(self, place: Path) -> Path:
        return self._records / f"{digest(self._known_as(place))}.json"

    def _known_as(self, place: Path) -> str:
        """Return a path relative to the workspace if it is inside, so that the workspace can move."""
        whole, root = place.resolve(), self.folder.resolve().parent
        return str(whole.relative_to(root) if whole.is_relative_to(root) else whole)


def _key(texts: np.ndarray) -> str:
    return hashlib.sha256(texts.tobytes()).hexdigest()[:16]


def _read(path: Path) -> np.ndarray:
    """Return the digests in a file. Raises ValueError if it is not as `remember` wrote it."""
    texts = np.load(path, allow_pickle=False)
    if not isinstance(texts, np.ndarray) or texts.dtype != "<u8" or _key(texts) != path.stem:
        raise ValueError
    return texts.ravel()
