"""From a backbone's vectors to words: a checkpoint's own head for masked words, or a new one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from foldstack.nets.backbone import from_pretrained


class WordHead(NamedTuple):
    """The layers between a backbone and its word embeddings, which predict the words.

    vectors: (k, hidden) states to (k, width) vectors that are multiplied with the embeddings. bias:
    (vocabulary,) of each word.
    """

    vectors: nn.Module
    bias: Tensor


def new_word_head(backbone: nn.Module) -> WordHead:
    """A linear layer that begins as the identity, GELU and a norm, as BERT's is."""
    words, width = backbone.get_input_embeddings().weight.shape
    linear = nn.Linear(backbone.config.hidden_size, width)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return WordHead(nn.Sequential(linear, nn.GELU(), nn.LayerNorm(width)), torch.zeros(words))


def load_word_head(
    place: str, backbone: nn.Module, trust_remote_code: bool = False
) -> WordHead | None:
    """That of the checkpoint which this backbone is from.

    None where the checkpoint has lost it, as most for sentence vectors have, where its architecture has
    none or is defined by the checkpoint's own code, or where it tells words by other weights than the
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
    """A model for masked words without its backbone and without its words.

    Only its forward pass knows what it does between the two, so that is left as it is.
    """

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        bias = model.get_output_embeddings().bias
        setattr(model, model.base_model_prefix, _Given())
        model.set_output_embeddings(_Passed())
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter is bias:  # which some keep beside the decoder
                    setattr(module, name, None)
        self.model = model

    def forward(self, states: Tensor) -> Tensor:
        return self.model(inputs_embeds=states.unsqueeze(0), return_dict=False)[0][0]


class _Given(nn.Module):
    """In a backbone's place: it gives what it is given."""

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class _Passed(nn.Identity):
    """In a decoder's place."""

    bias = None
