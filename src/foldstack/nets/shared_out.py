"""Tensors that are shared out over the processes of a run, see `training.sharding`."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor; all processes must call it if it is shared out."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_shared(tensor: Tensor) -> bool:
    """Whether it is shared out."""
    return isinstance(tensor, DTensor)


def shared_as(other: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor shared out as the other one is, if that is; all processes must call it.

    tensor: shared out in another way, or a whole one, which all processes have.
    """
    if not isinstance(other, DTensor):
        return tensor
    if isinstance(tensor, DTensor):
        return tensor.redistribute(other.device_mesh, other.placements)
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
