"""Asynchronous transfer of tensors to an accelerator and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", Tensor, dict[str, Tensor])


def to_device(what: T, device: torch.device) -> T:
    """Return a tensor, or a dictionary of tensors, on the device.

    Transfer to a GPU uses pinned memory, so that the CPU does not wait for the GPU's pending work.
    """
    if isinstance(what, dict):
        return {k: to_device(v, device) for k, v in what.items()}
    if device.type == "cuda" and what.device.type == "cpu":
        what = what.pin_memory()
    return what.to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU; return a function that waits for the copy and returns it."""
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


def is_asynchronous(tensor: Tensor) -> bool:
    """Whether the device of a tensor computes asynchronously."""
    return tensor.device.type != "cpu"


def autocast_dtype(kind: torch.dtype) -> torch.dtype:
    """Return the dtype that autocast computes in on a CPU, or `kind` if autocast is off."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kind
