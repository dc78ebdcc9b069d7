"""Networks whose weights are shared out over the processes of a run: FSDP2 of torch.

Zhao et al. 2023, PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel. Accelerate ignores
its own plugin on CPUs (1.15), where this is tested.
"""

from __future__ import annotations

import warnings
from copy import deepcopy

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import PreTrainedModel

from foldstack import parallel
from foldstack.nets.layers import blocks
from foldstack.nets.trainable import Trainable

# It warns of changes in place, which nobody makes.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def sharded_copy(model: Trainable, device: torch.device) -> Trainable:
    """Return a copy of a network on a device; of each of its weights a process has a part.

    A pass gathers the weights of one block after the other, so all processes must take the same
    passes, by calling the copy. Gradients are means over processes, in parts too.

    Raises InputError if a backbone in it has no stack of layers.
    """
    net = deepcopy(model)
    mesh = init_device_mesh(device.type, (parallel.world_size(),))
    backbones = [m for m in net.modules() if isinstance(m, PreTrainedModel)]
    for block in [block for backbone in backbones for block in blocks(backbone)]:
        fully_shard(block, mesh=mesh)
    # Else they stay whole after a pass without gradients, and later passes miss changes of the parts.
    return fully_shard(net, mesh=mesh, reshard_after_forward=True)


def is_sharded(net: nn.Module) -> bool:
    """Whether `sharded_copy` has made it."""
    return isinstance(net, FSDPModule)
