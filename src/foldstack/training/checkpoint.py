"""Checkpoints: the whole state of the loop, the last two, each with a checksum."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from foldstack import parallel
from foldstack.config import digest
from foldstack.files import file_sha256, placing, placing_folder, write_json
from foldstack.nets.shared_out import whole
from foldstack.progress import say
from foldstack.system import is_fault

KEPT = 2


def on_cpu(tensors: Mapping[str, Tensor], wanted: bool = True) -> dict[str, Tensor]:
    """Return the tensors contiguous and whole on the CPU, as a file requires; without `wanted`, none.

    All processes must call it if tensors are shared out over them.
    """
    found = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor.detach())
        if wanted:
            found[name] = gathered.contiguous().cpu()
    return found


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write weights from the main process; all processes have the same, or parts of them."""
    kept = on_cpu(weights, parallel.is_main())
    if parallel.is_main():
        with placing(path) as beside:
            save_file(kept, beside)


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict) -> None:
    """Write `step-N`, renamed once complete, and delete all but the last two.

    Processes have the same state, or parts of its tensors; the main process writes it.

    Args:
        folder: of checkpoints.
        step: number of finished updates.
        tensors: of model, average and optimiser.
        state: everything else, as JSON.
    """
    kept = on_cpu(tensors, parallel.is_main())
    if not parallel.is_main():
        return
    beside, place = folder / f".step-{step:08}.tmp", folder / f"step-{step:08}"
    with placing_folder(place, beside):
        save_file(kept, beside / "state.safetensors")
        state = state | {"step": step, "sha256": file_sha256(beside / "state.safetensors")}
        write_json(beside / "state.json", state | {"digest": digest(state)})
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)


def load_last(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """Return tensors and state of the newest valid checkpoint; name and delete damaged ones."""
    for place in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((place / "state.json").read_text(encoding="utf-8"))
            whole = state.pop("digest") == digest(state)
            if whole and file_sha256(place / "state.safetensors") == state["sha256"]:
                return load_file(place / "state.safetensors"), state
            reason = "its checksum does not match"
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            if is_fault(e):  # of the machine; the checkpoint may be valid
                raise
            reason = f"{type(e).__name__}: {e}"
        shutil.rmtree(place)
        left = any(folder.glob("step-*"))
        then = "resuming from the one before it" if left else "none is left, starting over"
        say(f"checkpoint {place.name} is damaged ({reason}): {then}")
    return None
