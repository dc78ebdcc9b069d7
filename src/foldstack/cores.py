"""The cores there are to compute with."""

from __future__ import annotations

import os
import platform

from foldstack import parallel


def machine(threads: int) -> dict[str, object]:
    """What the bytes of any run depend on beside its settings; `training.precision` knows more."""
    return {"processor": platform.machine(), "threads": threads, "processes": parallel.count()}


def cpu_threads(wanted: int) -> int:
    """The threads of a process: as wanted, or (0) one for every core that it may use.

    Processes of one run on one machine share its cores evenly.
    """
    if wanted:
        return wanted
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(cores // parallel.count_here(), 1)
