"""Configuration of the machine at run time: precision, instruction set, threads."""

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

# torch before 2.13 does not have the new name of the option.
warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")


def prepare_machine(wanted: str, threads: int) -> tuple[str, Accelerator]:
    """Prepare this process for training and prediction; call it before any other work with torch.

    Args:
        wanted: `training.precision`.
        threads: number of CPU threads.

    Returns:
        The precision of the computation, and the accelerator for `loop.train`.

    Raises:
        InputError: this machine does not support the precision.
    """
    parallel.join()
    prepare_cpu(threads)
    precision = choose_precision(wanted)
    prepare_products(precision)
    # A second run in one process may have another precision.
    AcceleratorState._reset_state()
    return precision, Accelerator(
        mixed_precision="no" if precision in ("fp32", "tf32") else precision,
        cpu=not torch.cuda.is_available(),
        # No buffer changes in training.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def has_fast_bf16_cpu() -> bool:
    """Whether the CPU has instructions for bf16 matrix products (AVX512_BF16 or AMX).

    Without them bf16 is emulated and many times slower than fp32.
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def choose_precision(wanted: str) -> str:
    """Return fp32, tf32, bf16 or fp16: `wanted`, or for auto the fastest safe one of this machine.

    tf32 is fp32 whose matrix products round their factors to 10 bits of mantissa.

    Raises InputError for fp16 without an accelerator, and for tf32 without a GPU that supports it.
    """
    if wanted == "fp16" and not torch.cuda.is_available():
        raise InputError(
            "training.precision=fp16 requires an accelerator and this machine has none: use auto, "
            "fp32 or bf16"
        )
    if wanted == "tf32" and not (
        torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    ):
        raise InputError(
            "training.precision=tf32 requires a GPU of compute capability 8.0 or more and this machine "
            "has none: use auto or fp32"
        )
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if has_fast_bf16_cpu() else "fp32"


def prepare_products(precision: str) -> None:
    """Enable tf32 matrix products on a GPU if that is the precision, else disable them.

    Also disable cuDNN's attention.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.enable_cudnn_sdp(False)  # it compiles a plan per shape


def prepare_cpu(threads: int) -> None:
    """Set the number of threads and flush denormal numbers; call it before any parallel work.

    Freed memory is kept by the process.
    """
    os.environ["RAYON_NUM_THREADS"] = str(threads)  # the tokenizers'
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Stop malloc from mapping each array of 32 MiB or more again, page fault by page fault.

    The kernel's share of an update on 16 texts of 512 tokens fell from 13 % to 1 % (a layer of
    minilm, one thread); peak memory was the same.
    """
    mallopt = ctypes.CDLL(None).mallopt  # constants of malloc.h
    mallopt(-1, -1)  # M_TRIM_THRESHOLD: never return free memory
    mallopt(-4, 0)  # M_MMAP_MAX: no allocation by mmap


def machine(threads: int) -> dict[str, object]:
    """Return what the bytes of a run depend on besides its settings."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "fast_bf16": has_fast_bf16_cpu(),
        **cores.machine(threads),
    }


def batch_tokens(device: torch.device) -> int:
    """Return the number of tokens per prediction batch.

    On a CPU it is small, so that activations stay in the cache of the core that computes them; on
    an accelerator it is large enough to keep it busy.
    """
    return 2048 if device.type == "cpu" else 32768


def padding_multiple(device: torch.device) -> int:
    """Return the multiple of tokens that batches are padded to, so that a GPU meets few shapes.

    For each new shape, libraries choose kernels and an update's graph is captured.
    """
    return 8 if device.type == "cuda" else 1


@contextmanager
def cast_once(module: nn.Module, precision: str) -> Iterator[None]:
    """Cast the weights of linear layers to the precision of autocast, inside the context.

    Without gradients autocast would cast them again for each batch. Results are identical.
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
