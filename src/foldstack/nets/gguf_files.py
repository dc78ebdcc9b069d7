"""A GGUF file, llama.cpp's form of a quantised language model, as a folder of safetensors."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from foldstack.errors import InputError
from foldstack.nets.backbone import from_pretrained

# What this has been compared with: the layers and the words of SmolLM2.
ARCHITECTURE, TOKENIZER = "llama", "smollm"


def convert(backbone: str, file: Path, folder: Path) -> None:
    """Write config, tokenizer and weights of a GGUF file, in fp16, with the head for the next token.

    Dequantised weights have more digits than fp16 keeps: of SmolLM2's Q4_1 half are exact, the
    others within 2^-12, far below a step of their 4 bits. The same file gives the same weights.

    Args:
        backbone: its name, for messages.
        file: the GGUF file.
        folder: to write into.

    Raises:
        InputError: the file is damaged, or of another architecture or tokenizer than SmolLM2's.
    """
    try:
        fields = GGUFReader(file).fields
    except (ValueError, IndexError) as e:
        why = f"{file} is no GGUF file, or damaged: {e}"
        raise InputError(f"backbone '{backbone}': {why}") from None
    names = ("general.architecture", "tokenizer.ggml.pre")
    found = [fields[name].contents() if name in fields else "none" for name in names]
    if found != [ARCHITECTURE, TOKENIZER]:
        raise InputError(
            f"backbone '{backbone}' is a GGUF file of architecture {found[0]} and tokenizer {found[1]}; "
            f"only SmolLM2's ({ARCHITECTURE}, {TOKENIZER}) are converted: take the checkpoint in "
            "safetensors"
        )
    place, options = str(file.parent), {"gguf_file": file.name}
    with redirect_stderr(io.StringIO()):  # a bar of the library, which it always shows
        read = from_pretrained(AutoModelForCausalLM, place, False, dtype=torch.float32, **options)
    del read.config.quantization_config  # else the library looks for the GGUF file again
    model = AutoModelForCausalLM.from_config(
        read.config, dtype=torch.float16, trust_remote_code=False
    )
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer = from_pretrained(AutoTokenizer, place, False, **options)
    # The library's conversion lacks the first step: each digit alone, whatever stands around it.
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.save_pretrained(folder)
