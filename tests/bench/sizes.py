"""Weights of decoders and of encoders since 2024, as the config.json of each checkpoint has their sizes.

    python tests/bench/sizes.py

Each is built without memory for its weights. Of Gemma 3 4B the part that reads text counts, of a decoder
no head for the next token.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

from memory import BASE, DEBERTA

NAMES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


def _sizes(*numbers: int) -> dict[str, int]:
    return dict(zip(NAMES, numbers, strict=True))


def _modernbert(*numbers: int) -> tuple[str, dict]:
    names = (*NAMES[:4], "vocab_size")
    return "modernbert", dict(zip(names, numbers, strict=True))


SIZES: dict[str, tuple[str, dict]] = {
    "smollm2-135m": ("llama", _sizes(576, 1536, 30, 9, 3, 64, 49152)),
    "qwen3-0.6b": ("qwen3", _sizes(1024, 3072, 28, 16, 8, 128, 151936)),
    "qwen3-1.7b": ("qwen3", _sizes(2048, 6144, 28, 16, 8, 128, 151936)),
    "qwen3-4b": ("qwen3", _sizes(2560, 9728, 36, 32, 8, 128, 151936)),
    "qwen3-8b": ("qwen3", _sizes(4096, 12288, 36, 32, 8, 128, 151936)),
    "gemma-2-2b": ("gemma2", _sizes(2304, 9216, 26, 8, 4, 256, 256000)),
    "gemma-2-9b": ("gemma2", _sizes(3584, 14336, 42, 16, 8, 256, 256000)),
    "gemma-3-1b": ("gemma3_text", _sizes(1152, 6912, 26, 4, 1, 256, 262144)),
    "gemma-3-4b": ("gemma3_text", _sizes(2560, 10240, 34, 8, 4, 256, 262208)),
    "qwen3-embedding-0.6b": ("qwen3", _sizes(1024, 3072, 28, 16, 8, 128, 151669)),
    "embeddinggemma-300m": ("gemma3_text", _sizes(768, 1152, 24, 3, 1, 256, 262144)),
    "mmbert-small": _modernbert(384, 1152, 22, 6, 256000),
    "mmbert-base": _modernbert(768, 1152, 22, 12, 256000),
    "ettin-17m": _modernbert(256, 384, 7, 4, 50368),
    "ettin-32m": _modernbert(384, 576, 10, 6, 50368),
    "ettin-68m": _modernbert(512, 768, 19, 8, 50368),
    "ettin-150m": _modernbert(768, 1152, 22, 12, 50368),
    "ettin-400m": _modernbert(1024, 2624, 28, 16, 50368),
    "gte-base": _modernbert(768, 1152, 22, 12, 50368),
    "mdeberta-v3-base": ("deberta-v2", BASE | DEBERTA | {"vocab_size": 251000}),
    "deberta-v3-xsmall": (
        "deberta-v2",
        BASE | DEBERTA | {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
    ),
    "bge-base": ("bert", BASE | {"vocab_size": 30522}),
    "eurobert-210m": ("eurobert", BASE | {"vocab_size": 128256}),
}


def weights(preset: str) -> tuple[int, int]:
    """Return the number of weights of the backbone, and how many of them are word embeddings."""
    kind, sizes = SIZES[preset]
    with torch.device("meta"):
        backbone = AutoModel.from_config(AutoConfig.for_model(kind, **sizes))
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    words = backbone.get_input_embeddings().weight.numel()
    return sum(p.numel() for p in backbone.parameters()), words


if __name__ == "__main__":
    print("preset                 weights, M  embeddings, M  bf16, GB")
    for name in SIZES:
        all_of_it, words = weights(name)
        print(f"{name:21}{all_of_it / 1e6:12,.0f}{words / 1e6:15.0f}{all_of_it * 2 / 1e9:10.2f}")
