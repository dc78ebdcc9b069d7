"""Batches without gradients, computed in parallel, each by one CPU thread.

Serial parts of a pass (Python and small operations) then block one core instead of all, and a
batch's result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    work: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> Iterator[Result]:
    """Yield work(item) of each item in order, in inference mode and under the caller's autocast.

    On an accelerator, or with a single thread, items are computed one after the other.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(items) < 2:
        with torch.inference_mode():
            yield from map(work, items)
        return
    lower, kind = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def alone(item: Item) -> Result:
        with torch.inference_mode(), torch.autocast("cpu", dtype=kind, enabled=lower):
            return work(item)

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(alone, items)
    finally:
        torch.set_num_threads(threads)  # the threads above have set it globally
