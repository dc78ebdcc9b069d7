"""Plant plausible bugs one at a time, and count those that the tests notice.

    python tests/mutations.py [--only NAME] [--jobs 2]

Each bug of `mutants.py` is planted in a copy of src and tests in a temporary folder, where the test
files that should notice it run until the first failure. The same test files first run in a copy
without a bug: a test that fails there would catch everything. A patch whose old text is gone is stale;
it is reported and counted apart, so that the list can be kept up with the source.

The libraries are imported once, in this process, of which each copy's tests are a fork: importing them
takes longer than most of the tests. Nothing of the package itself may be imported here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "accelerate",
    "imblearn.over_sampling",
    "lightgbm",
    "pandas",
    "pyarrow.parquet",
    "sklearn.linear_model",
    "sklearn.neural_network",
    "torch.profiler",
    "transformers.models.bert.modeling_bert",
)
PASSED, FAILED = 0, 1  # exit codes of pytest; all others say that no test has judged
SECONDS = 600.0  # of one mutant's tests; a bug that makes them hang is noticed
LEAST = 0.97  # of the bugs that apply are to be caught


def is_stale(mutant: Mutant, root: Path = ROOT) -> bool:
    """Return whether the old text does not stand exactly once in its file."""
    path = root / "src/foldstack" / mutant.file
    return not path.exists() or path.read_text(encoding="utf-8").count(mutant.old) != 1


def copy_repository(to: Path) -> None:
    """Copy src and tests, which may then be changed, and link everything else."""
    for path in ROOT.iterdir():
        if path.name in ("src", "tests"):
            shutil.copytree(path, to / path.name)
        elif not path.name.startswith("."):
            (to / path.name).symlink_to(path)


def plant(mutant: Mutant, root: Path) -> None:
    """Replace the old text by the new one in a copy of the repository."""
    path = root / "src/foldstack" / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def run_pytest(root: Path, tests: Iterable[str], log: Path) -> int:
    """Run these test files of a copy in this process; return pytest's exit code.

    Everything printed goes into the log.
    """
    with log.open("wb") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    os.chdir(root)
    places = [str(root / "src"), str(root / "tests")]
    sys.path[:] = places + [
        p for p in sys.path if not Path(p or ".").is_relative_to(ROOT / "tests")
    ]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    paths = [str(root / "tests" / test) for test in tests]
    code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *paths]))
    tested = sys.modules["foldstack"].__file__
    if not Path(tested).is_relative_to(root):
        raise RuntimeError(f"{tested} was tested instead of the copy in {root}")
    return code


class Trial:
    """Test files running on a copy of the repository, with a bug or (None) without."""

    def __init__(self, mutant: Mutant | None, tests: Sequence[str]):
        self.mutant, self.tests, self.begin = mutant, tests, time.monotonic()
        self.folder = tempfile.TemporaryDirectory(prefix="mutant-")
        root = Path(self.folder.name) / "copy"
        root.mkdir()
        self.log = root.with_name("log")
        copy_repository(root)
        if mutant:
            plant(mutant, root)
        sys.stdout.flush()
        self.process = os.fork()
        if not self.process:
            code = 3  # pytest's own for an internal error
            try:
                os.setsid()
                code = run_pytest(root, tests, self.log)
            except Exception:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin

    def exit_code(self) -> int | None:
        """Return pytest's exit code, None while it runs, FAILED if it does not end in time.

        Raises RuntimeError if the tests could not judge, because a file of theirs is not there.
        """
        ended, status = os.waitpid(self.process, os.WNOHANG)
        if not ended and self.seconds < SECONDS:
            return None
        if not ended:
            os.killpg(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        code = os.waitstatus_to_exitcode(status) if ended else FAILED
        said = self.log.read_text(encoding="utf-8", errors="replace")
        self.folder.cleanup()
        if code not in (PASSED, FAILED):
            raise RuntimeError(f"pytest {' '.join(self.tests)} ended with {code}:\n{said}")
        if self.mutant is None and code == FAILED:
            raise RuntimeError(f"a test fails without any bug:\n{said}")
        return code


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: caught, missed or stale."""

    mutant: Mutant
    result: str
    seconds: float = 0.0

    def __str__(self) -> str:
        place = f"{self.mutant.file}: {self.mutant.why}"
        return f"{self.result:6} {self.seconds:4.0f} s  {self.mutant.name} ({place})"


def control(mutants: Sequence[Mutant]) -> None:
    """Raise RuntimeError if a named test file fails without any bug."""
    trial = Trial(None, sorted({test for mutant in mutants for test in mutant.tests}))
    while trial.exit_code() is None:
        time.sleep(0.1)


def judge(mutants: Sequence[Mutant], jobs: int = 1) -> list[Outcome]:
    """Return the outcome of every mutant, each printed as it is known.

    Raises RuntimeError if the package is imported here already, since forks would test it as it is.
    """
    if "foldstack" in sys.modules:
        raise RuntimeError("foldstack is imported already: run mutations in a process of its own")
    for library in LIBRARIES:
        importlib.import_module(library)
    outcomes = [Outcome(mutant, "stale") for mutant in mutants if is_stale(mutant)]
    for outcome in outcomes:
        print(outcome)
    waiting = deque(mutant for mutant in mutants if not is_stale(mutant))
    if waiting:
        control(waiting)
    running: list[Trial] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Trial(waiting[0], waiting.popleft().tests))
        time.sleep(0.1)
        for trial in list(running):
            code = trial.exit_code()
            if code is not None:
                running.remove(trial)
                result = "caught" if code == FAILED else "missed"
                outcomes.append(Outcome(trial.mutant, result, trial.seconds))
                print(outcomes[-1], flush=True)
    return outcomes


def share_caught(outcomes: Sequence[Outcome]) -> float:
    """Return caught over caught and missed; a stale patch says nothing."""
    counts = Counter(outcome.result for outcome in outcomes)
    return counts["caught"] / max(counts["caught"] + counts["missed"], 1)


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the counts in a line."""
    counts = Counter(outcome.result for outcome in outcomes)
    shown = ", ".join(f"{counts[result]} {result}" for result in ("caught", "missed", "stale"))
    return f"{shown}: {share_caught(outcomes):.1%} of those that apply are caught"


def main() -> int:
    """Judge the mutants that are asked for; return 1 if fewer than `LEAST` are caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once")
    asked = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if asked.only in mutant.name]
    if not mutants:
        parser.error(f"no mutant's name contains '{asked.only}'")
    outcomes = judge(mutants, asked.jobs)
    print(summary(outcomes))
    return int(share_caught(outcomes) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
