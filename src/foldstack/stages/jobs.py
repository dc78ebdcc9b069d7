"""How runs share the machine: threads per run, runs at once, and the time that they take."""

from __future__ import annotations

import heapq
import time
from statistics import fmean

import psutil

from foldstack import config
from foldstack.cores import (
    available_memory_mb,
    cpu_cores,
    has_gpu,
    threads_per_run,
    visible_gpus,
)
from foldstack.progress import duration
from foldstack.records import RunRecord, ThroughputRecord
from foldstack.settings import CompetitionSettings
from foldstack.stages.fitted import threads_of
from foldstack.stages.run import Run
from foldstack.store import RunKey
from foldstack.workspace import Workspace

# Memory of a run of a model that has no finished run yet: that of this process, which has read the same
# rows, and as much again, or for a network its libraries and its fit; NETWORK_MB if that is not known.
LIBRARIES_MB = 400
NETWORK_MB = 6000


def throughput(ws: Workspace, folds: int) -> ThroughputRecord:
    """Return how the runs of all listed models, seeds and folds will share this machine."""
    runs = max(len(ws.listed), 1) * len(ws.choose_seeds(None)) * folds
    return shares(ws.competition.settings, runs)


def shares(settings: CompetitionSettings, runs: int) -> ThroughputRecord:
    """Return how this number of runs of a competition will share this machine."""
    cores, gpu = cpu_cores(), has_gpu()
    return ThroughputRecord(
        cores=cores,
        gpu=gpu,
        runs=runs,
        threads=cores if gpu else threads_per_run(cores, runs),
        given=settings.runtime.threads or None,
    )


class Jobs:
    """The runs of one call of `train`: how many at once, and the time that those left will take.

    Attributes:
        threads: per run.
        cores: of the machine.
        most: the largest number of runs at once: one per GPU if one computes.
        left: the runs that have not ended, by key.
        several: whether there are several runs.
    """

    def __init__(self, ws: Workspace, todo: list[Run], given: int, processes: int):
        """Read what finished runs with the same settings took.

        Args:
            ws: the workspace.
            todo: all runs of the call, in any order.
            given: the number of runs at once that the user has given; 0 to choose it.
            processes: the number of processes per run.
        """
        self.threads, self.cores = threads_of(ws, processes), cpu_cores()
        self._given, self._processes = given, processes
        self._are_stored = not ws.competition.settings.runtime.threads
        self.several = len(todo) > 1
        self._count, self.left = len(todo), {run.key: run for run in todo}
        self._begin = time.monotonic()
        self._since: dict[RunKey, float] = {}
        self._earlier: dict[str, list[float]] = {}  # seconds of each model's finished runs
        self._timed: dict[str, list[float]] = {}  # of those of this call, whose start counts too
        self._peak_mb: dict[str, int] = {}
        self._assumed_mb: dict[str, int] = {}  # beside this process's, where no run has ended
        self._own_mb = psutil.Process().memory_info().rss // 2**20
        self._free_mb = available_memory_mb()
        for run in {run.key.model: run for run in todo}.values():
            for record in ws.store.runs(run.key.model).values():
                if self._is_alike(run, record):
                    self._earlier.setdefault(run.key.model, []).append(record.seconds)
                    self._note_memory(run, record)
            self._assumed_mb[run.key.model] = self._assumed(run, len(ws.competition.train))
        on_gpu = any(r.settings.traits.torch for r in todo) and has_gpu()
        self._gpus = visible_gpus() if on_gpu and processes == 1 else []
        self._gpu_of: dict[RunKey, str] = {}
        at_once = max(len(self._gpus), 1) if on_gpu else self.cores // self.threads
        self.most = given or (1 if processes > 1 else max(min(at_once, len(todo)), 1))

    def _is_alike(self, run: Run, record: RunRecord) -> bool:
        """Return whether this run will take what the finished one took."""
        ours = config.identity(run.settings)
        alike = not config.settings_differences(record.identity.settings, ours)
        return alike and record.machine.get("threads") == self.threads

    def _note_memory(self, run: Run, record: RunRecord) -> None:
        model = run.key.model
        self._peak_mb[model] = max(self._peak_mb.get(model, 0), record.peak_memory_mb)

    def begin(self, run: Run) -> None:
        """Take note of the time at which a run starts; of several GPUs it gets the least used one."""
        self._since[run.key] = time.monotonic()
        if len(self._gpus) > 1:
            used = [self._gpu_of[key] for key in self._since if key in self._gpu_of]
            self._gpu_of[run.key] = min(self._gpus, key=used.count)

    def environment(self, run: Run) -> dict[str, str]:
        """Return what to add to the environment of a run that has begun: its GPU, of several."""
        gpu = self._gpu_of.get(run.key)
        return {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}

    def end(self, run: Run, record: RunRecord) -> None:
        """Take note of a finished run's memory and time."""
        del self.left[run.key]
        seconds = time.monotonic() - self._since.pop(run.key)
        whole = max(seconds, record.seconds)  # the latter if it was resumed
        self._timed.setdefault(run.key.model, []).append(whole)
        self._note_memory(run, record)

    def may_begin(self, run: Run) -> bool:
        """Return whether there is a job for this run, and memory beside the running ones."""
        return self._fits([self.left[key] for key in self._since], run)

    def at_once(self) -> int:
        """Return the number of runs that are at once, of those left in their order."""
        first: list[Run] = []
        for run in self._in_order():
            if not self._fits(first, run):
                break
            first.append(run)
        return max(len(first), 1)

    def _fits(self, running: list[Run], run: Run) -> bool:
        """Return whether a run fits beside these: always, if they are none."""
        if not running or len(running) >= self.most:
            return not running
        return bool(self._given) or sum(map(self._memory_mb, [*running, run])) <= self._free_mb

    def _in_order(self) -> list[Run]:
        """Return the runs left, those that are running first."""
        keys = [*self._since, *(key for key in self.left if key not in self._since)]
        return [self.left[key] for key in keys]

    def _memory_mb(self, run: Run) -> int:
        """Return the memory that a run may take."""
        model = run.key.model
        return self._peak_mb.get(model, self._own_mb + self._assumed_mb[model])

    def _assumed(self, run: Run, rows: int) -> int:
        if not run.settings.traits.torch:
            return self._own_mb
        fit = run.settings.fit_mb(rows)
        return NETWORK_MB if fit is None else LIBRARIES_MB + fit

    def plan(self) -> list[str]:
        """Return how the runs share the machine, as lines."""
        at_once, threads = self.at_once(), f"{self.threads} thread{'s' * (self.threads != 1)}"
        gpus = f" on {len(self._gpus)} GPUs" if len(self._gpus) > 1 else ""
        lines = [f"train: {self._count} runs, {at_once} at once{gpus} with {threads} each"]
        if self._processes > 1:
            lines = []
        elif at_once < min(self.most, self._count):
            most = max(map(self._memory_mb, self.left.values()))
            lines[0] += f": {self._free_mb:,} MB of memory are free, and one may take {most:,} MB"
        if not self._gpus and self.most > 1 and self.most * self.threads > self.cores:
            lines.append(
                f"train: {self.most} runs of {self.threads} threads each share {self.cores} cores and "
                "may take longer than one after the other; runtime.threads=1 makes them smaller"
            )
        if self._are_stored and self.threads > self.cores:
            lines.append(
                f"train: folds/folds.json gives each run {threads}, more than the {self.cores} cores "
                "here, and a run's last bits depend on them: `make folds FORCE=1` chooses again"
            )
        return lines

    def progress(self) -> str:
        """Return the number of finished runs and the time that the others will take, as a line.

        Once all are finished, it has the time since the first one began.
        """
        if not self.left:
            took = duration(time.monotonic() - self._begin)
            return f"train: {self._count} of {self._count} runs in {took}"
        now, known, unknown = time.monotonic(), [], []
        for key in (run.key for run in self._in_order()):
            found = self._timed.get(key.model) or self._earlier.get(key.model)
            if found:
                known.append(fmean(found) - now + self._since.get(key, now))
            else:
                unknown.append(key.model)
        parts = [f"train: {self._count - len(self.left)} of {self._count} runs"]
        if known:
            parts.append(f"about {duration(time_left(known, self.at_once()))} left")
        if unknown:
            names = ", ".join(dict.fromkeys(unknown))
            parts.append(f"not counting {names}" if known else "the time left is not known yet")
        return ", ".join(parts)


def time_left(seconds: list[float], at_once: int) -> float:
    """Return the time until runs of these lengths have ended, begun in this order, some at once."""
    free = [0.0] * at_once
    for each in seconds:
        heapq.heapreplace(free, free[0] + max(each, 0.0))
    return max(free)
