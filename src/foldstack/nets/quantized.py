"""A backbone in int8, for prediction on a processor: converted to OpenVINO and computed by it."""

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
from foldstack.nets.attention import ATTENTION
from foldstack.nets.classifier import Classifier

if TYPE_CHECKING:
    from openvino import CompiledModel, InferRequest, Model

GROUP = 128  # features of a token that share a scale
LEVELS = 127  # a weight's integers go from -127 to 127


def load_openvino() -> ModuleType:
    """The package, which here tells its makers nothing; else it sends them a word of each use.

    Raises InputError where it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # which it does without where it is missing
    try:
        import openvino
    except ImportError:
        raise InputError(
            "int8 wants the package openvino, which is not installed: pip install 'foldstack[int8]'"
        ) from None
    return openvino


class Int8Reader:
    """`Classifier.read` with the products of linear layers in int8.

    Weights have a scale for each output, inputs one for each GROUP features of each token, found as they
    come (OpenVINO's dynamic quantisation), so what a text gives does not depend on those beside it.
    Everything else is computed in `precision`.

    Raises InputError where this machine cannot, and on its first call where OpenVINO cannot take the
    backbone.
    """

    def __init__(self, model: Classifier, precision: str):
        place = next(model.parameters()).device.type
        if place != "cpu":
            raise InputError(
                f"int8 is for processors, and this machine predicts on {place}: leave it out"
            )
        load_openvino()
        threads = torch.get_num_threads()
        self._settings = {
            # A stream for each of the threads that `side_by_side` has.
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
        """(b, layers, t, h) float32 hidden states."""
        inputs = [x for x in (input_ids, attention_mask, token_type_ids) if x is not None]
        found = self._request(len(inputs)).infer([x.numpy() for x in inputs], share_inputs=True)
        return torch.from_numpy(found[0])

    def _request(self, inputs: int) -> InferRequest:
        """Return this thread's own, for this number of inputs."""
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
            compiled([np.ones((1, 4), dtype=np.int64)] * inputs)  # sizes other than the example's
        except (RuntimeError, openvino.frontend.OpConversionFailure) as e:
            kind = self._model.backbone.config.model_type
            raise InputError(
                f"OpenVINO cannot take a backbone of type '{kind}', so it has no int8: leave it out"
            ) from e
        return compiled


def converted(model: Classifier, inputs: int) -> Model:
    """Return OpenVINO's form of `model.read` with this number of its inputs, in float32."""
    tokens = torch.ones(2, 9, dtype=torch.long)
    mask = tokens.clone()
    mask[0, 5:] = 0  # the library leaves out the mask of a batch without padding
    example = (tokens, mask, torch.zeros_like(tokens))[:inputs]
    with _for_tracing(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of sizes that it takes for constants
        return load_openvino().convert_model(_Reader(model), example_input=example)


class _Reader(nn.Module):
    """`Classifier.read` as a module's forward."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.read(*inputs)


@contextmanager
def _for_tracing(model: Classifier) -> Iterator[None]:
    """In evaluation, in float32, and with an attention that tracing sees into."""
    backbone, training = model.backbone, model.backbone.training
    ours = backbone.config._attn_implementation == ATTENTION
    if ours:
        backbone.set_attn_implementation("sdpa")
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            backbone.eval()
            yield
    finally:
        backbone.train(training)
        if ours:
            backbone.set_attn_implementation(ATTENTION)


def round_weights(graph: Model) -> Model:
    """Those of linear layers, to 8 bits, in place; OpenVINO multiplies in int8 what has such weights."""
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
