"""Tensors that are shared out over the processes of a run, see `training.sharding`."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor; all processes must call it if it is shared out."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_as(other: Tensor, tensor: Tensor) -> Tensor:
    """Return a whole tensor, which all processes have, shared out if the other one is, and likewise."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
