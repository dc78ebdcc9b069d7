"""Training with only the word embeddings that occur, the larger part of a small backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WORTHWHILE = 0.75  # of the vocabulary; if more of it is used, trimming saves little


class TrimmedEmbedding(nn.Module):
    """Some rows of a word embedding, looked up by the ids of the whole.

    A row that occurs in no training text gets no gradient, so AdamW only scales it, by weight
    decay. One more row, of ones and never looked up, is scaled alike and records the factor:
    `restored` equals the result of training with the whole matrix, averages of weights included.
    """

    sparse = False

    def __init__(self, whole: nn.Embedding, ids: np.ndarray):
        """Keep the rows of these ids.

        ids: (m,) unique ids, all that are ever looked up; any other raises IndexError.
        """
        super().__init__()
        kept = torch.from_numpy(ids.astype(np.int64)).to(whole.weight.device)
        index = torch.full((whole.num_embeddings,), whole.num_embeddings, device=kept.device)
        index[kept] = torch.arange(len(kept), device=kept.device)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("kept", kept, persistent=False)
        rows = whole.weight.detach()
        self.weight = nn.Parameter(torch.cat([rows[kept], torch.ones_like(rows[:1])]))
        self.weight.requires_grad_(whole.weight.requires_grad)
        self.padding_idx = None if whole.padding_idx is None else int(index[whole.padding_idx])
        self._whole = [whole]  # in a list, so that it is not registered as a submodule

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(self.index[ids], self.weight, self.padding_idx)

    def restored(self) -> nn.Embedding:
        """Return the whole embedding, on this module's device."""
        whole, weight = self._whole[0], self.weight.detach()
        whole.to(weight.device)
        with torch.no_grad():
            whole.weight.mul_(weight[-1])
            whole.weight[self.kept] = weight[:-1]
        whole.weight.requires_grad_(self.weight.requires_grad)
        return whole


@contextmanager
def trimmed(backbone: nn.Module, ids: np.ndarray) -> Iterator[None]:
    """Trim the word embeddings of a backbone to these ids inside the context, if that pays."""
    try:
        whole = backbone.get_input_embeddings()
    except (NotImplementedError, AttributeError):  # what the library raises if it finds none
        whole = None
    if type(whole) is not nn.Embedding or len(ids) > WORTHWHILE * whole.num_embeddings:
        yield
        return
    part = TrimmedEmbedding(whole, ids)
    backbone.set_input_embeddings(part)
    yield
    backbone.set_input_embeddings(part.restored())
