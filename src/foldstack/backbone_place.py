"""Where a preset's backbone is; no network library is imported for that."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from foldstack.errors import InputError
from foldstack.files import file_sha256


def locate(backbone: str, sha256: str | None = None) -> str:
    """Return the folder of `package:NAME/FOLDER`, a local folder unchanged, or a hub name unchanged.

    Raises InputError if the package or folder is missing, or the checksum of its weights differs.
    """
    if backbone.startswith("package:"):
        package, _, inside = backbone.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"backbone '{backbone}': the package {package} is not installed: "
                f"pip install {package.replace('_', '-')}"
            )
        place = Path(spec.submodule_search_locations[0]) / inside
    else:
        place = Path(backbone).expanduser()
    if not place.is_dir():
        if backbone.startswith(("package:", "/", ".", "~")):
            raise InputError(f"backbone '{backbone}': there is no folder {place}")
        if sha256:
            raise InputError(
                f"backbone '{backbone}' is a hub name: sha256 pins the weights of a "
                "folder or package only; remove it from the preset"
            )
        return backbone
    if sha256:
        weights = place / "model.safetensors"
        found = file_sha256(weights) if weights.exists() else "no such file"
        if found != sha256:
            raise InputError(
                f"{weights} is not the file that the preset pins (sha256 {found}, expected "
                f"{sha256}): install the pinned package again"
            )
    return str(place)
