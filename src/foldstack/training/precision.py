"""Configuration of this machine: precision, instruction set, threads. Chosen at run time, said."""

from __future__ import annotations

import ctypes
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from foldstack import cores, parallel
from foldstack.errors import InputError

# The new name of the option, which torch before 2.13 does not know.
warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")


def prepare_machine(wanted: str, threads: int) -> tuple[str, Accelerator]:
    """Prepare this process for training and prediction; call it before any other work with torch.

    Args:
        wanted: `training.precision`.
        threads: of a processor.

    Returns:
        The precision that is computed in, and the accelerator for `loop.train`.

    Raises:
        InputError: this machine has no such precision.
    """
    parallel.join()
    prepare_cpu(threads)
    precision = choose_precision(wanted)
    prepare_products(precision)
    # A second run in one process may ask for another precision.
    AcceleratorState._reset_state()
    return precision, Accelerator(
        mixed_precision="no" if precision in ("fp32", "tf32") else precision,
        cpu=not torch.cuda.is_available(),
        # Buffers never change.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def has_fast_bf16_cpu() -> bool:
    """Whether the processor multiplies bf16 matrices itself (AVX512_BF16 or AMX).

    Elsewhere bf16 is emulated and many times slower than fp32.
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def choose_precision(wanted: str) -> str:
    """'fp32', 'tf32', 'bf16' or 'fp16': `wanted`, or for 'auto' the fastest safe one of this machine.

    tf32 is fp32 whose matrix products round their factors to 10 bits of mantissa.

    Raises InputError for fp16 without an accelerator, and for tf32 without one that has it.
    """
    if wanted == "fp16" and not torch.cuda.is_available():
        raise InputError(
            "training.precision=fp16 wants an accelerator and this machine has none: use auto, "
            "fp32 or bf16"
        )
    if wanted == "tf32" and not (
        torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    ):
        raise InputError(
            "training.precision=tf32 wants a GPU of compute capability 8.0 or more and this machine has "
            "none: use auto or fp32"
        )
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_fast_bf16_cpu() else "fp32"


def prepare_products(precision: str) -> None:
    """Let a GPU's float32 matrix products be those of tf32 where that is the precision, and else not.

    And choose between its kernels for attention.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.enable_cudnn_sdp(False)  # it compiles a plan for each shape that it meets


def prepare_cpu(threads: int) -> None:
    """Fix the threads and flush denormal numbers, before any parallel work takes the old settings.

    Freed memory is kept for what comes next, until the process ends.
    """
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizers'
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Stop malloc from mapping each array of 32 MiB or more again, page fault by page fault.

    The kernel's share of an update on 16 texts of 512 tokens fell from 13 % to 1 % (a layer of minilm,
    one thread); the peak of memory was the same.
    """
    mallopt = ctypes.CDLL(None).mallopt  # its numbers are those of malloc.h
    mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give back what lies free at the top
    mallopt(-4, 0)  # M_MMAP_MAX: map nothing of its own


def machine(threads: int) -> dict[str, object]:
    """Return what the bytes of a run depend on beside its settings."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "fast_bf16": has_fast_bf16_cpu(),
        **cores.machine(threads),
    }


def batch_tokens(device: torch.device) -> int:
    """How many tokens to predict at once.

    On a processor few enough that what a layer hands to the next stays in the caches of the core that
    computes them; on an accelerator enough that it is busy.
    """
    return 2048 if device.type == "cpu" else 32768


def padding_multiple(device: torch.device) -> int:
    """Batches are padded to a multiple of this number of tokens, so that a GPU meets few shapes.

    For each new one libraries choose kernels, and an update's graph is captured.
    """
    return 8 if device.type == "cuda" else 1


@contextmanager
def cast_once(module: nn.Module, precision: str) -> Iterator[None]:
    """Inside, the weights of linear layers are in the precision that autocast would cast them to.

    Without gradients it would do so again for each batch. What is computed is the same, bit by bit.
    """
    kept = []
    if precision in ("bf16", "fp16"):
        linear = (m for m in module.modules() if type(m) is nn.Linear)
        kept = [(p, p.data) for m in linear for p in m.parameters(recurse=False)]
    try:
        for weight, data in kept:
            weight.data = data.to(torch.bfloat16 if precision == "bf16" else torch.float16)
        yield
    finally:
        for weight, data in kept:
            weight.data = data
