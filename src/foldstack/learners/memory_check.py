"""Whether an update fits the memory of the machine, and what would fit, before training begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from foldstack.backbones import BackboneSize
from foldstack.cores import memory_mb
from foldstack.errors import InputError
from foldstack.techniques import StageSettings, TransformerSettings

SURE = 1.2  # times the memory: an update is refused beyond it, since the forecast is rough


@dataclass(frozen=True)
class MemoryCheck:
    """A forecast of what updates on this machine take.

    size: of the backbone. settings: of the run. precision: of the computation. length: tokens of the
    longest row. processes: that share each update's rows. memory: of the GPU or of the machine, in MB.
    """

    size: BackboneSize
    settings: TransformerSettings
    precision: str
    length: int
    processes: int
    on_gpu: bool
    memory: int

    def refuse_too_large(self, stages: Sequence[StageSettings]) -> None:
        """Raise InputError, with what would fit, if an update of a stage takes more than there is."""
        for stage in stages:
            rows = self._rows(stage)
            needed = self.needed(self.settings, stage)
            if stage.freeze_backbone or needed <= SURE * self.memory:
                continue
            raise InputError(
                f"an update on {rows} row{'s' * (rows != 1)} of {self.length} tokens takes about "
                f"{needed:,} MB, and this {'GPU' if self.on_gpu else 'machine'} has {self.memory:,} MB: "
                + self._instead(stage)
            )

    def needed(self, settings: TransformerSettings, stage: StageSettings) -> int:
        """Return the memory of an update of a stage, in MB."""
        form = settings.update_form(stage, self.precision, self.on_gpu)
        return self.size.training_mb(self._rows(stage), self.length, form)

    def _rows(self, stage: StageSettings) -> int:
        whole = -(-stage.batch_size // self.processes)
        return min(whole, stage.micro_batch_size or whole)

    def _instead(self, stage: StageSettings) -> str:
        """Return settings that would fit, each by itself or all together."""
        fitting, together, all_of_them = [], (self.settings, stage), []
        for name, of_run, of_stage in self._changes(stage):
            changed = self.settings.model_copy(update=of_run), stage.model_copy(update=of_stage)
            if (needed := self.needed(*changed)) <= self.memory:
                fitting.append(f"{name} takes {needed:,}")
            together = (
                together[0].model_copy(update=of_run),
                together[1].model_copy(update=of_stage),
            )
            all_of_them.append(name)
        if fitting:
            return ", ".join(fitting)
        if (needed := self.needed(*together)) <= self.memory:
            return f"{', '.join(all_of_them)} together take {needed:,}"
        return "take a smaller backbone or a lower training.max_length"

    def _changes(
        self, stage: StageSettings
    ) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """Yield settings that take less, with their values for the run and for the stage."""
        whole = stage.contrastive or (stage.loss and stage.loss.whole_batch)
        name = "batch_size" if whole else "micro_batch_size"
        rows = self._rows(stage) // 2
        while rows > 1:
            if self.needed(self.settings, stage.model_copy(update={name: rows})) <= self.memory:
                break
            rows //= 2
        if rows:
            yield f"training.{name}={rows}", {}, {name: rows}
        if not stage.recomputes:
            on = {"gradient_checkpointing": True}
            yield "training.gradient_checkpointing=true", {}, on
        if self.settings.lora is not None and self.settings.quantize != "nf4":
            yield "quantize=nf4", {"quantize": "nf4"}, {}


def memory_of(device: torch.device) -> int:
    """Return the memory of a GPU, or of this machine for another device, in MB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 2**20
    return memory_mb()
