"""lock.txt holds what constraints.txt pins, with hashes, and is enough to install by."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "lock.txt").exists(), reason="lock.txt is in a checkout only"
)


def pins(file: str) -> dict[str, str]:
    """{"pyyaml": "6.0.3"} of a requirements file."""
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / file).read_text(), re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def all_locked() -> dict[str, str]:
    return pins("lock-build.txt") | pins("lock.txt") | pins("lock-torch.txt")


def test_the_lock_has_the_pins_of_the_constraints() -> None:
    """`make lock` after a change of constraints.txt; torch has a file of its own."""
    constraints, locked = pins("constraints.txt"), all_locked()
    assert {name: constraints.get(name) for name in locked} == locked
    assert "torch" not in pins("lock.txt") and list(pins("lock-torch.txt")) == ["torch"]


def test_every_dependency_is_locked() -> None:
    """The installation by it resolves nothing: what is missing here would be missing there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    for extra in ("embedded", "int8", "test"):
        listed += project["project"]["optional-dependencies"][extra]
    names = {re.match(r"[\w.-]+", each).group() for each in listed}
    assert names - set(all_locked()) == set()
    assert project["build-system"]["requires"] == project["dependency-groups"]["build"]


@pytest.mark.parametrize("file", ["lock-build.txt", "lock.txt"])
def test_each_locked_package_has_hashes_and_no_address(file: str) -> None:
    text = (ROOT / file).read_text()
    entries = re.split(r"\n(?=\S)", text.split("\n", 2)[2].strip())
    assert len(entries) == len(pins(file)) > 0
    assert [e for e in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", e)] == []
    assert "://" not in text and "index-url" not in text and "find-links" not in text
