"""Language models that augmentation reads, loaded whole or rejected."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from foldstack.backbones import locate_model
from foldstack.config import digest
from foldstack.errors import InputError
from foldstack.nets.backbone import from_pretrained
from foldstack.nets.content import content_of
from foldstack.nets.tokenizer import fix_tokenizer
from foldstack.techniques import Augmentation

BATCH = 16  # texts per pass
WIDTH = 8  # tokens, of which a batch has a multiple


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


def padded_batches(
    ids: Sequence[list[int]], tokenizer: PreTrainedTokenizerBase, limit: int
) -> Iterator[tuple[np.ndarray, np.ndarray, BatchEncoding]]:
    """Yield positions of n texts, those of a whole batch, whose last one is repeated, and its inputs.

    A batch has BATCH rows, and as many columns as its texts' own lengths tell, so that what a model
    computes of a text does not depend on the others, to the last bit.

    Args:
        ids: n sequences of tokens.
        tokenizer: pads them.
        limit: most columns.
    """
    widths = np.array([min(-(-len(each) // WIDTH) * WIDTH, limit) for each in ids], dtype=int)
    for width in np.unique(widths)[::-1]:
        alike = np.flatnonzero(widths == width)
        for start in range(0, len(alike), BATCH):
            some = alike[start : start + BATCH]
            rows = np.pad(some, (0, BATCH - len(some)), mode="edge")
            given = {"input_ids": [ids[i] for i in rows]}
            options = {"padding": "max_length", "max_length": int(width), "return_tensors": "pt"}
            yield some, rows, tokenizer.pad(given, **options)


def filled_key(
    settings: Augmentation,
    models: Sequence[tuple[PreTrainedModel, PreTrainedTokenizerBase]],
    *others: Any,
) -> str | None:
    """Return a digest of all that a technique's texts depend on beside text and seed; None if unknown.

    others: what is fitted on the training texts.
    """
    contents = [content_of(*loaded) for loaded in models]
    if None in contents:
        return None
    own = settings.model_dump(mode="json", exclude={"probability", *settings.models})
    machine = [models[0][0].device.type, torch.get_num_threads(), torch.__version__]
    return digest([own, contents, machine, importlib.metadata.version("transformers"), *others])
