"""Processes for runs: several runs at once, or several processes per run; signals and exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from foldstack import parallel
from foldstack.errors import ChildFailed, Interrupted
from foldstack.interrupt import child_environment
from foldstack.progress import StatusLine, say
from foldstack.stages.fitted import threads_of
from foldstack.stages.jobs import Jobs
from foldstack.stages.run import Run
from foldstack.system import LESS_MEMORY, say_error
from foldstack.workspace import Workspace

PIPED = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
STATUS_SECONDS = 1.0
GRACE_SECONDS = 10.0  # for the other processes of a failed run to end by themselves


def train_each(
    ws: Workspace, todo: list[Run], jobs: Jobs, *, force: bool, processes: int = 1
) -> None:
    """Train each run in a process of its own, or in several; start no more after a failure.

    Args:
        ws: the workspace.
        todo: runs that do not depend on each other.
        jobs: how many at once; told of each run that begins and ends.
        force: train finished runs again.
        processes: the number of processes per run.

    Raises:
        ChildFailed: a run's process has failed, with its exit code.
    """
    launch, codes = _Launch(ws, force, jobs.most == 1, processes), {}
    with ThreadPoolExecutor(jobs.most) as pool:
        try:
            for run, code in _as_ended(launch, todo, jobs, pool):
                codes[run.key] = code
        except (Interrupted, KeyboardInterrupt) as e:  # the latter outside of the command line
            launch.stop(e.signum if isinstance(e, Interrupted) else signal.SIGINT)
            raise
    failed = [codes[run.key] for run in todo if codes.get(run.key)]
    if failed:
        raise ChildFailed(failed[0])


def _as_ended(
    launch: _Launch, todo: list[Run], jobs: Jobs, pool: ThreadPoolExecutor
) -> Iterator[tuple[Run, int]]:
    """Start each run as soon as `jobs` allows; yield the runs as they end, with their exit codes.

    The time left is shown below the other lines of a terminal, elsewhere after each run.
    """
    waiting, running = list(todo), {}
    with StatusLine(jobs.most > 1) as status:
        while running or (waiting and not launch.ended.is_set()):
            while waiting and jobs.may_begin(waiting[0]) and not launch.ended.is_set():
                run = waiting.pop(0)
                jobs.begin(run)
                running[pool.submit(launch.train, run, jobs.environment(run))] = run
            ended, _ = wait(running, STATUS_SECONDS if status.shown else None, FIRST_COMPLETED)
            for future in ended:
                run, code = running.pop(future), future.result()
                if not code:
                    jobs.end(run, launch.ws.store.read_run(run.key))
                    if jobs.several and not (jobs.left and status.shown):
                        say(jobs.progress())
                yield run, code
            status.show(jobs.progress())


@dataclass
class _Launch:
    """The processes of several runs.

    Attributes:
        shown: they inherit this process's output; otherwise each line names its run.
        processes: per run.
        running: those that run.
        ended: set after a failure or a signal, to start no more runs.
    """

    ws: Workspace
    force: bool
    shown: bool
    processes: int
    running: set[subprocess.Popen] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    def train(self, run: Run, own: dict[str, str]) -> int:
        """Train one run; return its exit code. own: added to its environment."""
        try:
            return self._train(run, own)
        except Exception:  # the output cannot be written, or no process started
            self.ended.set()
            raise

    def stop(self, signum: int) -> None:
        """Send a signal to all processes and start no more."""
        self.ended.set()
        for process in list(self.running):
            process.send_signal(signum)

    def _train(self, run: Run, added: dict[str, str]) -> int:
        key, command = run.key, _command(self.ws, run, self.force)
        pipe = {} if self.shown else PIPED
        with ExitStack() as stack:
            group = [
                stack.enter_context(
                    subprocess.Popen(command, env=child_environment() | added | own, **pipe)
                )
                for own in self._environments()
            ]
            self.running.update(group)
            if self.ended.is_set():  # a signal came while they were being started
                for process in group:
                    process.terminate()
            if not self.shown:
                for line in group[0].stdout:
                    say(
                        line.rstrip() if line.startswith(f"{key}: ") else f"{key} | {line.rstrip()}"
                    )
            code = _exit_code(group)
        self.running.difference_update(group)
        if code == -signal.SIGKILL and not self.ended.is_set():
            say_error(
                f"{key}: its process was killed (SIGKILL), as the system does if memory runs out: "
                f"{LESS_MEMORY}"
            )
        if code:
            self.ended.set()
        return 128 - code if code < 0 else code  # killed by a signal, as a shell reports it

    def _environments(self) -> list[dict[str, str]]:
        """Return what to add to the environment of each process of a run."""
        if self.processes == 1:
            return [{}]
        return parallel.environments(self.processes, threads_of(self.ws, self.processes))


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
