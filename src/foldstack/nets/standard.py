"""A classifier as one of the standard architectures of transformers, with equal outputs.

A standard architecture has a head of its own: a dense layer with an activation on the first token's
vector, then a linear layer. Ours has one linear layer on the first token's vector or on the mean over
tokens. Both are expressed by weights, without code:

- Through tanh, the vector passes multiplied by a small power of two, at which tanh is the identity in
  float32. Through ReLU or GELU each logit passes twice, with both signs, since f(x) - f(-x) = x.
- The mean over tokens is one more layer of the backbone. Its queries and keys are zero, so that each
  token attends to all real tokens alike; it writes the logits and their negatives, whose mean is zero.
  A layer norm divides by sqrt(variance + epsilon), and it passes a vector whose variance is small
  beside epsilon. So epsilon is multiplied by a power of four, and by the root of it each input of the
  other layer norms, which keeps their outputs to the last bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from foldstack.errors import InputError
from foldstack.nets.attention import ATTENTION
from foldstack.nets.classifier import Classifier
from foldstack.nets.poolings import ClsPooling, MeanPooling

SMALL = 2.0**-16  # tanh(SMALL x) is SMALL x in float32 for all |x| < 40
WRITTEN = 2.0**-14  # logits times this have no variance beside the enlarged epsilon
UNSEEN = 2.0**-60  # of the vectors beside which the logits are written


@dataclass(frozen=True)
class LogitsLayer:
    """A linear layer from pooled vectors to logits: (labels, h) weight and (labels,) bias."""

    weight: Tensor
    bias: Tensor


def standard_model(model: Classifier, linear: LogitsLayer) -> PreTrainedModel:
    """Return a model for sequence classification that has these logits of the pooled vectors.

    Raises InputError if no standard architecture can have this head on this backbone.
    """
    kind = model.backbone.config.model_type
    family = FAMILIES.get(kind)
    pooling = type(model.pooling)
    if family is None or pooling not in family.poolings:
        raise InputError(f"{_named(model)} has no standard form: {_exportable()}")
    labels, width = linear.weight.shape
    if (pooling is MeanPooling or family.passes is _by_signs) and 2 * labels > width:
        raise InputError(
            f"{_named(model)} has a standard form for up to {width // 2} labels, not {labels}: "
            "FORM=openvino holds any number"
        )
    config = copy.deepcopy(model.backbone.config)
    config.num_labels = labels
    if config._attn_implementation == ATTENTION:
        config._attn_implementation = "sdpa"
    if pooling is MeanPooling:
        config.num_hidden_layers += 1
        config.layer_norm_eps *= _enlargement(config.layer_norm_eps) ** 2
    with torch.random.fork_rng(devices=[]):
        found = AutoModelForSequenceClassification.from_config(
            config, dtype=torch.float32, trust_remote_code=False
        )
    body = getattr(found, found.base_model_prefix)
    with torch.no_grad():
        body.load_state_dict(model.backbone.state_dict(), strict=False)
        if pooling is MeanPooling:
            linear = _mean_as_layer(body, model.backbone.config.layer_norm_eps, linear)
        family.passes(*family.head(found), linear)
    return found.eval()


# Heads


def _by_tanh(dense: nn.Linear, last: nn.Linear, linear: LogitsLayer) -> None:
    """Pass the vector through tanh."""
    dense.weight.copy_(SMALL * torch.eye(len(dense.weight)))
    dense.bias.zero_()
    last.weight.copy_(linear.weight / SMALL)
    last.bias.copy_(linear.bias)


def _by_signs(dense: nn.Linear, last: nn.Linear, linear: LogitsLayer) -> None:
    """Pass the logits and their negatives through ReLU or GELU."""
    labels = len(linear.bias)
    for parameter in (dense.weight, dense.bias, last.weight, last.bias):
        parameter.zero_()
    dense.weight[: 2 * labels] = torch.cat([linear.weight, -linear.weight])
    dense.bias[: 2 * labels] = torch.cat([linear.bias, -linear.bias])
    last.weight[:, : 2 * labels] = torch.cat([torch.eye(labels), -torch.eye(labels)], dim=1)


def _of_pooler(model: PreTrainedModel) -> tuple[nn.Linear, nn.Linear]:
    holder = model if hasattr(model, "pooler") else getattr(model, model.base_model_prefix)
    return holder.pooler.dense, model.classifier


def _of_head(model: PreTrainedModel) -> tuple[nn.Linear, nn.Linear]:
    return model.classifier.dense, model.classifier.out_proj


# The mean over tokens


def _enlargement(epsilon: float) -> float:
    """Return the power of two whose square makes a layer norm's epsilon about 1."""
    return 2.0 ** round(-math.log2(epsilon) / 2)


def _mean_as_layer(body: nn.Module, epsilon: float, linear: LogitsLayer) -> LogitsLayer:
    """Make the last layer of a BERT write the logits at each token.

    Args:
        body: a BERT, in place; its layers but the last are the classifier's.
        epsilon: of the classifier's layer norms.
        linear: from the mean over tokens to logits.

    Returns:
        The linear layer that reads the logits from a token's vector.
    """
    times = _enlargement(epsilon)
    _enlarge(body, times)
    *layers, added = body.encoder.layer
    for parameter in layers[-1].output.LayerNorm.parameters():
        parameter.mul_(UNSEEN / times)  # which `_enlarge` has multiplied by it
    for parameter in added.parameters():
        parameter.zero_()
    attention, labels = added.attention, len(linear.bias)
    attention.self.value.weight.copy_(torch.eye(len(attention.self.value.weight)) / UNSEEN)
    writes = attention.output.dense
    writes.weight[: 2 * labels] = WRITTEN * torch.cat([linear.weight, -linear.weight])
    writes.bias[: 2 * labels] = WRITTEN * torch.cat([linear.bias, -linear.bias])
    attention.output.LayerNorm.weight.fill_(1)
    # Each of the two layer norms has divided by the root of the enlarged epsilon.
    added.output.LayerNorm.weight.fill_(epsilon * times**2 / WRITTEN)
    selected = torch.eye(labels, linear.weight.shape[1])
    return LogitsLayer(selected, torch.zeros(labels))


def _enlarge(body: nn.Module, times: float) -> None:
    """Multiply all inputs of layer norms but the last layer's by a power of two, in place."""
    embeddings, project = body.embeddings, getattr(body, "embeddings_project", None)
    names = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    larger = [module for name in names if (module := getattr(embeddings, name, None)) is not None]
    larger.append(embeddings.LayerNorm if project is None else project)
    smaller = []
    for layer in body.encoder.layer:
        attention = layer.attention
        larger += [attention.output.dense, attention.output.LayerNorm]
        larger += [layer.output.dense, layer.output.LayerNorm]
        smaller += [attention.self.query, attention.self.key, attention.self.value]
        smaller.append(layer.intermediate.dense)
    for module in larger:
        for parameter in module.parameters():
            parameter.mul_(times)
    for module in smaller:
        module.weight.div_(times)


@dataclass(frozen=True)
class _Family:
    """How an architecture's own head is given our logits.

    poolings: those that it can express. head: its dense and its last layer. passes: gives them the
    logits through its activation.
    """

    poolings: tuple[type, ...]
    head: Callable[[PreTrainedModel], tuple[nn.Linear, nn.Linear]]
    passes: Callable[[nn.Linear, nn.Linear, LogitsLayer], None]


_BOTH = (ClsPooling, MeanPooling)
FAMILIES = {
    "bert": _Family(_BOTH, _of_pooler, _by_tanh),
    "roberta": _Family(_BOTH, _of_head, _by_tanh),
    "xlm-roberta": _Family(_BOTH, _of_head, _by_tanh),
    "camembert": _Family(_BOTH, _of_head, _by_tanh),
    "electra": _Family(_BOTH, _of_head, _by_signs),
    "mpnet": _Family((ClsPooling,), _of_head, _by_tanh),
    "deberta-v2": _Family((ClsPooling,), _of_pooler, _by_signs),
    "distilbert": _Family(
        (ClsPooling,), lambda model: (model.pre_classifier, model.classifier), _by_signs
    ),
}


def _named(model: Classifier) -> str:
    """Return the head and the backbone, for a message."""
    head = type(model.pooling).__name__.removesuffix("Pooling").lower()
    return f"a {head} head on a backbone of type {model.backbone.config.model_type}"


def _exportable() -> str:
    """Return which heads have a standard form, for a message."""
    mean = [kind for kind, family in FAMILIES.items() if MeanPooling in family.poolings]
    cls = [kind for kind in FAMILIES if kind not in mean]
    return (
        f"heads cls and mean have one on {', '.join(mean)}, and cls on {', '.join(cls)}; "
        "FORM=openvino holds any head"
    )
