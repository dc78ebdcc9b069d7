"""Weights of transformers in half the bytes (fp16), or in a quarter of them (int8)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

FORMS = ("fp32", "fp16", "int8")
NAME = "classifier.safetensors"  # of a transformer's run
ADAPTERS = "adapters.json"  # of a run that stores no backbone
PACKED = "classifier.int8.safetensors"
SCALE = ".scale"


def make_self_contained(folder: Path) -> None:
    """Merge adapters into the weights of their backbone, which a bundle has to hold."""
    if any(folder.rglob(ADAPTERS)):
        from foldstack.learners.adapted import make_whole

        make_whole(folder)


def shrink(folder: Path, form: str) -> None:
    """Store the weights of all transformers in a folder in another form.

    int8 has one scale per row of a matrix (symmetric, the largest weight is 127); biases and the
    weights of layer norms stay as they are.
    """
    for path in sorted(folder.rglob(NAME)) if form != "fp32" else []:
        weights = load_file(path)
        if form == "fp16":
            save_file(
                {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, path
            )
        else:
            save_file(_quantised(weights), path.with_name(PACKED))
            path.unlink()


def _quantised(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    packed = {}
    for name, value in weights.items():
        if value.dim() < 2 or not value.is_floating_point():
            packed[name] = value
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        packed[name] = (rows / scale).round().to(torch.int8).reshape(value.shape)
        packed[name + SCALE] = scale.reshape(-1, *[1] * (value.dim() - 1))
    return packed


def restored(packed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights in float32 from `int8` with scales; others as they are."""
    return {
        name: value.float() * packed[name + SCALE] if name + SCALE in packed else value
        for name, value in packed.items()
        if not name.endswith(SCALE)
    }


@contextmanager
def unpacked(folder: Path) -> Iterator[Path]:
    """Yield a folder that a learner loads: a model's own, or a temporary one if its weights are int8."""
    if not any(folder.rglob(PACKED)):
        yield folder
        return
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "model")
        shutil.copytree(folder, copy)
        for path in sorted(copy.rglob(PACKED)):
            save_file(restored(load_file(path)), path.with_name(NAME))
            path.unlink()
        yield copy
