"""Tensors on their way to an accelerator and back, without either side waiting for the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", Tensor, dict[str, Tensor])


def to_device(what: T, device: torch.device) -> T:
    """A tensor, or those of a dictionary, on the device.

    To a GPU they go by pinned memory, so that the CPU does not wait for what the GPU has still to do.
    """
    if isinstance(what, dict):
        return {k: to_device(v, device) for k, v in what.items()}
    if device.type == "cuda" and what.device.type == "cpu":
        what = what.pin_memory()
    return what.to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU; the function returned waits for the copy and gives it."""
    if tensor.device.type != "cuda":
        return tensor.cpu
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return copy

    return wait


def computes_ahead(tensor: Tensor) -> bool:
    """Whether the device of a tensor computes while Python continues."""
    return tensor.device.type != "cpu"


def lowered(kind: torch.dtype) -> torch.dtype:
    """Return the type that autocast makes a processor compute in, or `kind` if it is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kind
