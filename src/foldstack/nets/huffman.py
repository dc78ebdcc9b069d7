"""Hierarchical softmax: classes as the leaves of a binary tree."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HuffmanTree(nn.Module):
    """From the logits of a binary tree's nodes to log probabilities of its leaves, the classes.

    A class's probability is the product of those of the turns on the way to it, sigmoid(z) to the
    first child of a node with logit z and sigmoid(-z) to the second, so that they sum to 1 (Morin and
    Bengio 2005). Classes of more rows are closer to the root (Huffman 1952), as in fastText (Joulin et
    al. 2017). Each row gives all classes, which soft targets require.
    """

    def __init__(self, classes: int):
        super().__init__()
        # Nodes are numbered from the root, level by level; child K - 1 + c is class c of K.
        self.register_buffer("turns_to", torch.zeros(classes - 1, 2, dtype=torch.long))

    @torch.no_grad()
    def build(self, shares: Sequence[float]) -> None:
        """Build the tree of classes of these shares of the rows."""
        self.turns_to.copy_(torch.tensor(huffman(shares)))

    def forward(self, nodes: Tensor) -> Tensor:
        """Return (b, classes) log probabilities of (b, classes - 1) logits of nodes."""
        count = nodes.shape[1]
        turns = torch.stack([F.logsigmoid(nodes), F.logsigmoid(-nodes)], dim=2)
        level = torch.zeros(1, dtype=torch.long, device=nodes.device)
        reached, classes, found = nodes.new_zeros(len(nodes), 1), [], []
        while len(level):
            below = self.turns_to[level].flatten()
            at = (reached.unsqueeze(2) + turns[:, level]).flatten(1)
            leaf = below >= count
            classes.append(below[leaf] - count)
            found.append(at[:, leaf])
            level, reached = below[~leaf], at[:, ~leaf]
        return torch.cat(found, dim=1)[:, torch.cat(classes).argsort()]

    def node_logits(self, logits: Tensor) -> Tensor:
        """Return the (classes - 1,) logits of nodes that give the softmax of these (classes,) logits."""
        count = len(self.turns_to)
        mass = torch.cat([torch.zeros(count, dtype=logits.dtype), logits.cpu()])
        for node in reversed(range(count)):  # children have higher numbers
            mass[node] = mass[self.turns_to[node].cpu()].logsumexp(dim=0)
        first, second = mass[self.turns_to.cpu()].T
        return first - second


def huffman(weights: Sequence[float]) -> list[list[int]]:
    """Return the two children of each node, see `HuffmanTree`; equal weights in the order of classes."""
    order, leaves = count(), len(weights)
    heap = [(float(w), next(order), k) for k, w in enumerate(weights)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, _, first), (b, _, second) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (a + b, next(order), (first, second)))
    children: list[list[int]] = []
    level = [heap[0][2]]
    while level:
        below = [child for pair in level for child in pair]
        inner = [child for child in below if isinstance(child, tuple)]
        numbers = iter(range(len(children) + len(level), leaves))
        places = [next(numbers) if isinstance(c, tuple) else leaves - 1 + c for c in below]
        children += [places[i : i + 2] for i in range(0, len(places), 2)]
        level = inner
    return children
