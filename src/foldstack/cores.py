"""CPU cores, memory and accelerators of this machine."""

from __future__ import annotations

import math
import os
import platform
import sys
from glob import glob

from foldstack import cgroups, parallel

# Device files of GPUs: NVIDIA's, AMD's, Windows' for its Linux, Intel's.
GPU_FILES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg", "/dev/dri/renderD*")


def machine(threads: int) -> dict[str, object]:
    """Return what else a run's bytes depend on beside its settings; see also `training.precision`."""
    return {"processor": platform.machine(), "threads": threads, "processes": parallel.world_size()}


def cpu_threads(requested: int) -> int:
    """Return the threads of a process: as requested, or (0) one per core that it may use.

    Processes of one run on one machine share its cores evenly.
    """
    return requested or max(cpu_cores() // parallel.local_world_size(), 1)


def cpu_cores() -> int:
    """Return the number of cores that this process may use, by its affinity and a container's limit."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return min([cores, *(max(math.ceil(quota), 1) for quota in cgroups.cpu_quotas())])


def threads_per_run(cores: int, runs: int) -> int:
    """Return the threads of each run with which `runs` runs take the least time together.

    One thread, as many runs at once as there are cores: what one run leaves idle, Python and small
    operations, another one uses. More threads only if there are fewer runs than cores.
    """
    return max(cores // min(cores, max(runs, 1)), 1)


def has_gpu() -> bool:
    """Return whether torch finds an accelerator; import torch only if the machine shows one."""
    if sys.platform != "darwin" and not any(map(glob, GPU_FILES)):
        return False
    import torch

    return torch.accelerator.is_available()


def visible_gpus() -> list[str]:
    """Return the CUDA devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    if not has_gpu():
        return []
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    count = torch.cuda.device_count()
    return named[:count] if named[0] else [str(i) for i in range(count)]


def memory_mb() -> int:
    """Return the MB of memory of this machine, within a container's limit."""
    import psutil

    return min([psutil.virtual_memory().total, *cgroups.memory_limits()]) // 2**20


def available_memory_mb() -> int:
    """Return the MB of memory that new processes may take, within a container's limit."""
    import psutil

    free = min([psutil.virtual_memory().available, *cgroups.memory_left()])
    return max(free, 0) // 2**20
