"""Digests of loaded networks."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from foldstack.text.cache import tokenizer_key

OF_FILES = ("_name_or_path", "transformers_version")  # of a config, and no part of the network


def content_of(network: nn.Module, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return a digest of a network's weights, config and tokenizer; None if Python code tokenises."""
    if tokenizer_key(tokenizer) is None:
        return None
    config = {k: v for k, v in network.config.to_dict().items() if k not in OF_FILES}
    described = [type(network).__name__, config, tokenizer_key(tokenizer)]
    h = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, weight in network.state_dict().items():
        h.update(name.encode())
        h.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return h.hexdigest()
