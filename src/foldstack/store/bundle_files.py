"""The folder bundle/: one folder and one zip per bundle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from foldstack import config
from foldstack.errors import InputError
from foldstack.files import locked, placing, placing_folder
from foldstack.store.part import StorePart

MANIFEST = "bundle.json"


class BundleFiles(StorePart):
    """The bundles of one workspace."""

    def bundle_dir(self, name: str) -> Path:
        return self.root / "bundle" / config.check_name(name, "name")

    def bundle_zip(self, name: str) -> Path:
        return self.bundle_dir(name).with_name(f"{name}.zip")

    def write_bundle(self, name: str, fill: Callable[[Path], object]) -> Path:
        """Write a bundle's folder and its zip, each put in place by one rename.

        Args:
            name: the bundle.
            fill: writes all files into the folder that it is called with.

        Returns:
            The folder.

        Raises:
            InputError: something that is no bundle stands there.
        """
        place, packed = self.bundle_dir(name), self.bundle_zip(name)
        made = (place / MANIFEST).is_file()
        for each in (place, packed):
            if os.path.lexists(each) and not made:
                raise InputError(
                    f"{self.name(each)} is there already and `bundle` did not write it: move it away"
                )
        with locked(place.with_name(f".{name}.lock")):
            beside = place.with_name(f".{name}.partial")
            with placing_folder(place, beside) as folder:
                fill(folder)
            with placing(packed) as file:
                archive = shutil.make_archive(str(file.with_suffix("")) + ".packing", "zip", place)
                Path(archive).rename(file)
        return place
