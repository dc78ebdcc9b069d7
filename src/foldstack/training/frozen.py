"""A frozen backbone: it runs once over the rows, and only the head learns from what it gave."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from foldstack.nets.classifier import Classifier
from foldstack.nets.mixup import Mixup
from foldstack.progress import Progress, say
from foldstack.techniques import TrainingSettings
from foldstack.text.batches import token_batches
from foldstack.text.tokens import Tokens
from foldstack.training.precision import batch_tokens

IN_MEMORY_GB = 1.0


class HeadOnly(nn.Module):
    """A classifier whose backbone stays in eval mode, without gradients.

    It holds the head's own modules, which the classifier shares, and neither trains nor saves others.
    """

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.pooling, self.head = classifier.pooling, classifier.head
        self.auxiliary = classifier.auxiliary
        self._whole = (classifier,)  # in a tuple, so that it is no part of this module

    @property
    def whole(self) -> Classifier:
        return self._whole[0]

    def train(self, mode: bool = True) -> HeadOnly:
        super().train(mode)
        self.whole.train(mode)
        self.whole.backbone.eval()
        return self

    def forward(
        self,
        *,
        pooled: bool = False,
        states: Tensor | None = None,
        vectors: Tensor | None = None,
        attention_mask: Tensor | None = None,
        features: Tensor | None = None,
        mixup: Mixup | None = None,
        **inputs: Tensor,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """From token ids, or from what `Outputs.batch` has of them: states, or their fixed pooling."""
        if vectors is None:
            if states is None:
                with torch.no_grad():
                    states = self.whole.read(attention_mask=attention_mask, **inputs)
            vectors = self.whole.pooling(states, attention_mask)
        return self.whole.score(vectors, features, pooled=pooled, mixup=mixup)


def head_settings(settings: TrainingSettings) -> TrainingSettings:
    """For the head alone: its rate is the rate."""
    rate = settings.head_lr or settings.lr
    return settings.model_copy(update={"lr": rate, "head_lr": None, "layer_decay": 1.0})


@dataclass(frozen=True)
class Outputs:
    """What the head reads of n rows, in the place of their tokens.

    flat: (tokens in all, layers, h) float32, or, where the pooling learns nothing, (n, size) pooled.
    """

    tokens: Tokens
    flat: np.ndarray
    pooled: bool

    @property
    def lengths(self) -> np.ndarray:
        return self.tokens.lengths

    @property
    def rows(self) -> np.ndarray | None:
        return self.tokens.rows

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """`vectors` (b, size), or `states` (b, layers, t, h) with their `attention_mask` (b, t)."""
        given = self.tokens.batch(rows)
        kept = {"features": given["features"]} if "features" in given else {}
        if self.pooled:
            return kept | {"vectors": torch.from_numpy(self.flat[rows])}
        mask = given["attention_mask"].numpy().astype(bool)
        states = np.zeros((*mask.shape, *self.flat.shape[1:]), dtype=np.float32)
        bounds = self.tokens.offsets
        states[mask] = np.concatenate([self.flat[bounds[r] : bounds[r + 1]] for r in rows])
        return kept | {
            "states": torch.from_numpy(states).permute(0, 2, 1, 3),
            "attention_mask": given["attention_mask"],
        }


@dataclass(frozen=True)
class Vectors:
    """(n, size) pooled vectors in the place of tokens."""

    vectors: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self.vectors), dtype=np.int64)

    def batch(self, rows: np.ndarray) -> dict[str, Tensor]:
        return {"vectors": torch.from_numpy(self.vectors[rows])}


def run_once(
    classifier: Classifier,
    tokens: Tokens,
    folder: Path,
    limit_gb: float,
    autocast=nullcontext,
) -> Outputs | None:
    """The backbone's outputs for all tokens, or None where they would take more than `limit_gb`.

    From 1 GB on they lie in `folder`, under a name made of weights, tokens and layers, where a resumed
    run finds them again.
    """
    pooled = classifier.pooling.fixed
    config = classifier.backbone.config
    shape = (len(tokens.lengths), classifier.pooling.size)
    if not pooled:
        shape = (int(tokens.offsets[-1]), classifier.pooling.layers, config.hidden_size)
    size_gb = 4 * float(np.prod(shape)) / 1e9
    if size_gb > limit_gb:
        say(
            f"the frozen backbone's outputs would take {size_gb:.1f} GB, more than cache_gb "
            f"{limit_gb:g}: computing them anew in each epoch"
        )
        return None
    if size_gb <= IN_MEMORY_GB:
        return Outputs(
            tokens, _fill(classifier, tokens, np.empty(shape, np.float32), autocast), pooled
        )
    place = folder / f"outputs-{_key(classifier, tokens)}.npy"
    if not place.exists():
        beside = place.with_suffix(".tmp")
        flat = np.lib.format.open_memmap(beside, mode="w+", dtype=np.float32, shape=shape)
        _fill(classifier, tokens, flat, autocast).flush()
        beside.rename(place)
    return Outputs(tokens, np.load(place, mmap_mode="r"), pooled)


@torch.inference_mode()
def _fill(classifier: Classifier, tokens: Tokens, flat: np.ndarray, autocast) -> np.ndarray:
    classifier.eval()
    device = next(classifier.backbone.parameters()).device
    with (
        Progress("running the frozen backbone", len(tokens.lengths), "rows") as progress,
        autocast(),
    ):
        for rows in token_batches(tokens.lengths, batch_tokens(device)):
            inputs = {k: v.to(device) for k, v in tokens.batch(rows).items() if k != "features"}
            mask = inputs["attention_mask"]
            states = classifier.read(**inputs)
            if classifier.pooling.fixed:
                flat[rows] = classifier.pooling(states, mask).float().cpu().numpy()
            else:
                real = states.permute(0, 2, 1, 3)[mask.bool()].float().cpu().numpy()
                ends = np.cumsum(tokens.lengths[rows])
                for row, end in zip(rows, ends, strict=True):
                    length = tokens.lengths[row]
                    flat[tokens.offsets[row] : tokens.offsets[row + 1]] = real[end - length : end]
            progress.add(len(rows))
    return flat


def _key(classifier: Classifier, tokens: Tokens) -> str:
    """Of all that the outputs depend on: weights, tokens, layers."""
    h = hashlib.sha256(f"{classifier.pooling.layers} {classifier.pooling.fixed}".encode())
    for name, weight in classifier.backbone.state_dict().items():
        h.update(name.encode())
        h.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for part in (tokens.flat, tokens.offsets, tokens.types):
        if part is not None:
            h.update(np.ascontiguousarray(part).tobytes())
    return h.hexdigest()[:16]
