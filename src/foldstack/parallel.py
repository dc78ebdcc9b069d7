"""Distributed training: the rank of this process and collective operations.

`foldstack train --processes N`, torchrun and `accelerate launch` start the processes, each with its
rank in the environment. All read the same files and make the same decisions; only the main process
writes and logs. In a single process, each function here does nothing or returns its argument.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from foldstack.errors import ChildFailed, InputError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def _from_launcher(name: str, default: int) -> int:
    """Return a variable that a launcher sets; ignore a stray WORLD_SIZE set by a cluster."""
    return int(os.environ.get(name, default)) if "LOCAL_RANK" in os.environ else default


def world_size() -> int:
    """Return the number of processes (the world size)."""
    return _from_launcher("WORLD_SIZE", 1)


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    return _from_launcher("LOCAL_WORLD_SIZE", 1)


def rank() -> int:
    """Return the rank of this process, from 0."""
    return _from_launcher("RANK", 0)


def is_main() -> bool:
    """Return whether this is the process that writes files and shows progress."""
    return rank() == 0


def is_main_here() -> bool:
    """Return whether this is the main process of its machine, which reports errors of its files."""
    return _from_launcher("LOCAL_RANK", 0) == 0


def environments(processes: int, threads: int) -> list[dict[str, str]]:
    """Return the variables to add to the environment of each of `processes` local processes."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    shared = {
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": threads,
    }
    return [
        {k: str(v) for k, v in (shared | {"RANK": i, "LOCAL_RANK": i}).items()}
        for i in range(processes)
    ]


def join() -> None:
    """Initialise the process group: NCCL for tensors on GPUs, gloo for tensors on CPUs.

    Raises InputError if there are GPUs, but fewer than processes.
    """
    if world_size() == 1:
        return
    import torch
    from accelerate import PartialState

    gpus = torch.cuda.device_count()
    if 0 < gpus < local_world_size():
        raise InputError(
            f"{local_world_size()} processes require one GPU each and this machine has {gpus}: "
            f"start {gpus}"
        )
    backend = {"backend": "cuda:nccl,cpu:gloo"} if gpus else {}
    PartialState(cpu=not gpus, **backend)


def leave() -> None:
    """Destroy the process group."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.destroy_process_group()


def all_reduce_max(number: int) -> int:
    """Return the largest of the processes' numbers, reduced on the CPU so that no accelerator waits."""
    if world_size() == 1:
        return number
    import torch
    import torch.distributed as dist

    reduced = torch.tensor(number)
    dist.all_reduce(reduced, dist.ReduceOp.MAX)
    return int(reduced)


def barrier() -> None:
    """Block until all processes reach this call (a barrier)."""
    all_reduce_max(0)


def main_first(work: Callable[[], T]) -> T:
    """Run `work` in the main process, then in the others; return its result in each.

    Raises ChildFailed in the others if it failed in the main process, which reports the error.
    """
    if not is_main():
        if all_reduce_max(0):
            raise ChildFailed(1)
        return work()
    failed = 1
    try:
        done = work()
        failed = 0
    finally:
        all_reduce_max(failed)
    return done


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place and without gradients (all-reduce)."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)
    return tensor


def shard(items: Sequence[T]) -> Sequence[T]:
    """Return this process's shard of the items; each item is in one shard."""
    return items[rank() :: world_size()]
