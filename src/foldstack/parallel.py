"""Several processes that train one run together: which of them this one is, and what they share.

`foldstack train --processes N`, torchrun and `accelerate launch` start them, each with its number in the
environment. All read the same files and come to the same decisions; the main one alone writes and
speaks. In a process of its own, each function here does nothing or hands back what it was given.
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


def _number(name: str, alone: int) -> int:
    """Of the environment that a launcher makes; a stray WORLD_SIZE of a cluster's does not count."""
    return int(os.environ.get(name, alone)) if "LOCAL_RANK" in os.environ else alone


def count() -> int:
    return _number("WORLD_SIZE", 1)


def count_here() -> int:
    """Of those on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def index() -> int:
    """Of this process, from 0."""
    return _number("RANK", 0)


def is_main() -> bool:
    """Whether this is the one process that writes files and shows progress."""
    return index() == 0


def is_main_here() -> bool:
    """Whether this is the one process of its machine that says what is wrong with its files."""
    return _number("LOCAL_RANK", 0) == 0


def environments(processes: int, threads: int) -> list[dict[str, str]]:
    """What to add to the environment of each of so many processes on this machine."""
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
    """Meet the other processes: over NCCL where there are GPUs, and over gloo for what CPUs hold.

    Raises InputError where there are more processes than GPUs, unless there are none at all.
    """
    if count() == 1:
        return
    import torch
    from accelerate import PartialState

    gpus = torch.cuda.device_count()
    if 0 < gpus < count_here():
        raise InputError(
            f"{count_here()} processes want a GPU each and this machine has {gpus}: start {gpus}"
        )
    backend = {"backend": "cuda:nccl,cpu:gloo"} if gpus else {}
    PartialState(cpu=not gpus, **backend)


def leave() -> None:
    """The end of what the processes do together."""
    if count() > 1:
        import torch.distributed as dist

        dist.destroy_process_group()


def largest(number: int) -> int:
    """The largest of the processes' numbers; told between CPUs, so that no accelerator waits."""
    if count() == 1:
        return number
    import torch
    import torch.distributed as dist

    told = torch.tensor(number)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return int(told)


def wait() -> None:
    """Until all processes are here."""
    largest(0)


def main_first(work: Callable[[], T]) -> T:
    """What `work` returns in each process; the others begin when the main one has ended.

    Raises ChildFailed in the others where the main one, which says why, has failed.
    """
    if not is_main():
        if largest(0):
            raise ChildFailed(1)
        return work()
    failed = 1
    try:
        done = work()
        failed = 0
    finally:
        largest(failed)
    return done


def summed(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place and without gradients."""
    if count() > 1:
        import torch.distributed as dist

        dist.all_reduce(tensor)
    return tensor


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of the items: each is in the part of one process."""
    return items[index() :: count()]
