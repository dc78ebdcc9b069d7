"""The layers of every architecture: counted, frozen, drawn anew."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from foldstack.errors import InputError
from foldstack.nets.classifier import Classifier
from foldstack.nets.layers import blocks, depths, freeze, prepare_layers, reinit
from foldstack.techniques import TrainingSettings

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
}
SPECIAL = {k: 1 for k in ("pad_token_id", "bos_token_id", "eos_token_id")}
RELATIVE = {
    "relative_attention": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "share_att_key": True,
}
CONFIGS: dict[str, dict] = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "xlm-roberta-xl": {},
    "deberta-v2": RELATIVE | {"conv_kernel_size": 3},
    "electra": {"embedding_size": 8},
    "mpnet": {},
    "albert": {"embedding_size": 8},
    "xlnet": {"d_model": 16, "n_layer": 3, "n_head": 2, "d_inner": 32},
    "modernbert": SPECIAL | {"cls_token_id": 1, "sep_token_id": 1},
    "longformer": {"attention_window": [4] * 3},
    "distilbert": {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32},
    "roformer": {"embedding_size": 8},
}
# Outside the blocks and not before the first one: (pattern of names, depth).
LATER = {
    "deberta-v2": ("encoder.conv.", 1),
    "modernbert": ("final_norm.", 4),
    "xlm-roberta-xl": ("encoder.LayerNorm.", 4),
}


def classifier(kind: str = "bert", **config: object) -> Classifier:
    """A random model of three layers, without its pooler, in training mode."""
    own = CONFIGS[kind]
    sizes = {"vocab_size": 64} if {"dim", "d_model"} & set(own) else SIZES
    torch.manual_seed(0)
    backbone = AutoModel.from_config(AutoConfig.for_model(kind, **sizes | own | config))
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    return Classifier(backbone, 1, 0.0).train()


def backward(model: nn.Module) -> None:
    """One pass forward and back over two texts, with the same dropout each time."""
    torch.manual_seed(0)
    ids = torch.arange(2, 14).reshape(2, 6)
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).square().sum().backward()


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in model.named_parameters()}


# Blocks and depths


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_blocks_are_the_layers_lowest_first(kind):
    model = classifier(kind)
    found = blocks(model.backbone)
    called = []
    for i, block in enumerate(found):
        block.register_forward_hook(lambda *_, i=i: called.append(i))
    backward(model)
    assert called == ([0, 0, 0] if kind == "albert" else [0, 1, 2])


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_weights_depth_is_its_blocks_number(kind):
    """DeBERTa's encoder.LayerNorm is of the relative positions, XLM-RoBERTa-XL's is the last norm."""
    count = 1 if kind == "albert" else 3
    pattern, depth = LATER.get(kind, ("none", 0))
    found = depths(classifier(kind))
    for name, value in found.items():
        number = re.search(r"(?:layers?|albert_layer_groups)\.(\d+)\.", name)
        if number:
            assert value == int(number[1]) + 1, name
        elif name.startswith("head."):
            assert value == count + 1, name
        elif pattern in name:
            assert value == depth, name
        else:
            assert value == 0, name
    assert set(found.values()) >= {*range(count + 2)}
    assert depth in found.values()


def test_looking_at_depths_leaves_no_trace():
    """The short pass neither draws random numbers nor leaves hooks or another mode."""
    model = classifier("roberta")
    state = torch.get_rng_state()
    depths(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("lists", "count"), [(0, "no"), (2, "2")])
def test_a_backbone_without_one_stack_is_refused(lists, count):
    backbone = nn.Module()
    backbone.config = SimpleNamespace(model_type="odd")
    backbone.empty = nn.ModuleList()
    for i in range(lists):
        backbone.add_module(f"stack{i}", nn.ModuleList([nn.Linear(2, 2)]))
    with pytest.raises(InputError) as e:
        blocks(backbone)
    assert str(e.value) == (
        f"a backbone of type 'odd' has {count} stacks of layers instead of one, so they cannot be "
        "counted: leave training.layer_decay, head_lr, freeze_embeddings, freeze_layers, "
        "reinit_layers, keep_every and sharding at their defaults"
    )


# Freezing


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("layers", [0, 1])
def test_what_is_frozen_has_no_gradient_and_ends_the_backward_pass(kind, layers):
    """A frozen layer above embeddings that learn would be gone through all the same."""
    model = classifier(kind)
    freeze(model, embeddings=True, layers=layers)
    needs = []
    for block in blocks(model.backbone):
        block.register_forward_pre_hook(
            lambda _, args, kw: needs.append(
                any(
                    x.requires_grad
                    for x in [*args, *kw.values()]
                    if isinstance(x, torch.Tensor) and x.is_floating_point()
                )
            ),
            with_kwargs=True,
        )
    backward(model)
    assert needs == (
        [False] * 3
        if kind == "albert" and layers
        else [False] * (layers + 1) + [True] * (2 - layers)
    )
    for name, depth in depths(model).items():
        p = model.get_parameter(name)
        assert p.requires_grad == (depth > layers), name
        assert p.grad is None or depth > layers, name
    assert model.head.weight.grad.norm() > 0


def test_freezing_layers_freezes_the_embeddings_below_them():
    one, both = classifier(), classifier()
    freeze(one, embeddings=False, layers=2)
    freeze(both, embeddings=True, layers=2)
    frozen = [[n for n, p in m.named_parameters() if not p.requires_grad] for m in (one, both)]
    assert frozen[0] == frozen[1]
    assert "backbone.embeddings.word_embeddings.weight" in frozen[0]


def test_nothing_is_frozen_by_default():
    model = classifier()
    freeze(model, embeddings=False, layers=0)
    assert all(p.requires_grad for p in model.parameters())


def test_all_layers_may_be_frozen_and_the_head_learns():
    model = classifier("modernbert")
    freeze(model, embeddings=False, layers=3)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"backbone.final_norm.weight", "head.weight", "head.bias"}


# Drawing anew


@pytest.mark.parametrize("kind", CONFIGS)
def test_top_blocks_are_drawn_as_before_pretraining(kind, tmp_path):
    """The library does not touch a weight that it has loaded, unless told that it has not."""
    drawn = classifier(kind)
    drawn.backbone.save_pretrained(tmp_path)
    model = Classifier(AutoModel.from_pretrained(tmp_path), 1, 0.0)
    if hasattr(model.backbone, "pooler"):
        model.backbone.pooler = None
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5)  # what pre-training did
    before = snapshot(model)
    reinit(model, 1, seed=0)
    top = blocks(model.backbone)[-1]
    new = {id(p) for p in top.parameters()}
    fresh = dict(drawn.named_parameters())
    for name, p in model.named_parameters():
        if id(p) not in new:
            assert torch.equal(p, before[name]), name
        elif p.ndim == 1:  # norms are one, biases nought
            assert torch.equal(p, fresh[name]), name
        else:
            assert not torch.equal(p, fresh[name]), name
            assert p.mean().abs() < 0.3 * (p.std() + 0.01), name
            assert p.std().item() == pytest.approx(fresh[name].std().item(), rel=0.4), name


def test_a_drawn_matrix_has_the_configs_deviation():
    model = classifier("bert", hidden_size=64, intermediate_size=256, initializer_range=0.07)
    nn.init.ones_(model.backbone.encoder.layer[2].intermediate.dense.weight)
    reinit(model, 2, seed=0)
    weight = model.backbone.encoder.layer[2].intermediate.dense.weight
    assert weight.std().item() == pytest.approx(0.07, rel=0.02)


def test_the_seed_draws_and_nothing_else():
    """The head is drawn from the same seed: its numbers must not come again."""
    model = classifier()
    state = torch.get_rng_state()

    def drawn(seed: int) -> torch.Tensor:
        reinit(model, 2, seed)
        return torch.cat([p.detach().flatten() for p in blocks(model.backbone)[1].parameters()])

    first = drawn(0)
    torch.rand(3)
    assert torch.equal(drawn(0), first)
    assert not torch.equal(drawn(1), first)
    torch.set_rng_state(state)
    drawn(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(0)
    head = torch.empty(1, 16).normal_(std=0.02)
    query = blocks(model.backbone)[1].attention.self.query.weight
    assert not torch.allclose(query[:1], head)


def test_layers_drawn_anew_differ_from_each_other():
    model = classifier()
    reinit(model, 3, seed=0)
    queries = [b.attention.self.query.weight for b in blocks(model.backbone)]
    assert not torch.equal(queries[0], queries[1]) and not torch.equal(queries[1], queries[2])


# More layers than there are


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (
            "bert",
            {"freeze_layers": 4},
            "training.freeze_layers is 4, but the backbone has 3 layers: set it to 3 or less",
        ),
        (
            "xlnet",
            {"reinit_layers": 5},
            "training.reinit_layers is 5, but the backbone has 3 layers: set it to 3 or less",
        ),
        (
            "albert",
            {"freeze_layers": 2},
            "training.freeze_layers is 2, but the backbone has 1 layer, which it applies "
            "3 times: set it to 1 or less",
        ),
        (
            "bert",
            {"freeze_layers": 2, "reinit_layers": 2},
            "training.freeze_layers 2 and training.reinit_layers 2 overlap in a backbone of 3 layers, "
            "so a re-initialised layer would be frozen: lower one of them",
        ),
    ],
)
def test_more_layers_than_there_are_is_refused(kind, settings, sentence):
    with pytest.raises(InputError) as e:
        prepare_layers(classifier(kind), TrainingSettings(**settings), seed=0)
    assert str(e.value) == sentence


def test_settings_reach_the_layers():
    model, before = classifier(), snapshot(classifier())
    prepare_layers(model, TrainingSettings(freeze_layers=1, reinit_layers=2), seed=0)
    for name, depth in depths(model).items():
        p = model.get_parameter(name)
        assert p.requires_grad == (depth > 1)
        if p.ndim > 1:
            assert torch.equal(p, before[name]) == (depth not in (2, 3)), name


def test_by_default_layers_are_left_alone():
    model, before = classifier(), snapshot(classifier())
    prepare_layers(model, TrainingSettings(), seed=0)
    assert all(p.requires_grad and torch.equal(p, before[n]) for n, p in model.named_parameters())
