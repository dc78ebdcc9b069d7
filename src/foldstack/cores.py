"""CPU cores and threads of this machine."""

from __future__ import annotations

import os
import platform

from foldstack import parallel


def machine(threads: int) -> dict[str, object]:
    """Return what else a run's bytes depend on beside its settings; see also `training.precision`."""
    return {"processor": platform.machine(), "threads": threads, "processes": parallel.world_size()}


def cpu_threads(requested: int) -> int:
    """Return the threads of a process: as requested, or (0) one per core that it may use.

    Processes of one run on one machine share its cores evenly.
    """
    if requested:
        return requested
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(cores // parallel.local_world_size(), 1)
