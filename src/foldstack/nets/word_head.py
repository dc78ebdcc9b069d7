"""MLM heads: the checkpoint's own, or a newly initialised one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from foldstack.nets.backbone import from_pretrained


class WordHead(NamedTuple):
    """The layers of an MLM head between a backbone and its word embeddings.

    vectors: maps (k, hidden) states to (k, width) vectors, which are multiplied with the
    embeddings. bias: (vocabulary,).
    """

    vectors: nn.Module
    bias: Tensor


def new_word_head(backbone: nn.Module) -> WordHead:
    """Return a new head like BERT's: a linear layer (initially the identity), GELU, layer norm."""
    words, width = backbone.get_input_embeddings().weight.shape
    linear = nn.Linear(backbone.config.hidden_size, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return WordHead(nn.Sequential(linear, nn.GELU(), nn.LayerNorm(width)), torch.zeros(words))


def load_word_head(
    place: str, backbone: nn.Module, trust_remote_code: bool = False
) -> WordHead | None:
    """Return the MLM head of the checkpoint that this backbone is from, or None.

    None if the checkpoint lacks it (as most for sentence vectors do), if the architecture has none
    or is defined by the checkpoint's own code, or if its decoder is not tied to the word
    embeddings.
    """
    if type(backbone.config) not in MODEL_FOR_MASKED_LM_MAPPING:
        return None
    model, info = from_pretrained(
        AutoModelForMaskedLM,
        place,
        trust_remote_code,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    inside = f"{model.base_model_prefix}."
    missing = [key for key in info["missing_keys"] if not key.startswith(inside)]
    decoder = model.get_output_embeddings()
    tied = decoder is not None and decoder.weight is model.get_input_embeddings().weight
    if missing or info["mismatched_keys"] or not tied:
        return None
    bias = decoder.bias
    if bias is None:
        bias = torch.zeros(len(decoder.weight))
    return WordHead(_Transform(model), bias.detach())


class _Transform(nn.Module):
    """An MLM model whose backbone and decoder are replaced by stubs.

    Only its own forward pass defines what is computed between the two, so it is kept.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        bias = model.get_output_embeddings().bias
        setattr(model, model.base_model_prefix, _StubBackbone())
        model.set_output_embeddings(_StubDecoder())
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter is bias:  # some keep it outside the decoder too
                    setattr(module, name, None)
        self.model = model

    def forward(self, states: Tensor) -> Tensor:
        return self.model(inputs_embeds=states.unsqueeze(0), return_dict=False)[0][0]


class _StubBackbone(nn.Module):
    """Stub backbone that returns its input unchanged."""

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class _StubDecoder(nn.Identity):
    """Stub decoder that returns its input unchanged."""

    bias = None
