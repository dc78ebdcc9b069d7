"""CUDA graphs: all kernels of a micro-batch, launched at once.

The kernels of a small backbone take microseconds, and Python takes longer to launch a kernel than
the GPU to run it. A graph holds the kernels of one pass over inputs of one shape, adversary's
passes and gradients included, and launches them without Python (Gray 2019, Getting started with
CUDA graphs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from foldstack.nets.mixup import Mixup
from foldstack.progress import say
from foldstack.training.micro_batch import MicroBatch

Pass = Callable[[MicroBatch], Tensor]  # adds gradients, returns the loss


class Graphs:
    """Passes over micro-batches, captured as a CUDA graph from the second of each shape on.

    The first pass of a shape runs eagerly, which lets libraries choose their kernels and allocates
    the gradients. These must stay allocated: zero them, do not drop them. If a pass cannot be
    captured, because it reads a value from the device, all passes run eagerly.
    """

    def __init__(self, run: Pass, capture: Callable[[Pass, MicroBatch], Pass] | None = None):
        """Set what runs a pass.

        capture: makes a graph of a pass; default: on the current CUDA device.
        """
        self.run = run
        self.capture = capture or partial(Graph, pool=torch.cuda.graph_pool_handle())
        self.graphs: dict[tuple[torch.Size, ...], Pass | None] = {}
        self.works = True

    def __call__(self, part: MicroBatch) -> Tensor:
        if not self.works:
            return self.run(part)
        shape = tuple(t.shape for t in tensors(part))
        if shape not in self.graphs:
            self.graphs[shape] = None
            return self.run(part)
        if self.graphs[shape] is None:
            try:
                self.graphs[shape] = self.capture(self.run, part)
            except RuntimeError as e:
                self.works = False
                self.graphs.clear()
                say(
                    f"without CUDA graphs, which this model does not allow: {str(e).splitlines()[0]}"
                )
                return self.run(part)
        return self.graphs[shape](part)


class Graph:
    """One pass over micro-batches of one shape, captured on the current CUDA device.

    Each replay takes the random numbers from torch's generator that an eager pass would take.
    Graphs of one pool share memory, so the loss must be used before another graph runs.

    Raises RuntimeError if the pass reads a value from the device; the random state is then
    restored.
    """

    def __init__(self, run: Pass, part: MicroBatch, pool: tuple[int, int]):
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        as_before = generator.clone_state()
        self.inputs = each(Tensor.clone, part)
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph, pool=pool):
                self.loss = run(self.inputs)
        except RuntimeError:
            generator.graphsafe_set_state(as_before)  # else it remains in capture mode
            raise

    def __call__(self, part: MicroBatch) -> Tensor:
        torch._foreach_copy_(tensors(self.inputs), tensors(part))
        self.graph.replay()
        return self.loss


def tensors(part: MicroBatch) -> list[Tensor]:
    """Return all tensors that differ between two micro-batches."""
    found: list[Tensor] = []
    each(lambda t: found.append(t) or t, part)
    return found


def each(change: Callable[[Tensor], Tensor], part: MicroBatch) -> MicroBatch:
    """Return the micro-batch with `change` applied to all of its tensors."""
    mixup, auxiliary, taught = part.mixup, part.auxiliary, part.taught
    return replace(
        part,
        inputs={k: change(v) for k, v in part.inputs.items()},
        targets=change(part.targets),
        weights=change(part.weights),
        total_weight=change(part.total_weight),
        mixup=None if mixup is None else Mixup(change(mixup.partner), change(mixup.own)),
        auxiliary=None if auxiliary is None else change(auxiliary),
        taught=None if taught is None else change(taught),
    )
