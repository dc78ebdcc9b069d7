"""Rows of a language model's head: the logits of some tokens as a linear layer."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM
from transformers.utils import cached_file

from foldstack.errors import InputError
from foldstack.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NAME_OF_NEOX = "embed_out"  # in its checkpoints; the library renames it


class LabelRows(NamedTuple):
    """weight: (k, hidden). bias: (k,)."""

    weight: Tensor
    bias: Tensor


def label_rows(backbone: nn.Module, place: str, ids: list[int]) -> LabelRows:
    """Return the rows of the language model's head that give these tokens their logits.

    They are rows of the word embeddings if the two are tied; otherwise the checkpoint holds them. The
    factor that Cohere and Granite have on all logits is theirs; the cap of Gemma 2's logits is not.

    Args:
        backbone: with its word embeddings.
        place: the folder or hub name of its checkpoint.
        ids: (k,) of the tokens.

    Raises:
        InputError: the architecture or the checkpoint has no such head.
    """
    config = backbone.config
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            "label_words are scored by a language model that continues the text, and a backbone of "
            f"type '{config.model_type}' is none: take a decoder, or leave them out"
        )
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(deepcopy(config), trust_remote_code=False)
    head = whole.get_output_embeddings()
    name = next(name for name, module in whole.named_modules() if module is head)
    if config.get_text_config().tie_word_embeddings:
        weight = backbone.get_input_embeddings().weight.detach()[ids]
    else:
        weight = _stored_rows(place, name, "weight", ids)
    bias = torch.zeros(len(ids))
    if head.bias is not None:
        bias = _stored_rows(place, name, "bias", ids)
    factor = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
    return LabelRows(factor * weight.float().cpu(), factor * bias.float())


def _stored_rows(place: str, name: str, part: str, ids: list[int]) -> Tensor:
    """Return rows of a head's weight or bias in a checkpoint; InputError if it is not there."""
    keys = [f"{name}.{part}", f"{NAME_OF_NEOX}.{part}"]
    for key in keys:
        path = _file_of(place, key)
        if path is None:
            continue
        with safe_open(path, "pt") as tensors:
            if key in set(tensors.keys()):
                rows = tensors.get_slice(key)
                return torch.stack([rows[i] for i in ids])
    raise InputError(
        f"label_words are scored by the language model's head, and the checkpoint '{place}' has no "
        f"'{keys[0]}' in safetensors: take one with its head, or leave label_words out"
    )


def _file_of(place: str, key: str) -> Path | None:
    """Return the safetensors file that should hold a tensor."""
    index = _file(place, INDEX)
    if index is None:
        return _file(place, WEIGHTS)
    shard = read_json(index)["weight_map"].get(key)
    return shard and _file(place, shard)


def _file(place: str, name: str) -> Path | None:
    options = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    found = cached_file(place, name, **options)
    return None if found is None else Path(found)
