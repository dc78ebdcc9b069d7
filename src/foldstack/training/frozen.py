"""A frozen backbone: it runs once over the rows, and only the head is trained on its outputs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from foldstack import parallel
from foldstack.files import filling
from foldstack.nets.classifier import Classifier
from foldstack.nets.device import to_device, to_host
from foldstack.nets.mixup import Mixup
from foldstack.nets.trainable import Trainable
from foldstack.progress import Progress, say
from foldstack.techniques import TrainingSettings
from foldstack.techniques.network_parts import NetworkPart
from foldstack.text.batches import Sequences, token_batches
from foldstack.text.tokens import Tokens
from foldstack.training.precision import batch_tokens, padding_multiple
from foldstack.training.threads import parallel_map

IN_MEMORY_GB = 1.0


class HeadOnly(Trainable):
    """A classifier whose backbone stays in eval mode, without gradients.

    It holds the head's modules, which the classifier shares, and trains and saves only these.
    """

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.pooling, self.head = classifier.pooling, classifier.head
        self.auxiliary = classifier.auxiliary
        self._whole = (classifier,)  # in a tuple, so that it is not registered as a submodule

    @property
    def parts(self) -> frozenset[NetworkPart]:
        return self.whole.parts

    @property
    def body_name(self) -> str:
        return f"a frozen {self.whole.body_name}"

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
        """Return what `Classifier.forward` returns, from the first given of vectors, states, token ids.

        Args:
            pooled: return the pooled vectors too.
            states: (b, layers, t, h) hidden states.
            vectors: (b, size) pooled vectors.
            attention_mask: (b, t); not needed with `vectors`.
            features: (b, f), if the model has feature columns.
            mixup: of the pooled vectors and features.
            inputs: token ids and types, for the backbone.
        """
        if vectors is None:
            if states is None:
                with torch.no_grad():
                    states = self.whole.read(attention_mask=attention_mask, **inputs)
            mask = self.whole.mask(inputs["input_ids"], attention_mask)
            vectors = self.whole.pooling(states, mask)
        return self.whole.score(vectors, features, pooled=pooled, mixup=mixup)


def head_settings(settings: TrainingSettings) -> TrainingSettings:
    """Return settings for training the head only: `head_lr` becomes `lr`."""
    rate = settings.head_lr or settings.lr
    return settings.model_copy(update={"lr": rate, "head_lr": None, "layer_decay": 1.0})


@dataclass(frozen=True)
class Outputs:
    """The head's input for n rows, in place of their tokens.

    flat: (total tokens, layers, h) float32, or (n, size) pooled vectors if the pooling has no
    weights.
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

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        """Return `vectors` (b, size), or `states` (b, layers, t, h) with ids and mask (b, t)."""
        given = self.tokens.batch(rows, multiple)
        kept = {"features": given["features"]} if "features" in given else {}
        if self.pooled:
            return kept | {"vectors": torch.from_numpy(self.flat[rows])}
        mask = given["attention_mask"].numpy().astype(bool)
        states = np.zeros((*mask.shape, *self.flat.shape[1:]), dtype=np.float32)
        bounds = self.tokens.offsets
        states[mask] = np.concatenate([self.flat[bounds[r] : bounds[r + 1]] for r in rows])
        return kept | {
            "states": torch.from_numpy(states).permute(0, 2, 1, 3),
            "input_ids": given["input_ids"],
            "attention_mask": given["attention_mask"],
        }


@dataclass(frozen=True)
class Vectors:
    """(n, size) pooled vectors in place of tokens."""

    vectors: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.ones(len(self.vectors), dtype=np.int64)

    def batch(self, rows: np.ndarray, multiple: int = 1) -> dict[str, Tensor]:
        return {"vectors": torch.from_numpy(self.vectors[rows])}


def run_once(
    classifier: Classifier,
    tokens: Tokens,
    folder: Path,
    limit_gb: float,
    autocast=nullcontext,
) -> Outputs | None:
    """Return the backbone's outputs for all tokens, or None if they would take more than `limit_gb`.

    From 1 GB on they are a file in `folder`, named by a hash of weights, tokens and layers, which a
    resumed run finds again. Outputs of several processes, which share the rows, are always a file.

    Args:
        classifier: whose backbone runs.
        tokens: n token sequences.
        folder: for the file.
        limit_gb: maximum size in GB.
        autocast: context of the computation.
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
            f"{limit_gb:g}: computing them again in each epoch"
        )
        return None
    if size_gb <= IN_MEMORY_GB and parallel.world_size() == 1:
        return Outputs(
            tokens, fill(classifier, tokens, np.empty(shape, np.float32), autocast), pooled
        )
    place = folder / f"outputs-{_key(classifier, tokens)}.npy"
    if not place.exists():
        beside = place.with_suffix(".tmp")
        with filling(beside, place):
            flat = parallel.main_first(partial(_open, beside, shape))
            fill(classifier, tokens, flat, autocast).flush()
            parallel.barrier()
            if parallel.is_main():
                beside.rename(place)
            parallel.barrier()
    return Outputs(tokens, np.load(place, mmap_mode="r"), pooled)


def fill(
    classifier: Classifier, tokens: Sequences, flat: np.ndarray, autocast=nullcontext
) -> np.ndarray:
    """Compute this process's batches into `flat`; write each while the next one is computed.

    Args:
        classifier: whose backbone runs.
        tokens: n token sequences.
        flat: see `Outputs`; it is returned.
        autocast: context of the computation.
    """
    classifier.eval()
    device = next(classifier.backbone.parameters()).device
    own = parallel.shard(token_batches(tokens.lengths, batch_tokens(device)))
    before: tuple[np.ndarray, Callable[[], Tensor]] | None = None

    def states_of(rows: np.ndarray) -> Tensor:
        given = tokens.batch(rows, padding_multiple(device))
        return _read(classifier, given, device).float()

    with (
        Progress("running the frozen backbone", sum(map(len, own)), "rows") as progress,
        autocast(),
    ):
        for rows, found in zip(own, parallel_map(states_of, own, device), strict=True):
            if before is not None:
                _put(flat, tokens, classifier.pooling.fixed, *before)
            before = rows, to_host(found)
            progress.add(len(rows))
        if before is not None:
            _put(flat, tokens, classifier.pooling.fixed, *before)
    return flat


def _read(classifier: Classifier, given: dict[str, Tensor], device: torch.device) -> Tensor:
    """Return (b, size) pooled vectors, or (tokens, layers, h) states if the pooling has weights."""
    inputs = to_device({k: v for k, v in given.items() if k != "features"}, device)
    states = classifier.read(**inputs)
    if classifier.pooling.fixed:
        return classifier.pooling(states, inputs["attention_mask"])
    # On the CPU: on a GPU, nonzero waits for the count.
    real = torch.from_numpy(np.flatnonzero(given["attention_mask"].numpy()))
    return states.permute(0, 2, 1, 3).flatten(0, 1)[to_device(real, device)]


def _put(
    flat: np.ndarray, tokens: Tokens, pooled: bool, rows: np.ndarray, found: Callable[[], Tensor]
) -> None:
    """Write what `_read` returned for these rows to their place in `flat`."""
    values = found().numpy()
    if pooled:
        flat[rows] = values
        return
    ends = np.cumsum(tokens.lengths[rows])
    for row, end in zip(rows, ends, strict=True):
        length = tokens.lengths[row]
        flat[tokens.offsets[row] : tokens.offsets[row + 1]] = values[end - length : end]


def _open(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return the file that all processes fill; the main process creates it."""
    if parallel.is_main():
        flat = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):  # a full disk fails here, not later by SIGBUS
            with path.open("r+b") as f:
                os.posix_fallocate(f.fileno(), 0, path.stat().st_size)
        return flat
    return np.lib.format.open_memmap(path, mode="r+")


def _key(classifier: Classifier, tokens: Tokens) -> str:
    """Return a hash of all that the outputs depend on: weights, tokens, layers."""
    h = hashlib.sha256(f"{classifier.pooling.layers} {classifier.pooling.fixed}".encode())
    for name, weight in classifier.backbone.state_dict().items():
        h.update(name.encode())
        h.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for part in (tokens.flat, tokens.offsets, tokens.types):
        if part is not None:
            h.update(np.ascontiguousarray(part).tobytes())
    return h.hexdigest()[:16]
