"""Processes for runs: several runs at once, or several processes per run; signals and exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from foldstack import parallel
from foldstack.cores import cpu_threads
from foldstack.errors import ChildFailed, Interrupted
from foldstack.interrupt import child_environment
from foldstack.progress import say
from foldstack.stages.fitted import threads_of
from foldstack.stages.run import Run
from foldstack.system import LESS_MEMORY, say_error
from foldstack.workspace import Workspace

GRACE_SECONDS = 10.0  # for the other processes of a failed run to end by themselves


def train_each(
    ws: Workspace, todo: list[Run], *, force: bool, jobs: int, processes: int = 1
) -> None:
    """Train each run in a process of its own, or in several; start no more after a failure.

    Args:
        ws: the workspace.
        todo: runs that do not depend on each other.
        force: train finished runs again.
        jobs: the number of runs at once.
        processes: the number of processes per run.

    Raises:
        ChildFailed: a run's process has failed, with its exit code.
    """
    threads, cores = threads_of(ws), cpu_threads(0)
    if jobs > 1 and jobs * threads > cores:
        say(
            f"train: {jobs} runs of {threads} threads each share {cores} cores and may take longer "
            "than one after the other; runtime.threads=1 makes them smaller"
        )
    running: set[subprocess.Popen] = set()
    ended = threading.Event()

    def start(run: Run) -> int:
        if ended.is_set():
            return 0
        try:
            return _child(ws, run, force, jobs == 1, processes, running, ended)
        except Exception:  # the output cannot be written, or no process started
            ended.set()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        try:
            codes = [code for code in pool.map(start, todo) if code]
        except (Interrupted, KeyboardInterrupt) as e:  # the latter outside of the command line
            ended.set()
            signum = e.signum if isinstance(e, Interrupted) else signal.SIGINT
            for process in list(running):
                process.send_signal(signum)
            raise
    if codes:
        raise ChildFailed(codes[0])


def _child(
    ws: Workspace,
    run: Run,
    force: bool,
    shown: bool,
    processes: int,
    running: set[subprocess.Popen],
    ended: threading.Event,
) -> int:
    """Train one run in a process, or in several; return its exit code.

    Args:
        shown: inherit this process's output; otherwise prefix each line with the run's name.
        running: the running processes of all runs.
        ended: set after a failure or a signal, to start no more runs.
    """
    key, command = run.key, _command(ws, run, force)
    pipe = {} if shown else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    shares = [{}] if processes == 1 else parallel.environments(processes, threads_of(ws, processes))
    with ExitStack() as stack:
        group = [
            stack.enter_context(subprocess.Popen(command, env=child_environment() | own, **pipe))
            for own in shares
        ]
        running.update(group)
        if ended.is_set():  # a signal came while they were being started
            for process in group:
                process.terminate()
        if not shown:
            for line in group[0].stdout:
                say(f"{key} | {line.rstrip()}")
        code = _exit_code(group)
    running.difference_update(group)
    if code == -signal.SIGKILL and not ended.is_set():
        say_error(
            f"{key}: its process was killed (SIGKILL), as the system does if memory runs out: "
            f"{LESS_MEMORY}"
        )
    if code:
        ended.set()
    return 128 - code if code < 0 else code  # killed by a signal, as a shell reports it


def _command(ws: Workspace, run: Run, force: bool) -> list[str]:
    """Return the command line that trains this one run."""
    key = run.key
    options = {
        "--model": run.preset or key.model,
        "--name": key.model,
        "--fold": key.run.removeprefix("fold"),
        "--seed": str(key.seed),
    }
    given = [text for option in options.items() for text in option]
    more = ["--force"] if force else []
    return [sys.executable, "-m", "foldstack", *ws.command, "train", *given, *more]


def _exit_code(group: list[subprocess.Popen]) -> int:
    """Return 0, or the code of the first process that failed; kill the others, which may wait for it."""
    if len(group) == 1:
        return group[0].wait()
    while any(process.poll() is None for process in group):
        if any(process.poll() for process in group):
            try:
                for process in group:
                    process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                for process in group:
                    process.kill()
        time.sleep(0.05)
    return next((code for p in group if (code := p.returncode)), 0)
