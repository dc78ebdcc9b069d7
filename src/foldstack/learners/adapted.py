"""Runs that store what they have trained beside a backbone's weights, but not these weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foldstack.backbones import locate
from foldstack.errors import InputError
from foldstack.files import read_json, write_json
from foldstack.learners.sequence import WEIGHTS
from foldstack.nets.adapters import add_adapters, merge, take_out
from foldstack.nets.backbone import empty_backbone, load_model, weights_digest
from foldstack.nets.fewer_bits import quantise, widen
from foldstack.techniques import LoraSettings, TransformerSettings

FILE = "adapters.json"
BACKBONE = "backbone."  # prefix of the backbone's weights in it


@dataclass(frozen=True)
class Adapted:
    """A backbone whose weights a run leaves as they are.

    name: of the backbone, see `backbones.locate`; None if the run stores its weights too, since no
    checkpoint has them. sha256: of the checkpoint's weights, see `nets.backbone.weights_digest`.
    ignore_weights, trust_remote_code, quantize: as in the settings. lora: settings of the adapters, as
    JSON.
    """

    name: str | None
    sha256: str | None
    ignore_weights: tuple[str, ...]
    trust_remote_code: bool
    lora: dict | None
    quantize: str | None

    @classmethod
    def of(cls, settings: TransformerSettings, place: str | None) -> Adapted:
        """Return it of a run.

        settings: of the run.
        place: folder or hub name of the backbone; None if the run changes or replaces its weights.
        """
        s = settings
        return cls(
            None if place is None else s.backbone,
            None if place is None else weights_digest(place),
            s.ignore_weights,
            s.trust_remote_code,
            None if s.lora is None else s.lora.model_dump(mode="json"),
            s.quantize,
        )

    @classmethod
    def read(cls, folder: Path) -> Adapted | None:
        """Return what `write` has written into a model's folder; None if it holds a whole model."""
        if not (folder / FILE).exists():
            return None
        found = read_json(folder / FILE)
        return cls(**found | {"ignore_weights": tuple(found["ignore_weights"])})

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))

    @property
    def adapters(self) -> LoraSettings | None:
        return None if self.lora is None else LoraSettings.model_validate(self.lora)

    def backbone(self, folder: Path) -> nn.Module:
        """Return the backbone without adapters; without weights, if the run stores them.

        Raises InputError if the checkpoint is missing or has other weights.
        """
        if self.name is None:
            return empty_backbone(folder, self.trust_remote_code)[0]
        place = locate(self.name)
        found = weights_digest(place)
        if found != self.sha256:
            raise InputError(
                f"backbone '{self.name}' has weights with sha256 {found[:12]}…, but this run has been "
                f"trained beside those with {self.sha256[:12]}…: get these again, or train it again"
            )
        return load_model(place, self.ignore_weights, None, self.trust_remote_code)

    def finish(self, backbone: nn.Module) -> None:
        """Let loaded weights take effect: what adapters began with is no longer in the frozen ones."""
        if self.name is not None:
            take_out(backbone)


@torch.no_grad()
def plain_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a stored model with its adapters merged, by the names of a whole model."""
    made = Adapted.read(folder)
    weights, backbone = load_file(folder / WEIGHTS), made.backbone(folder).requires_grad_(False)
    if made.adapters is not None:
        add_adapters(backbone, made.adapters, seed=None)
    own = {k.removeprefix(BACKBONE): v for k, v in weights.items() if k.startswith(BACKBONE)}
    backbone.load_state_dict(own, strict=False)
    made.finish(backbone)
    if made.quantize is not None:
        quantise(backbone, made.quantize, torch.device("cpu"))
        widen(backbone)
    merge(backbone)
    found = {f"{BACKBONE}{k}": v for k, v in backbone.state_dict().items()}
    return found | {k: v for k, v in weights.items() if not k.startswith(BACKBONE)}


def make_whole(folder: Path) -> None:
    """Replace stored adapters, in a folder or below it, by all weights, which need no checkpoint."""
    for path in sorted(folder.rglob(FILE)):
        weights = plain_weights(path.parent)
        save_file({k: v.contiguous() for k, v in weights.items()}, path.parent / WEIGHTS)
        path.unlink()
