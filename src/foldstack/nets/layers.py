"""Layers of a network's `backbone`, of any type: depth of each weight, freezing, re-initialisation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from foldstack.errors import InputError
from foldstack.nets.trainable import Trainable
from foldstack.techniques import TrainingSettings

PER_LAYER = ("layer_types", "attention_window")  # of a backbone's config


def prepare_layers(model: Trainable, settings: TrainingSettings, seed: int) -> None:
    """Re-initialise and freeze layers as the settings say, before the model leaves the CPU.

    Raises InputError if the backbone has fewer layers, or a layer would be re-initialised and
    frozen.
    """
    frozen, new = settings.freeze_layers, settings.reinit_layers
    reinit(model, new, seed)
    freeze(model, settings.freeze_embeddings, frozen)
    if settings.auxiliary == 1:
        model.head.requires_grad_(False)
    if model.auxiliary is not None and settings.auxiliary == 0:
        model.auxiliary.requires_grad_(False)
    if frozen and new and frozen + new > (count := len(blocks(model.backbone))):
        raise InputError(
            f"training.freeze_layers {frozen} and training.reinit_layers {new} overlap in a backbone "
            f"of {count} layers, so a re-initialised layer would be frozen: lower one of them"
        )


def blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the stack of layers, the lowest first; ALBERT, which repeats one layer, has one.

    Word vectors of a network from scratch have none. Raises InputError if another backbone has no
    stack, or several, as in an encoder-decoder.
    """
    return list(_stack(backbone)) if getattr(backbone, "layered", True) else []


def thin(backbone: nn.Module, every: int) -> None:
    """Keep every n-th layer of a backbone, from the n-th on, as DistilBERT begins (Sanh et al. 2019).

    Raises InputError if the backbone has fewer layers than `every`, or layers of which some differ by
    their place: what is stored by their number would be read as others.
    """
    stack, config = _stack(backbone), backbone.config
    count = len(stack)
    if count < every:
        raise InputError(
            f"keep_every is {every}, but the backbone has {count} layer{'s' * (count > 1)}: set a "
            "smaller number"
        )
    if any(isinstance(block, nn.ModuleList) for block in stack):
        raise InputError(
            f"keep_every does not fit a backbone of type '{config.model_type}', whose layers stand in "
            "several blocks: leave it out"
        )
    kept = range(every - 1, count, every)
    for i in reversed(range(count)):
        if i not in kept:
            del stack[i]
    for i, block in enumerate(stack):
        for module in block.modules():
            if hasattr(module, "layer_idx"):  # its place in a decoder's cache
                module.layer_idx = i
    for name in PER_LAYER:
        if isinstance(values := getattr(config, name, None), list):
            setattr(config, name, [values[i] for i in kept])
    config.num_hidden_layers = len(kept)
    with torch.device("meta"):
        alone = type(backbone)(config)
    if _stack(alone).state_dict().keys() != stack.state_dict().keys():
        raise InputError(
            f"keep_every does not fit a backbone of type '{config.model_type}': its first layers have "
            "other weights than later ones; leave it out"
        )


def _stack(backbone: nn.Module) -> nn.ModuleList:
    """Return the only stack of layers of a backbone; see `blocks`."""
    lists = {k: m for k, m in backbone.named_modules() if isinstance(m, nn.ModuleList)}
    stacks = [
        stack
        for name, stack in lists.items()
        if next(stack.parameters(), None) is not None
        and not any(name.startswith(f"{outer}.") for outer in lists)
    ]
    if len(stacks) != 1:
        raise InputError(
            f"a backbone of type '{backbone.config.model_type}' has {len(stacks) or 'no'} stacks of "
            "layers instead of one, so they cannot be counted: leave training.layer_decay, head_lr, "
            "freeze_embeddings, freeze_layers, reinit_layers, keep_every and sharding at their defaults"
        )
    return stacks[0]


def depths(model: Trainable) -> dict[str, int]:
    """Return the depth of each named parameter in a backbone of n blocks.

    0: the embeddings, and parameters before the first block or shared by all, such as relative
    positions. i + 1: block i, and parameters between it and the next. n + 1: parameters after the
    last block, and the head. A teacher that learns beside it has those of the blocks that it is cut to.
    """
    stack = blocks(model.backbone)
    inside = {p: i for i, block in enumerate(stack, 1) for p in block.parameters()}
    between = _depths_of_calls(model.backbone, stack) if stack else {}
    out = {}
    if model.teacher is not None:
        found = model.teacher.depths(len(stack))
        out = {f"teacher.{name}": depth for name, depth in found.items()}
    for name, parameter in model.named_parameters():
        module, _, _ = name.rpartition(".")
        if name in out:
            continue
        if not name.startswith("backbone."):
            out[name] = len(stack) + 1
        elif parameter in inside:
            out[name] = inside[parameter]
        else:
            out[name] = between.get(model.get_submodule(module), 0)
    return out


def _depths_of_calls(backbone: nn.Module, stack: list[nn.Module]) -> dict[nn.Module, int]:
    """Return the depths of modules outside the blocks, by the order in which a forward pass calls them.

    Names and the order of definition are not reliable: `encoder.LayerNorm` is DeBERTa's norm of
    relative positions, before the blocks, and XLM-RoBERTa-XL's final norm, after them.
    """
    passed, out = 0, {}

    def leave(depth: int) -> None:
        nonlocal passed
        passed = depth

    def enter(module: nn.Module, *_) -> None:
        out.setdefault(module, passed + (passed == len(stack)))

    within = {m for block in stack for m in block.modules()}
    hooks = [m.register_forward_pre_hook(enter) for m in backbone.modules() if m not in within]
    hooks += [
        block.register_forward_hook(lambda *_, depth=i: leave(depth))
        for i, block in enumerate(stack, 1)
    ]
    training = backbone.training
    tokens = torch.zeros(1, 4, dtype=torch.long, device=next(backbone.parameters()).device)
    try:
        with torch.no_grad():
            backbone.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    return out


def freeze(model: Trainable, embeddings: bool, layers: int) -> None:
    """Freeze the embeddings, or the `layers` lowest blocks and everything below them.

    Blocks are never frozen without the embeddings, since the backward pass would still reach them
    and save nothing. The head is never frozen.

    Raises InputError if there are fewer blocks.
    """
    if not embeddings and not layers:
        return
    _check(model.backbone, "freeze_layers", layers)
    depth = depths(model)
    for name, parameter in model.named_parameters():
        if depth[name] <= layers:
            parameter.requires_grad_(False)


def reinit(model: Trainable, layers: int, seed: int) -> None:
    """Re-initialise the `layers` topmost blocks, as the library does before pre-training.

    Zhang et al. 2021, Revisiting Few-sample BERT Fine-tuning: the top layers are specialised in the
    pre-training task. The model is on the CPU; the global random state is restored.

    Raises InputError if there are fewer blocks.
    """
    if not layers:
        return
    _check(model.backbone, "reinit_layers", layers)
    own = np.random.SeedSequence((seed, 0, 1))  # differs from the seeds of the head and the updates
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(int(own.generate_state(1)[0]))
        for block in blocks(model.backbone)[-layers:]:
            for weight in [*block.parameters(), *block.buffers()]:
                weight._is_hf_initialized = False  # else the library keeps loaded weights
            block.apply(model.backbone._init_weights)


def _check(backbone: nn.Module, setting: str, layers: int) -> None:
    count = len(blocks(backbone))
    if layers <= count:
        return
    passes = backbone.config.num_hidden_layers
    shared = f", which it applies {passes} times" if passes > count else ""
    raise InputError(
        f"training.{setting} is {layers}, but the backbone has {count} "
        f"layer{'s' if count > 1 else ''}{shared}: set it to {count} or less"
    )
