"""MLM heads: the checkpoint's own, or a newly initialised one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from foldstack.nets.backbone import from_pretrained
from foldstack.techniques.pretraining import OF_TEXTS

TRIED = 8  # tokens whose logits are compared
APART = 0.01  # of the logits' standard deviation; a norm's epsilon and forms of GELU differ by less


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


def with_word_head(
    backbone: PreTrainedModel, head: WordHead, of_texts: bool
) -> PreTrainedModel | None:
    """Return the library's masked language model of a backbone and an MLM head, which it shares.

    None if the architecture has none, or one that computes other logits than this head.

    Args:
        backbone: of untrimmed word embeddings.
        head: what `new_word_head` or `load_word_head` returned, trained or not.
        of_texts: whether it has learned among the words of some texts only, see `OF_TEXTS`.
    """
    if type(backbone.config) not in MODEL_FOR_MASKED_LM_MAPPING:
        return None
    config = type(backbone.config).from_dict(backbone.config.to_dict())
    config.tie_word_embeddings = True
    setattr(config, OF_TEXTS, of_texts)
    with torch.random.fork_rng():
        model = AutoModelForMaskedLM.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    model.to(backbone.device)
    setattr(model, model.base_model_prefix, backbone)
    model.tie_weights()
    with torch.no_grad():
        _fill(model, head)
        return model if _is_alike(model, backbone, head) else None


def _fill(model: PreTrainedModel, head: WordHead) -> None:
    """Copy a head into a model, as far as the model has a place for it."""
    decoder, inside = model.get_output_embeddings(), f"{model.base_model_prefix}."
    if decoder is not None and decoder.bias is not None:
        decoder.bias.copy_(head.bias)
    if isinstance(head.vectors, _Transform):
        model.load_state_dict(head.vectors.model.state_dict(), strict=False)
        return
    modules = model.named_modules()
    own = [m for name, m in modules if not name.startswith(inside) and m is not decoder]
    for part in head.vectors:
        for module in own:
            shapes = [[p.shape for p in each.parameters()] for each in (part, module)]
            if shapes[0] and isinstance(module, type(part)) and shapes[0] == shapes[1]:
                module.load_state_dict(part.state_dict())


def _is_alike(model: PreTrainedModel, backbone: PreTrainedModel, head: WordHead) -> bool:
    """Return whether the model computes a head's logits."""
    embedding = backbone.get_input_embeddings().weight
    ids = torch.arange(len(embedding), device=embedding.device)[-TRIED:].unsqueeze(0)
    with _evaluated(model), _evaluated(head.vectors):
        found = model(input_ids=ids).logits[0]
        states = backbone(input_ids=ids)[0][0]
        wanted = head.vectors(states) @ embedding.T + head.bias.to(embedding)
    return bool((found - wanted).abs().max() <= APART * wanted.std())


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    yield
    model.train(training)


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
