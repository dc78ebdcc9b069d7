"""The direction of a backbone's attention: causal, or over the whole text."""

from __future__ import annotations

import torch
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from foldstack.errors import InputError


def is_causal(backbone: nn.Module) -> bool:
    """Return whether a token sees only those before it.

    Masked language models do not. Some decoders attend in both directions, and a checkpoint's own code
    may do anything, so other backbones are tested.
    """
    kind, config = backbone.config.model_type, backbone.config
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    return not encoder and not _sees_ahead(backbone)


@torch.no_grad()
def _sees_ahead(backbone: nn.Module, padding: int = 0) -> bool:
    """Return whether the first token's vector depends on the second token, with so much padding."""
    training = backbone.training
    backbone.eval()
    ids = torch.ones(2, 16, dtype=torch.long, device=backbone.device)  # Canine's minimum
    ids[1, 1] = 2
    mask = torch.ones_like(ids)
    mask[:, 16 - padding :] = 0
    first, second = backbone(input_ids=ids, attention_mask=mask)[0][:, 0]
    backbone.train(training)
    return not torch.allclose(first, second, rtol=1e-5, atol=1e-7)


def set_attention(backbone: nn.Module, attention: str) -> None:
    """Let a backbone attend in this direction, `causal` or `bidirectional`, in place.

    Its config says so, which the library's masks and kernels follow, and which a saved run has.

    Raises InputError if it attends so already, or cannot.
    """
    causal, config = attention == "causal", backbone.config
    if causal is not _sees_ahead(backbone):
        raise InputError(
            f"attention: {attention} has no effect, since a backbone of type '{config.model_type}' "
            "attends so by itself: leave it out"
        )
    config.is_causal = causal
    if causal and getattr(config, "use_bidirectional_attention", False):
        config.use_bidirectional_attention = False  # Gemma 3
    if causal in (_sees_ahead(backbone), _sees_ahead(backbone, padding=1)):
        raise InputError(
            f"attention: {attention} is not possible with a backbone of type '{config.model_type}': "
            "leave it out"
        )
