"""Campaign: every command is killed at random moments and given again, counted in a table. On Linux.

    python tests/campaigns/kills.py [--rounds N] [--seed S] [COMMAND ...]

In each round each command is ended twice in a copy of a small workspace: once by SIGKILL, once by
SIGTERM, SIGINT or SIGHUP. The moment is random within the time that the command takes, or, every
other time, before a random one of the files that it opens to write, renames or removes. One in three
is ended again when it resumes. Then it is given once more and has to end with 0; it may refuse only
if all of its files are there. After `clean tmp`, with the files' times set back, every file has the
bytes of an undisturbed run, and nothing else is left. Locks are not compared, nor what a run's record
says of its time and memory.

A command is a fork of this process, which has imported all that commands do: to import it again takes
longer than the command. Runs that a command trains beside each other are processes as always.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

# What the commands import.
import lightgbm  # noqa: F401
import pyarrow.parquet  # noqa: F401
import sklearn.linear_model  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401

import foldstack.learners.tfidf
import foldstack.learners.transformer
import foldstack.stages.blend
import foldstack.stages.train
from campaigns.child import in_child
from foldstack.cli import main as command_line
from tiny import add_preset, files, foldstack, make_backbone, make_workspace, write

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LIMIT_SECONDS = 120
MEASURED = ("seconds", "training_seconds", "peak_memory_mb")  # in run.json
RULES = "rules:\n  - {pattern: fine, label: '1'}\n"


@dataclass(frozen=True)
class Scenario:
    """A command and the workspace that it is given in, see `prepare`."""

    base: str
    args: tuple[str, ...]


# {given}: files that the user has elsewhere.
SCENARIOS = {
    "data": Scenario("empty", ("data", "--dataset", "bbc")),
    "init": Scenario(
        "empty",
        (
            *("init", "--train", "{given}/train.csv", "--test", "{given}/test.csv"),
            *("--sample", "{given}/sample_submission.csv"),
        ),
    ),
    "folds": Scenario("input", ("folds",)),
    "folds again": Scenario("finished", ("folds", "--force", "--set", "folds.seed=1")),
    "train": Scenario("folds", ("train", "--model", "tfidf", "--fold", "0")),
    "train transformer": Scenario("folds", ("train", "--model", "tiny", "--fold", "0")),
    "train two": Scenario("folds", ("train", "--model", "tfidf", "--fold", "0,1", "--jobs", "2")),
    "train again": Scenario("finished", ("train", "--force", "--model", "tfidf", "--fold", "0")),
    "new test file": Scenario("new test", ("train", "--model", "tiny", "--fold", "0")),
    "compare": Scenario("trained", ("compare", "--a", "tfidf", "--b", "other")),
    "blend": Scenario("runs", ("blend",)),
    "blend again": Scenario("finished", ("blend", "--set", "blend.methods=[stack]")),
    "submit": Scenario("blended", ("submit",)),
    "submit again": Scenario("finished", ("submit", "--model", "tiny", "--name", "blend")),
    "predict": Scenario("finished", ("predict", "--file", "{given}/test.csv")),
    "views": Scenario("finished", ("views",)),
    "patterns": Scenario("finished", ("patterns",)),
}


# Workspaces


def prepare(folder: Path) -> None:
    """The workspaces, each a copy of the one before it in which more has been done."""
    root = folder / "w"
    backbone = make_backbone(folder / "given/backbone")
    settings = {"metric": "f1", "patterns": "patterns.yaml", "runtime": {"threads": 1}}
    make_workspace(root, n=60, models=["tfidf", "tiny", "other"], **settings)
    shutil.copytree(root / "input", folder / "given", dirs_exist_ok=True)
    write(root / "patterns.yaml", RULES)
    write(root / "presets/other.yaml", "preset: tfidf\nchar_ngrams: [0, 0]\n")
    add_preset(root, backbone, training={"epochs": 3, "precision": "fp32"})
    (folder / "empty").mkdir()

    def keep(name: str, *commands: str) -> None:
        for command in commands:
            assert foldstack(root, *command.split()) == 0, command
        shutil.copytree(root, folder / name)

    runs = [f"train --model {m} --fold {k}" for m in ("tfidf", "tiny", "other") for k in range(3)]
    keep("input")
    keep("folds", "folds")
    keep("trained", *runs[:-1])
    keep("runs", runs[-1])
    keep("blended", "blend")
    keep("finished", "submit")
    test = root / "input/test.csv"
    test.write_text(test.read_text().replace("a ", "one "))
    keep("new test")
    shutil.rmtree(root)


def comparable(root: Path) -> dict[str, bytes]:
    """Every file with its bytes; a run's record without what is measured, and without its digest."""
    found = files(root)
    for name in found:
        if name.endswith("run.json"):
            record = json.loads(found[name])
            kept = {k: v for k, v in record.items() if k not in (*MEASURED, "digest")}
            found[name] = json.dumps(kept).encode()
    return found


# Processes


@dataclass(frozen=True)
class Moment:
    """When the command gets which signal: after some seconds, or before a change to files."""

    signum: int
    seconds: float | None = None
    change: int | None = None

    def __str__(self) -> str:
        when = f"change {self.change}" if self.change else f"{self.seconds:.3f} s"
        return f"{signal.Signals(self.signum).name} at {when}"

    @property
    def codes(self) -> tuple[int, ...]:
        """How a command may end that got it, or that was quicker."""
        return 0, -self.signum, 128 + self.signum


@dataclass(frozen=True)
class Ended:
    code: int
    seconds: float
    output: str


def is_change(root: str, event: str, args: tuple) -> bool:
    """Whether an audit event is a change to a file of the workspace."""
    if event == "open":
        writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return bool(writes) and str(args[0]).startswith(root)
    if event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"):
        return False
    # rmtree names what it removes from an open folder on.
    return any(str(a).startswith(root) for a in args) or args[-1] not in (-1, None)


def watch_changes(root: Path, call: Callable[[int], None]) -> None:
    """Call with the number of each change to a file of the workspace, before it is made."""
    count = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal count
        if is_change(str(root), event, args):
            count += 1
            call(count)

    sys.addaudithook(hook)


def end_at(moment: Moment) -> Callable[[int], None]:
    def call(number: int) -> None:
        if number == moment.change:
            os.killpg(0, moment.signum)

    return call


def start(root: Path, args: tuple[str, ...], log: Path, on_change: Callable | None = None) -> int:
    """The command in a process of its own and a group of its own; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command handles it
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if on_change:
            watch_changes(root, on_change)
        code = command_line(["--workspace", str(root), *args])
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        code = 1
    os._exit(code)


def wait(pid: int, moment: Moment | None) -> int | None:
    """The exit code, as subprocess gives it; None if the process had to be killed at the limit."""
    begin, due = time.monotonic(), moment.seconds if moment else None
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        if due is not None and seconds >= due:
            # Ctrl-C and a closed terminal reach the whole group, `kill` only the process it names.
            alone = moment.signum == signal.SIGTERM
            (os.kill if alone else os.killpg)(pid, moment.signum)
            due = None
        if seconds > LIMIT_SECONDS:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.002)


def reap(pid: int, seconds: float) -> bool:
    """Wait for the processes that the command has left; whether there are none in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            ended, _ = os.waitpid(-pid, os.WNOHANG)
        except ChildProcessError:
            return True
        if not ended:
            time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    return False


def run(root: Path, args: tuple[str, ...], moment: Moment | None = None) -> tuple[Ended, list[str]]:
    """The command and what is wrong with its end."""
    log, begin = root.parent / "log", time.monotonic()
    pid = start(root, args, log, end_at(moment) if moment and moment.change else None)
    with suppress(OSError):  # it has done so, or is gone
        os.setpgid(pid, pid)
    code = wait(pid, moment)
    seconds = time.monotonic() - begin
    wrong = [] if reap(pid, 20) else ["processes left"]
    output = log.read_text(errors="replace")
    if code is None:
        wrong.append("hung")
    elif moment and code not in moment.codes:
        wrong.append("wrong code")
    if "Traceback" in output or "Exception ignored" in output:
        wrong.append("traceback")
    return Ended(-1 if code is None else code, seconds, output), wrong


# Rounds


@dataclass(frozen=True)
class Undisturbed:
    files: dict[str, bytes]
    seconds: float
    changes: int


class Campaign:
    def __init__(self, folder: Path, seed: int):
        self.folder, self.root = folder, folder / "w"
        self.random = random.Random(seed)
        self.counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def copy(self, scenario: Scenario) -> tuple[str, ...]:
        """A fresh workspace; returns the command's arguments."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.folder / scenario.base, self.root)
        return tuple(a.format(given=self.folder / "given") for a in scenario.args)

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        args, changes = self.copy(scenario), self.folder / "changes"
        descriptor = os.open(changes, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

        def note(number: int) -> None:
            os.pwrite(descriptor, str(number).encode(), 0)

        begin = time.monotonic()
        pid = start(self.root, args, self.folder / "log", note)
        code = wait(pid, None)
        seconds = time.monotonic() - begin
        os.close(descriptor)
        assert code == 0, (args, (self.folder / "log").read_text())
        return Undisturbed(comparable(self.root), seconds, int(changes.read_text() or 0))

    def moment(self, signum: int, whole: Undisturbed, number: int) -> Moment:
        if number % 2 and whole.changes:
            return Moment(signum, change=self.random.randint(1, whole.changes))
        return Moment(signum, seconds=self.random.uniform(0, whole.seconds))

    def round(self, name: str, whole: Undisturbed, signum: int, number: int) -> None:
        kind = "SIGKILL" if signum == signal.SIGKILL else "others"
        args, said = self.copy(SCENARIOS[name]), []
        found: Counter[str] = Counter()
        while True:
            moment = self.moment(signum, whole, number)
            ended, wrong = run(self.root, args, moment)
            said.append(f"{moment}: code {ended.code}")
            if ended.code == 2 and self.is_complete(whole):  # it has been ended after its work
                break
            found.update(wrong)
            found["quicker" if ended.code == 0 else "ended"] += 1
            if wrong:
                said.append(ended.output)
            if ended.code == 0 or self.random.random() > 1 / 3:
                break
        found.update(self.given_again(args, whole, said))
        self.counts[name, kind] += found
        if any(found[column] for column in FAULTS):
            wrong = ", ".join(column for column in FAULTS if found[column])
            print(f"{name}: {wrong}", *said, sep="\n    ", flush=True)

    def is_complete(self, whole: Undisturbed) -> bool:
        found = comparable(self.root)
        return all(found.get(name) == data for name, data in whole.files.items())

    def given_again(self, args: tuple[str, ...], whole: Undisturbed, said: list[str]) -> list[str]:
        """Give the command again and compare its files; returns what is to be counted."""
        ended, wrong = run(self.root, args)
        if ended.code == 2 and self.is_complete(whole):
            wrong.append("complete")
        elif ended.code != 0:
            wrong.append("refused")
            said.append(ended.output)
        for path in self.root.rglob("*"):
            os.utime(path, (0, 0), follow_symlinks=False)
        cleaned, _ = run(self.root, ("clean", "tmp"))
        found = comparable(self.root)
        other = [name for name, data in whole.files.items() if found.get(name) != data]
        left = sorted(found.keys() - whole.files.keys())
        left += [str(p) for p in self.root.rglob(".*") if p.is_dir() and p.suffix == ".partial"]
        if cleaned.code != 0:
            left.append("`clean tmp` failed: " + cleaned.output)
        if other:
            said.append(f"other bytes: {other}")
        if left:
            said.append(f"left: {left}")
        return wrong + (["other bytes"] if other else ["same bytes"]) + (["litter"] if left else [])


FAULTS = (
    *("refused", "other bytes", "traceback", "litter", "wrong code", "hung", "processes left"),
)
COLUMNS = ("ended", "quicker", "same bytes", "complete", *FAULTS)


def show(counts: dict[tuple[str, str], Counter[str]]) -> None:
    """ended: processes that a signal ended; quicker: that were done; complete: refused, all is there."""
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    print(f"\n{'':26}", *(f"{column:>{max(len(column), 5)}}" for column in COLUMNS))
    lines = [(f"{name}, {kind}", row) for (name, kind), row in counts.items()]
    for (_, kind), row in counts.items():
        totals[kind] += row
    for name, row in [*lines, *((f"all, {kind}", row) for kind, row in totals.items())]:
        print(f"{name:26}", *(f"{row[column]:{max(len(column), 5)}}" for column in COLUMNS))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    PR_SET_CHILD_SUBREAPER = 36  # what a killed command leaves becomes a child of this process
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path[:2])}
    with tempfile.TemporaryDirectory(prefix="foldstack-campaign-") as name:
        folder = Path(name).resolve()
        in_child(prepare, folder)
        campaign = Campaign(folder, options.seed)
        for command in options.commands or SCENARIOS:
            whole = campaign.undisturbed(SCENARIOS[command])
            print(f"{command}: {whole.seconds:.2f} s, {whole.changes} changes", flush=True)
            for number in range(options.rounds):
                campaign.round(command, whole, signal.SIGKILL, number)
                campaign.round(command, whole, campaign.random.choice(SIGNALS), number)
    show(campaign.counts)
    return int(any(row[column] for row in campaign.counts.values() for column in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
