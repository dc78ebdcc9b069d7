"""Campaign: every command on a machine that fails it, counted in a table. Needs root on Linux.

    python tests/campaigns/system_errors.py [COMMAND ...]

Each command runs in a copy of one finished workspace: on a small disk that is full, or nearly; on a
disk that may only be read; with an output that is full, closed, or a pipe that nobody reads; with a
limit on files' sizes, on open files, and on memory. A command passes that succeeds, or that ends
with one sentence, code 2 and no traceback. Neither may leave a temporary file behind, and after an
error each file that was there before has its bytes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from test_recipes import raw_files
from tiny import add_preset, files, foldstack, go_through, make_backbone, make_workspace, write

PATTERNS = "rules:\n  - {pattern: fine, label: '1'}\n"
TRANSFORMER = ("--model", "tiny", "--fold", "0")
# {given}: files that the user has elsewhere.
COMMANDS = {
    "data": ("data", "--force"),
    "init": (
        *("init", "--force", "--train", "{given}/train.csv", "--test", "{given}/test.csv"),
        *("--sample", "{given}/sample_submission.csv"),
    ),
    "recipe": (
        *("recipe", "--force", "--name", "duee", "--source", "{given}/raw"),
        *("--backbone", "{given}/backbone"),
    ),
    "folds": ("folds", "--force", "--set", "folds.seed=1"),
    "train": ("train", "--force", "--model", "tfidf", "--fold", "0"),
    "train transformer": ("train", "--force", *TRANSFORMER),
    "train two": ("train", "--force", "--model", "tfidf", "--fold", "0,1", "--jobs", "2"),
    "blend": ("blend",),
    "blend trees": ("blend", "--set", "blend.methods=[stack]", "--name", "trees"),
    "compare": ("compare", "--a", "tfidf", "--b", "tiny"),
    "submit": ("submit",),
    "predict": ("predict", "--file", "{given}/test.csv", "--out", "predictions/new.csv"),
    "predict text": ("predict", "--text", "a fine film", "--model", "tiny"),
    "report": ("report",),
    "views": ("views",),
    "patterns": ("patterns",),
    "score": ("score",),
    "scores": ("scores",),
    "debug": ("--debug", "folds"),
    "clean": ("clean", "submissions"),
    "demo": ("demo",),
}
ALONE = {"demo"}  # in an empty folder, and only where it ends soon, on a disk that takes nothing
SIZE_KB = 8000
LEFT_KB = (0, 8, 64)


@dataclass(frozen=True)
class Result:
    code: int
    said: str
    error: str
    lost: list[str]
    left: list[str]

    @property
    def kind(self) -> str:
        if "Traceback" in self.error or "Exception ignored" in self.error:
            return "traceback"
        if self.code in (0, 141):
            return "done" if self.code == 0 else "pipe"
        # Of runs beside each other, each has its own, which the parent shows on standard output.
        beside = [x for x in self.said.splitlines() if " | foldstack: " in x]
        sentences = [x for x in self.error.splitlines() if x.startswith("foldstack: ")]
        one = len(sentences) == 1 or (beside and not sentences)
        return "sentence" if self.code == 2 and one else "other"


# The faults: each yields the folder to work in and what goes before and after the command


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    subprocess.run(["mount", *options, str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextmanager
def full(whole: Path, place: Path, left_kb: int) -> Iterator[Path]:
    with mounted(place, "-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs"):
        shutil.copytree(whole, place / "w")
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_bsize
        (place / "filler").write_bytes(bytes(max(free - 1024 * left_kb, 0)))
        yield place / "w"


@contextmanager
def read_only(whole: Path, place: Path) -> Iterator[Path]:
    with mounted(place, "-t", "tmpfs", "tmpfs"):
        shutil.copytree(whole, place / "w")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place / "w"


@contextmanager
def copied(whole: Path, place: Path) -> Iterator[Path]:
    shutil.copytree(whole, place / "w")
    yield place / "w"
    shutil.rmtree(place / "w")


FAULTS: dict[str, tuple[Callable, tuple, str]] = {
    **{f"{kb} KB left": (full, (kb,), "{}") for kb in LEFT_KB},
    "read-only": (read_only, (), "{}"),
    "output full": (copied, (), "{} > /dev/full"),
    "output closed": (copied, (), "{} >&-"),
    "all closed": (copied, (), "{} >&- 2>&- <&-"),
    "pipe": (copied, (), "set -o pipefail; {} | true"),
    "file size": (copied, (), "ulimit -f 1; {}"),
    "open files": (copied, (), "ulimit -n 12; {}"),
    "memory": (copied, (), "ulimit -v 1300000; {}"),
}

OUTPUTS = ("output full", "output closed", "all closed", "pipe")


def run(fault: str, args: tuple[str, ...], whole: Path, given: Path, scratch: Path) -> Result:
    wrapped, options, shell = FAULTS[fault]
    with wrapped(whole, scratch, *options) as root:
        before = files(root)
        words = [sys.executable, "-m", "foldstack", *(a.format(given=given) for a in args)]
        command = shell.format(" ".join(f"'{word}'" for word in words))
        done = subprocess.run(
            ["bash", "-c", command], cwd=root, capture_output=True, text=True, timeout=300
        )
        after = files(root)
    lost = [] if done.returncode == 0 else [k for k in before if after.get(k) != before[k]]
    if fault in OUTPUTS:  # the work, which may replace or remove files, is done before it is said
        lost = []
    # An unfinished run's folder, `.fold0.partial`, is where the same command resumes.
    left = [k for k in after if k not in before and ("tmp" in k or "/.part-" in k)]
    left += [k for k in after if k.startswith("oof/_blends/.")]
    return Result(done.returncode, done.stdout, done.stderr, lost, left)


def prepare(folder: Path) -> tuple[Path, Path]:
    """A workspace in which each stage has been, and files for the stages that are given some."""
    given = folder / "given"
    backbone = make_backbone(given / "backbone")
    settings = {
        "metric": "f1",
        "patterns": "patterns.yaml",
        "blend": {"methods": ["mean", "stack"]},
    }
    whole = make_workspace(folder / "whole", models=["tfidf", "tiny"], **settings)
    write(whole / "patterns.yaml", PATTERNS)
    add_preset(whole, backbone)
    go_through(whole)
    for stage in ("views", "patterns", "score"):
        assert foldstack(whole, stage) == 0
    shutil.copytree(whole / "input", given, dirs_exist_ok=True)
    raw_files(given / "raw", "duee")
    return whole, given


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="foldstack-campaign-"))
    scratch, empty = folder / "scratch", folder / "empty"
    scratch.mkdir()
    empty.mkdir()
    try:
        with mounted(scratch, "-t", "tmpfs", "tmpfs"):
            pass
    except subprocess.CalledProcessError as e:
        raise SystemExit(f"skipped: file systems cannot be mounted here ({e.stderr})") from None
    os.environ |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path[:2])}
    whole, given = prepare(folder)
    names = sys.argv[1:] or list(COMMANDS)
    totals: dict[str, Counter] = defaultdict(Counter)
    for fault in FAULTS:
        for name in names:
            if name in ALONE and FAULTS[fault][0] is copied:
                continue
            result = run(fault, COMMANDS[name], empty if name in ALONE else whole, given, scratch)
            totals[fault] += Counter({result.kind: 1, "lost": len(result.lost)})
            totals[fault]["left"] += len(result.left)
            last = (result.error.strip().splitlines() or [""])[-1]
            print(f"{fault} | {name} | {result.kind} {result.code} | {last[:230]}", flush=True)
            if result.lost or result.left:
                print("   LOST", result.lost, "LEFT", result.left)
    kinds = ("done", "sentence", "pipe", "traceback", "other", "lost", "left")
    print(f"\n{'':14}", *(f"{kind:>9}" for kind in kinds))
    for fault, counts in totals.items():
        print(f"{fault:14}", *(f"{counts[kind]:9}" for kind in kinds))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
