"""The list of plausible bugs: every patch still applies, and the tests notice nearly all of them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from mutants import MUTANTS, Mutant
from mutations import LEAST, ROOT, Outcome, is_stale, judge, plant, share_caught, summary

HALVED = Mutant("halved", "it.py", "return 2 * x", "return x", "half is gone", ("test_it.py",))


def test_every_patch_still_applies() -> None:
    """A stale one plants nothing: give it the text that stands there now, or another bug."""
    assert [mutant.name for mutant in MUTANTS if is_stale(mutant)] == []


def test_every_patch_changes_something_and_names_tests_that_are_there() -> None:
    for mutant in MUTANTS:
        assert mutant.old != mutant.new, mutant.name
        files = [ROOT / "tests" / test.partition("::")[0] for test in mutant.tests]
        assert files and all(file.is_file() for file in files), mutant.name


def test_names_of_mutants_are_different() -> None:
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1


def test_a_patch_whose_text_is_gone_or_stands_twice_is_stale(tmp_path: Path) -> None:
    place = tmp_path / "src/foldstack/it.py"
    assert is_stale(HALVED, tmp_path)
    place.parent.mkdir(parents=True)
    place.write_text("def it(x):\n    return 2 * x\n")
    assert not is_stale(HALVED, tmp_path)
    assert is_stale(replace(HALVED, old="x"), tmp_path)
    plant(HALVED, tmp_path)
    assert place.read_text() == "def it(x):\n    return x\n"
    assert is_stale(HALVED, tmp_path)


def test_the_share_is_of_the_patches_that_apply() -> None:
    outcomes = [Outcome(HALVED, result) for result in ("caught", "caught", "missed", "stale")]
    assert share_caught(outcomes) == pytest.approx(2 / 3)
    assert summary(outcomes) == "2 caught, 1 missed, 1 stale: 66.7% of those that apply are caught"


def test_the_tests_of_a_mutant_never_run_beside_the_imported_package() -> None:
    """A fork of this process would test the package as it is, and every bug would be missed."""
    with pytest.raises(RuntimeError) as e:
        judge([HALVED])
    assert str(e.value) == ("foldstack is imported already: run mutations in a process of its own")


@pytest.mark.slow
def test_nearly_all_planted_bugs_are_caught() -> None:
    """At least 97 % of them; an hour on one core."""
    assert LEAST == 0.97
    command = [sys.executable, "tests/mutations.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
