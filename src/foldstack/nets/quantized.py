"""A backbone in int8 for prediction on a CPU, converted to and run by OpenVINO."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from foldstack.errors import InputError
from foldstack.nets.attention import ATTENTION, TRACED
from foldstack.nets.classifier import Classifier

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Model

GROUP = 128  # features of a token that share a scale
LEVELS = 127  # integer weights are in -127 … 127


def load_openvino(what: str = "int8") -> ModuleType:
    """Return the package, with its telemetry disabled; by default it reports each use.

    what: what requires it, for the message.

    Raises InputError if it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # it is optional
    try:
        import openvino
    except ImportError:
        raise InputError(
            f"{what} requires the package openvino, which is not installed: pip install "
            "'foldstack[int8]'"
        ) from None
    return openvino


class Int8Reader:
    """`Classifier.read` with the products of linear layers in int8.

    Weights have one scale per output. Inputs have one per GROUP features of each token, computed at
    run time (OpenVINO's dynamic quantisation), so a text's result does not depend on the rest of
    its batch. Everything else is computed in `precision`.

    Raises InputError if this machine cannot, and on the first call if OpenVINO cannot convert the
    backbone.
    """

    def __init__(self, model: Classifier, precision: str):
        place = next(model.parameters()).device.type
        if place != "cpu":
            raise InputError(
                f"int8 is for CPUs, and this machine predicts on {place}: leave it out"
            )
        load_openvino()
        threads = torch.get_num_threads()
        self._settings = {
            # One stream per thread of `parallel_map`.
            "NUM_STREAMS": str(threads),
            "INFERENCE_NUM_THREADS": str(threads),
            "ENABLE_CPU_PINNING": False,  # two processes would share one core
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP),
        }
        self._model, self._compiled = model, {}
        self._lock, self._of_thread = threading.Lock(), threading.local()

    def __call__(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Return (b, layers, t, h) float32 hidden states."""
        inputs = [x for x in (input_ids, attention_mask, token_type_ids) if x is not None]
        found = self._request(len(inputs)).infer([x.numpy() for x in inputs], share_inputs=True)
        return torch.from_numpy(found[0])

    def _request(self, inputs: int) -> InferRequest:
        """Return this thread's inference request for this number of inputs."""
        requests = self._of_thread.__dict__
        if inputs not in requests:
            with self._lock:
                if inputs not in self._compiled:
                    self._compiled[inputs] = self._compile(inputs)
            requests[inputs] = self._compiled[inputs].create_infer_request()
        return requests[inputs]

    def _compile(self, inputs: int) -> CompiledModel:
        openvino = load_openvino()
        try:
            graph = round_weights(converted(self._model, inputs))
            compiled = openvino.Core().compile_model(graph, "CPU", self._settings)
            compiled([np.ones((1, 4), dtype=np.int64)] * inputs)  # other sizes than in `converted`
        except (RuntimeError, openvino.frontend.OpConversionFailure) as e:
            kind = self._model.backbone.config.model_type
            raise InputError(
                f"OpenVINO cannot take a backbone of type '{kind}', so it has no int8: leave it out"
            ) from e
        return compiled


def converted(model: Classifier, inputs: int) -> Model:
    """Return `model.read` with this number of inputs as an OpenVINO model, in float32."""
    tokens = torch.ones(2, 9, dtype=torch.long)
    mask = tokens.clone()
    mask[0, 5:] = 0  # else the library omits the mask
    example = (tokens, mask, torch.zeros_like(tokens))[:inputs]
    with for_tracing(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of sizes that become constants
        return load_openvino().convert_model(_Reader(model), example_input=example)


class _Reader(nn.Module):
    """`Classifier.read` as a module's forward."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.read(*inputs)


@contextmanager
def for_tracing(model: Classifier) -> Iterator[None]:
    """Set eval mode, float32, and an attention that tracing can convert, inside the context."""
    backbone, training = model.backbone, model.backbone.training
    ours = backbone.config._attn_implementation == ATTENTION
    if ours:
        backbone.set_attn_implementation(TRACED)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            backbone.eval()
            yield
    finally:
        backbone.train(training)
        if ours:
            backbone.set_attn_implementation(ATTENTION)


def round_weights(graph: Model) -> Model:
    """Round the weights of linear layers to 8 bits, in place; OpenVINO then multiplies in int8."""
    ops = load_openvino().opset13
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        constant = node.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.get_output_shape(0)) != 2:
            continue
        weight = constant.get_data()
        along = 1 if node.get_attributes()["transpose_b"] else 0
        scale = np.abs(weight).max(axis=along, keepdims=True).clip(1e-12) / LEVELS
        integers = ops.convert(ops.constant(np.round(weight / scale).astype(np.int8)), "f32")
        node.input(1).replace_source_output(ops.multiply(integers, ops.constant(scale)).output(0))
    return graph
