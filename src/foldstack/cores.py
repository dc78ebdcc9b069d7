"""How many cores there are to compute with."""

from __future__ import annotations

import os


def cpu_threads(wanted: int) -> int:
    """The threads of a run: as wanted, or (0) one for every core this process may use."""
    if wanted:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
