"""Classifiers from token ids to the logits that a hub pipeline expects, as one OpenVINO graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foldstack.errors import InputError
from foldstack.nets.classifier import Classifier
from foldstack.nets.quantized import for_tracing, load_openvino
from foldstack.nets.standard import LogitsLayer

if TYPE_CHECKING:
    from openvino import Model

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Units:
    """From a regression's outputs to the units of its targets: (outputs,) shift and unit.

    bounded: a sigmoid is applied first.
    """

    shift: Tensor
    unit: Tensor
    bounded: bool


@dataclass(frozen=True)
class HubLogits:
    """How a classifier's logits become those of a hub model.

    two_classes: the only logit is of the second of two classes; the first one has 0. units: of a
    regression.
    """

    two_classes: bool = False
    units: Units | None = None

    def apply(self, logits: Tensor) -> Tensor:
        """Return (b, labels) hub logits of (b, outputs) logits."""
        if self.two_classes:
            return torch.cat([torch.zeros_like(logits), logits], dim=1)
        if self.units is None:
            return logits
        values = torch.sigmoid(logits) if self.units.bounded else logits
        return values * self.units.unit + self.units.shift

    def layer(self, model: Classifier) -> LogitsLayer:
        """Return the linear layer from pooled vectors to hub logits; `units` are not bounded."""
        weight, bias = model.head.weight.detach(), model.head.bias.detach()
        if self.two_classes and not model.as_difference:
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        if self.units is not None:
            unit = self.units.unit
            weight, bias = weight * unit[:, None], bias * unit + self.units.shift
        return LogitsLayer(weight, bias)


class Whole(nn.Module):
    """The mean of the hub logits of several classifiers, from token ids."""

    def __init__(self, models: Sequence[Classifier], logits: HubLogits):
        super().__init__()
        self.models, self.logits = nn.ModuleList(models), logits

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.stack([self.logits.apply(model(*inputs)) for model in self.models]).mean(dim=0)


def openvino_graph(models: Sequence[Classifier], logits: HubLogits, types: bool) -> Model:
    """Return the classifiers as an OpenVINO model in float32, with inputs and output named.

    Args:
        models: the classifiers, whose logits are averaged.
        logits: how they become those of a hub model.
        types: whether token types are an input.

    Raises:
        InputError: OpenVINO is missing, or cannot convert the network.
    """
    openvino = load_openvino("FORM=openvino")
    names = INPUTS if types else INPUTS[:2]
    tokens = torch.ones(2, 9, dtype=torch.long)
    mask = tokens.clone()
    mask[0, 5:] = 0  # else the library omits the mask
    example = (tokens, mask, torch.zeros_like(tokens))[: len(names)]
    whole = Whole(models, logits).eval()
    try:
        with ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of sizes that become constants
            for model in models:
                stack.enter_context(for_tracing(model))
            graph = openvino.convert_model(whole, example_input=example)
    except (RuntimeError, openvino.frontend.OpConversionFailure) as e:
        kind = models[0].backbone.config.model_type
        raise InputError(f"OpenVINO cannot take a backbone of type '{kind}' with this head") from e
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    graph.outputs[0].get_tensor().set_names({"logits"})
    return graph
