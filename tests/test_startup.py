"""What commands load: help, and the refusal of a mistyped one, nothing but the standard library."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tiny import foldstack, make_workspace

PROGRAM = """
import atexit, runpy, sys

before = set(sys.modules)

@atexit.register
def show():
    known = sys.stdlib_module_names | {"foldstack", "__main__", "__mp_main__"}
    loaded = {name.split(".")[0] for name in set(sys.modules) - before}
    print("loaded:", *sorted(loaded - known))

runpy.run_module("foldstack", run_name="__main__", alter_sys=True)
"""


def run(args: list[str]) -> subprocess.CompletedProcess:
    """The program, which at its end says what it has loaded."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", PROGRAM, *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "args, code",
    [(["--help"], 0), (["train", "--help"], 0), (["tarin"], 2), (["train", "--jobs", "x"], 2)],
)
def test_what_the_parser_answers_is_quick(args, code):
    """`import pandas` in the wrong module would cost every --help most of a second, torch two."""
    done = run(args)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_a_linear_model_is_trained_without_torch(tmp_path):
    """To import it takes longer than most of its runs."""
    root = make_workspace(tmp_path / "w")
    assert foldstack(root, "folds") == 0
    done = run(["--workspace", str(root), "train", "--model", "tfidf", "--fold", "0"])
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()[-1].split()
    assert "sklearn" in loaded
    assert not {"torch", "transformers"} & set(loaded)
