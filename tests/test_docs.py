"""The documents: short enough, without dead links, and the settings as the classes have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foldstack.reference import reference, undescribed
from foldstack.techniques import auto

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# `make target …` in backquotes, or as a line of its own that is indented or follows a prompt.
COMMAND = re.compile(r"(?:`|^(?: {4,}|\$ ))make ([^`\n]*)", re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings."""
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def targets() -> set[str]:
    lines = re.findall(r"^([a-z -]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    stages = re.search(r"^STAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    return {target for line in [*lines, stages] for target in line.split()}


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").stat().st_size <= 12_288


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    for place, anchor in LINK.findall(text):
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), f"{document.name}: {place}"
        assert not anchor or anchor[1:] in anchors(target), f"{document.name}: {place}{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_named_targets_exist(document: Path) -> None:
    """Words behind `make` up to the first variable or option are targets."""
    for command in COMMAND.findall(document.read_text(encoding="utf-8")):
        for word in command.split():
            if not re.fullmatch("[a-z]+(-[a-z0-9]+)*", word):
                break
            assert word in targets(), f"{document.name}: make {command}"


def test_settings_are_current() -> None:
    """After a change of a settings class: `make reference`."""
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == reference()


def test_the_rules_of_auto_are_current() -> None:
    """After a change of a rule: the table of `techniques.auto.table()`."""
    assert auto.table() in (ROOT / "docs/defaults.md").read_text(encoding="utf-8")


def test_every_setting_is_described() -> None:
    """A line `name: meaning` in the docstring of its class."""
    assert undescribed() == []


def test_licence_is_declared() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert 'license = "Apache-2.0"' in project
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
