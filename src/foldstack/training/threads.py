"""Batches without gradients, each computed by one thread of a processor, as many at once as there are.

What is serial in a pass, Python and small operations, then keeps one core waiting instead of all; and
what a batch gives does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], device: torch.device
) -> Iterator[Result]:
    """work(item) of each, in their order, in inference mode and under the caller's autocast.

    An accelerator, or a single thread, takes one after the other.
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
        torch.set_num_threads(threads)  # which a thread has set for those to come, too
