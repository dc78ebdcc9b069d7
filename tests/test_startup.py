"""Help, and the refusal of a mistyped command, load nothing but the standard library."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "args, code",
    [(["--help"], 0), (["train", "--help"], 0), (["tarin"], 2), (["train", "--jobs", "x"], 2)],
)
def test_what_the_parser_answers_is_quick(args, code):
    """`import pandas` in the wrong module would cost every --help most of a second, torch two."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", PROGRAM, *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
