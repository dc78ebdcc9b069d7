"""The body of a network from scratch: word vectors, with dropout of words and of features."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BOUND = 0.25  # of the uniform distribution that word vectors are drawn from (Kim 2014)


@dataclass(frozen=True)
class WordVectorsConfig:
    """The attributes that poolings and the classifier read of a backbone's config."""

    vocab_size: int
    hidden_size: int
    word_dropout: float = 0.0
    spatial_dropout: float = 0.0
    pad_token_id: int = 0
    num_hidden_layers: int = 1
    max_position_embeddings: int | None = None
    initializer_range: float = 0.02
    model_type: str = "word vectors"

    def to_dict(self) -> dict:
        return asdict(self)


class WordVectors(nn.Module):
    """One vector per token, whatever the tokens beside it."""

    def __init__(self, config: WordVectorsConfig):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        nn.init.uniform_(self.words.weight, -BOUND, BOUND)
        with torch.no_grad():
            self.words.weight[config.pad_token_id] = 0

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def set_input_embeddings(self, module: nn.Module) -> None:
        self.words = module

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        """Return ((b, t, h) vectors,) of (b, t) ids.

        The vectors of the words that are kept grow in proportion, so that their mean is that over
        these words alone (Iyyer et al. 2015).
        """
        vectors = self.words(input_ids)
        if self.training and (rate := self.config.spatial_dropout):
            vectors = F.dropout1d(vectors.transpose(1, 2), rate).transpose(1, 2)
        if self.training and (rate := self.config.word_dropout):
            vectors = vectors * self._kept(attention_mask, rate).unsqueeze(2).to(vectors.dtype)
        return (vectors,)

    @staticmethod
    def _kept(mask: Tensor, rate: float) -> Tensor:
        """Return (b, t): zero for words that are left out, and what the others are multiplied with."""
        kept = mask * (torch.rand(mask.shape, device=mask.device) >= rate)
        # A text of which no word would be left is read whole.
        kept = torch.where(kept.sum(dim=1, keepdim=True) > 0, kept, mask)
        return kept * (mask.sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True))
