"""The counts of `python tests/structure.py` stay at what the code has reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from structure import ROOT, places

LIMITS = {
    "key reads of blend.json outside the store": 0,
    "paths under folds/, oof/, submissions/ built outside the store": 0,
    "checks by a technique's or learner's name": 1,
    "checks by a kind's name": 1,
    "calls that print in stages/": 17,  # lines during long work
    "docstrings that begin with Of or What": 0,
    "file names that occur twice": 5,
    "class names that occur twice": 0,
}


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    return places(ROOT / "src" / "foldstack")


@pytest.mark.parametrize("what", LIMITS)
def test_counts_do_not_rise(found: dict[str, list[str]], what: str) -> None:
    assert len(found[what]) <= LIMITS[what], found[what]


def test_counts_count(tmp_path: Path) -> None:
    """Each count finds what it is about, so that 0 is no accident."""
    (tmp_path / "techniques").mkdir()
    (tmp_path / "techniques" / "losses.py").write_text(
        'class Toy:\n    """What a toy is."""\n\n    name: Literal["toy"]\n'
    )
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "losses.py").write_text(
        "class Toy:\n    pass\n\n\n"
        "def f(info, root, loss, kind):\n"
        '    say(info["nested"], info.get("winner"))\n'
        '    isinstance(loss, Toy), loss.name == "toy", kind == "binary"\n'
        '    return root / "oof" / "x"\n'
    )
    found = {what: len(where) for what, where in places(tmp_path).items()}
    assert found == {
        "key reads of blend.json outside the store": 2,
        "paths under folds/, oof/, submissions/ built outside the store": 1,
        "checks by a technique's or learner's name": 2,
        "checks by a kind's name": 1,
        "calls that print in stages/": 1,
        "docstrings that begin with Of or What": 1,
        "file names that occur twice": 1,
        "class names that occur twice": 1,
    }
