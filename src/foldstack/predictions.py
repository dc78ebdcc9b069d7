"""predictions/: where `predict` may write, and which texts it has labelled in this workspace.

    predictions/<file>.csv          the default place of the predictions of a file
    predictions/.records/<key>.json one file that `predict` has written, there or elsewhere
    predictions/.records/<key>.npy  digests of the texts of one file, or test file, that was predicted

The records let `predict` write over its own files only, and let a run know which external rows may
have got their labels from a model of this workspace (see `stages.dependencies`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.files import file_sha256, publish_with, read_json, stem, write_json


class PredictionFiles:
    """The files of predicted texts of one workspace."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._records = folder / ".records"

    def place(self, out: str | None, file: Path) -> Path:
        """Return where the predictions of a file go.

        Args:
            out: the path that the user gave, or None for the default one.
            file: the file with the texts.

        Raises:
            InputError: something is there that `predict` did not write, or the default place has the
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
        """Raise InputError unless the place is free or holds an unchanged file of `predict`."""
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
        """Record what is about to appear at the place, so that it is known whenever it does.

        Args:
            sha256: of the new file. One that is there stays known as well, until `confirm`.
            texts: (n,) uint64 digests of the texts that were labelled (`rows.text_digests`).

        Raises:
            OSError: the workspace cannot be written to.
        """
        self.remember(texts)
        old = [file_sha256(place)] if place.is_file() else []
        self._write(place, file, [sha256, *old])

    def remember(self, texts: np.ndarray) -> None:
        """Record that a model of this workspace has labelled these texts: (n,) uint64 digests."""
        known = np.unique(texts)
        path = self._records / f"{_key(known)}.npy"
        if not path.exists():
            publish_with(path, lambda f: np.save(f, known))

    def confirm(self, place: Path, file: Path, sha256: str) -> None:
        """Record that the new file is at its place."""
        self._write(place, file, [sha256])

    def texts(self) -> np.ndarray:
        """Return the sorted digests of every text that was labelled here, with DEBUG=1 or without.

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
        """The digests that a file of `predict` may have at this place."""
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
        """A place in the workspace from there on, so that a workspace may be moved."""
        whole, root = place.resolve(), self.folder.resolve().parent
        return str(whole.relative_to(root) if whole.is_relative_to(root) else whole)


def _key(texts: np.ndarray) -> str:
    return hashlib.sha256(texts.tobytes()).hexdigest()[:16]


def _read(path: Path) -> np.ndarray:
    """The digests in a file; ValueError if it is not as `remember` wrote it."""
    texts = np.load(path, allow_pickle=False)
    if not isinstance(texts, np.ndarray) or texts.dtype != "<u8" or _key(texts) != path.stem:
        raise ValueError
    return texts.ravel()
