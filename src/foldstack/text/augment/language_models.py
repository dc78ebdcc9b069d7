"""Language models that augmentation reads, loaded whole or rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from foldstack.backbones import locate_model
from foldstack.errors import InputError
from foldstack.nets.backbone import from_pretrained
from foldstack.nets.tokenizer import fix_tokenizer

BATCH = 32  # texts per pass


def load_language_model(
    kind: type, what: str, model: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a model in float32 in evaluation mode, on the GPU if there is one, and its tokenizer.

    Args:
        kind: the library's Auto class.
        what: the setting of `augment`, for messages.
        model: folder or hub name; its own code is not run, and its weights are no pickle.

    Raises:
        InputError: there is no such model, or it lacks a weight, as of the head.
    """
    place = locate_model(model, f"augment: {what}")
    try:
        network, info = from_pretrained(
            kind,
            place,
            False,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = fix_tokenizer(from_pretrained(AutoTokenizer, place, False), place)
    except InputError as e:
        told = str(e).removeprefix("backbone ").partition(", or set `backbone`")[0]
        raise InputError(f"augment: {what}: {told}") from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"augment: {what}: '{model}' lacks the weight '{missing[0]}' ({len(missing)} in all): "
            "name a checkpoint that was trained for this task"
        )
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def longest(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, most: int = 512) -> int:
    """Return the number of tokens that a model reads at most, special ones included."""
    positions = getattr(model.config, "max_position_embeddings", None) or most
    return min(tokenizer.model_max_length, positions, most)


def batches_by_length(lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield positions in batches of similar length, longest first."""
    order = np.argsort(-np.asarray(lengths, dtype=int), kind="stable")
    yield from (order[i : i + BATCH] for i in range(0, len(order), BATCH))
