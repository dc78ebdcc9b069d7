"""Copies of installed packages that an image without them needs to predict."""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

# What images of competitions have.
IMAGE = ("torch", "transformers", "numpy", "pandas", "scikit-learn", "lightgbm")
# What predicting imports beside them; rjieba cuts Chinese words for linear models, charset-normalizer
# names the encoding of a file that is not as it should be.
NEEDED = ("pydantic", "accelerate", "charset-normalizer", "rjieba")
PURE = "any"  # folder of pure Python packages


def tag() -> str:
    """Return the folder of compiled packages, which only this Python on this platform can import."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}-{sysconfig.get_platform()}"


def closure(names: Iterable[str]) -> dict[str, Distribution]:
    """Return these installed distributions and all that they require, by canonical name."""
    found: dict[str, Distribution] = {}
    todo = [_canonical(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        for text in found[name].requires or ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                todo.append(_canonical(required.name))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def vendor(folder: Path, further: Iterable[str] = ()) -> dict[str, str]:
    """Copy the packages that `IMAGE` lacks into a folder, compiled ones apart; return their versions.

    further: those that some models need beside `NEEDED`.
    """
    has = closure(IMAGE)
    copied = {name: d for name, d in closure((*NEEDED, *further)).items() if name not in has}
    for each in copied.values():
        wheel = each.read_text("WHEEL") or ""
        place = folder / (PURE if "Root-Is-Purelib: true" in wheel else tag())
        for file in each.files or ():
            if file.parts[0] != ".." and "__pycache__" not in file.parts:
                to = place / file
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(each.locate_file(file), to)
    return {name: each.version for name, each in sorted(copied.items())}
