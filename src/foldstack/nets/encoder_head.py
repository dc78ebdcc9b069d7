"""A pooling by a transformer from scratch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from foldstack import techniques
from foldstack.nets.poolings import Pooling, mean_pool

FASTEST, SLOWEST = 1.0, 1e4  # radians per token of the sinusoids, and its inverse


class EncoderPooling(Pooling):
    """Encoder layers with the norm first (Xiong et al. 2020), over word vectors and sinusoids."""

    def __init__(self, head: techniques.EncoderHead, config: PretrainedConfig, outputs: int):
        super().__init__(head, config, outputs)
        layer = nn.TransformerEncoderLayer(
            self.size, head.heads, head.width, dropout=0.1, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(self.size)
        self.encoder = nn.TransformerEncoder(layer, head.layers, norm, enable_nested_tensor=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        tokens = states[:, -1]
        tokens = math.sqrt(self.size) * tokens + sinusoids(tokens)
        return mean_pool(self.encoder(tokens, src_key_padding_mask=~mask.bool()), mask)


def sinusoids(tokens: Tensor) -> Tensor:
    """Return (t, h): sine and cosine of each position at h / 2 rates (Vaswani et al. 2017)."""
    _, t, h = tokens.shape
    pairs = torch.arange(0, h, 2, device=tokens.device, dtype=torch.float32)
    angles = torch.outer(
        torch.arange(t, device=tokens.device, dtype=torch.float32),
        FASTEST * torch.exp(-pairs / h * math.log(SLOWEST)),
    )
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :h].to(tokens.dtype)
