"""Low-rank adapters: what they compute, what they train, and that all else stays as it was."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from foldstack.errors import InputError
from foldstack.learners.transformer import TransformerLearner
from foldstack.nets import adapters
from foldstack.nets.adapters import adapted_layers, add_adapters, merge, targets_of
from foldstack.nets.backbone import dropout_rates, load_model
from foldstack.nets.classifier import Classifier
from foldstack.techniques import FGM, WORD_EMBEDDINGS, LoraSettings, TransformerSettings
from foldstack.training import loop
from foldstack.training.attacks import make_attack
from foldstack.training.optim import layer_rates
from foldstack.training.weight_averaging import make_averaging
from makers import make_learner, tiny_rows
from test_layers import CONFIGS, SIZES

pytestmark = pytest.mark.usefixtures("cpu_settings_restored")

DECODERS = {
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2},  # weights of its layers are transposed
    "qwen3": {"num_key_value_heads": 1, "head_dim": 8},
    "gemma3_text": {"num_key_value_heads": 1, "head_dim": 8},
}
ARCHITECTURES = CONFIGS | DECODERS


def backbone_of(kind: str = "bert", **config: object) -> nn.Module:
    """A random backbone of three layers in eval mode."""
    torch.manual_seed(0)
    given = SIZES | ARCHITECTURES[kind] | config
    if kind == "xlnet":
        given.pop("max_position_embeddings")  # it has no limit
    return AutoModel.from_config(AutoConfig.for_model(kind, **given)).eval()


def lora(**settings: object) -> LoraSettings:
    """r 2, alpha 6 and no dropout, unless they are given."""
    return LoraSettings(**{"r": 2, "alpha": 6.0, "dropout": 0.0} | settings)


def read(backbone: nn.Module) -> Tensor:
    """What a backbone gives for one text."""
    ids = torch.arange(1, 9).view(1, 8)
    return backbone(input_ids=ids, attention_mask=torch.ones_like(ids))[0]


def trained(backbone: nn.Module) -> nn.Module:
    """The backbone with adapters that are not as they began."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in backbone.named_parameters():
            if "lora_" in name:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return backbone


def weight_of(backbone: nn.Module, name: str = "encoder.layer.1.attention.self.query") -> Tensor:
    return backbone.get_submodule(name).weight.detach().clone()


def parts(backbone: nn.Module) -> tuple[Tensor, Tensor]:
    """A (r, inputs) and B (outputs, r) of one layer."""
    layer = backbone.get_submodule("encoder.layer.1.attention.self.query")
    return layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()


# What is computed


@pytest.mark.parametrize("kind", ARCHITECTURES)
@torch.no_grad()
def test_a_backbone_with_new_adapters_is_as_before_and_with_trained_ones_it_merges(kind):
    backbone = backbone_of(kind)
    before = read(backbone)
    add_adapters(backbone, lora(), seed=0)
    assert torch.equal(read(backbone), before)  # B is 0
    after = read(trained(backbone))
    assert (after - before).abs().max() > 1e-3
    merge(backbone)
    assert not list(adapted_layers(backbone))
    torch.testing.assert_close(read(backbone), after, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 3.0),
        ({"alpha": 1.0}, 0.5),
        ({"r": 3}, 2.0),
        ({"kind": "rslora"}, 6 / 2**0.5),  # alpha / √r (Kalajdzievski 2023)
    ],
)
def test_the_weight_becomes_w_plus_s_b_a(settings, scale):
    backbone = backbone_of()
    weight = weight_of(backbone)
    add_adapters(backbone, lora(**settings), seed=0)
    a, b = parts(trained(backbone))
    assert a.shape == (settings.get("r", 2), 16)
    merge(backbone)
    torch.testing.assert_close(weight_of(backbone), weight + scale * b @ a)


def test_dora_gives_a_magnitude_to_each_direction():
    """W' = m (W + s B A) / ‖W + s B A‖ by output, with m = ‖W‖ at first (Liu et al. 2024)."""
    backbone = backbone_of()
    weight = weight_of(backbone)
    add_adapters(backbone, lora(kind="dora"), seed=0)
    a, b = parts(trained(backbone))
    layer = backbone.get_submodule("encoder.layer.1.attention.self.query")
    magnitude = layer.lora_magnitude_vector["default"].weight.detach().clone()
    assert (magnitude - weight.norm(dim=1)).abs().max() > 0.1  # `trained` has moved it
    merge(backbone)
    moved = weight + 3 * b @ a
    wanted = magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(weight_of(backbone), wanted)


def test_pissa_begins_with_the_principal_part_and_freezes_the_rest():
    """The r largest singular values are in s B A, and both together are W (Meng et al. 2024)."""
    backbone = backbone_of()
    layer = backbone.get_submodule("encoder.layer.1.attention.self.query")
    u, _, v = torch.linalg.svd(torch.randn(16, 16))
    values = 2.0 ** -torch.arange(16)
    layer.weight.data = u * values @ v
    weight, before = weight_of(backbone), read(backbone)
    add_adapters(backbone, lora(kind="pissa"), seed=0)
    a, b = parts(backbone)
    layer = backbone.get_submodule("encoder.layer.1.attention.self.query")
    rest = layer.base_layer.weight.detach()
    torch.testing.assert_close(rest + 3 * b @ a, weight)
    torch.testing.assert_close(3 * b @ a, u[:, :2] * values[:2] @ v[:2], rtol=0, atol=1e-4)
    torch.testing.assert_close(read(backbone), before, rtol=0, atol=1e-5)


def test_the_initialisation_depends_on_the_seed_only():
    drawn = []
    for seed, state in ((0, 5), (0, 6), (1, 5)):
        backbone = backbone_of()
        torch.manual_seed(state)
        add_adapters(backbone, lora(), seed)
        drawn.append(parts(backbone)[0])
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.manual_seed(state)))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_dropout_is_on_the_input_of_adapters_and_no_rate_of_the_backbone():
    backbone = backbone_of(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    rates = len(dropout_rates(backbone))
    add_adapters(backbone, lora(dropout=0.5), seed=0)
    assert len(dropout_rates(backbone)) == rates  # which a stage's backbone_dropout sets
    whole = read(trained(backbone))
    assert torch.equal(read(backbone), whole)
    assert (read(backbone.train()) - whole).abs().max() > 1e-3


# Targets


def test_targets_are_all_linear_layers_of_the_layers_or_those_named():
    backbone = backbone_of("electra")  # which has a linear layer before its layers
    own = {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"}
    assert len(targets_of(backbone, "auto")) == len(own) * 3
    assert "embeddings_project" in targets_of(backbone, ("embeddings_project", "key"))
    assert len(targets_of(backbone, ("query", "attention.output.dense"))) == 6
    assert len(targets_of(backbone, ("dense",))) == 9
    assert LoraSettings(targets="auto") == LoraSettings()
    assert LoraSettings(targets="query").targets == ("query",)


def test_a_target_that_names_nothing_is_refused():
    with pytest.raises(InputError) as e:
        targets_of(backbone_of("qwen3"), ("q_proj", "query"))
    assert str(e.value) == (
        "lora.targets names 'query', with which no linear layer's name ends: they end with down_proj, "
        "gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )
    with pytest.raises(InputError, match="names 'ery'"):  # whole parts of names only
        targets_of(backbone_of(), ("ery",))


def test_without_peft_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError) as e:
        adapters.load_peft()
    assert str(e.value) == (
        "lora requires the package peft, which is not installed: pip install 'foldstack[lora]'"
    )


# Settings that exclude each other


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"keep_every": 2, "joint": {}},
            "lora keeps the backbone's weights, and joint trains it whole: leave lora or joint out",
        ),
        (
            {"training": {"reinit_layers": 1}},
            "lora keeps the backbone's weights, and re-initialised layers would never be learned: leave "
            "lora or training.reinit_layers out",
        ),
        (
            {"training": {"freeze_embeddings": True}},
            "lora keeps the backbone's weights, and the embeddings are frozen already: leave lora or "
            "training.freeze_embeddings out",
        ),
        (
            {"training": {"freeze_backbone": True}},
            "lora keeps the backbone's weights, and no stage would train the adapters in it: leave lora "
            "or training.freeze_backbone out",
        ),
    ],
)
def test_what_does_not_go_with_adapters(settings, sentence):
    with pytest.raises(ValidationError) as e:
        TransformerSettings(learner="transformer", backbone="x", lora={}, **settings)
    assert sentence in str(e.value)


def test_a_stage_may_train_the_head_alone_first():
    head_first = [{"freeze_backbone": True}, {}]
    TransformerSettings(learner="transformer", backbone="x", lora={}, stages=head_first)


# Training


def learner_of(backbone: Path, **settings: object) -> TransformerLearner:
    """A learner without dropout; `lora` has r 4 and alpha 8 unless it is given."""
    given = {"lora": {"r": 4, "alpha": 8, "dropout": 0}, "dropout": 0, "backbone_dropout": 0}
    return make_learner(backbone, **given | settings)


def fitted(backbone: Path, folder: Path, **settings: object) -> TransformerLearner:
    folder.mkdir()
    learner = learner_of(backbone, **settings)
    learner.fit(tiny_rows(), None, folder)
    return learner


def test_full_rank_with_everything_trained_is_full_fine_tuning(backbone, tmp_path):
    """With A the identity the gradient of B is that of W, so that both take the same steps."""
    training = {"weight_decay": 0.0, "layer_decay": 0.9, "clip": 0.5}
    targets = ["query", "key", "value", "attention.output.dense"]
    ours = learner_of(
        backbone, lora={"r": 16, "alpha": 16, "dropout": 0, "targets": targets}, training=training
    )
    whole = learner_of(backbone, lora=None, training=training)
    ends = []
    for learner in (ours, whole):
        examples = learner.prepare(tiny_rows())
        for name, p in learner.model.named_parameters():
            if "lora_A" in name:
                nn.init.eye_(p)
            learns = not name.startswith("backbone.") or name.endswith(
                tuple(f"{target}.weight" for target in targets)
            )
            p.requires_grad_("lora_B" in name or ("base_layer" not in name and learns))
        folder = tmp_path / str(len(ends))
        folder.mkdir()
        loop.train(
            learner.model,
            examples,
            learner.settings.training,
            learner.accelerator,
            seed=0,
            folder=folder,
            checkpoint_seconds=1000,
        )
        ends.append(learner)
    one, other = ends[0].merged().model.state_dict(), ends[1].model.state_dict()
    assert one.keys() == other.keys()
    began = load_model(str(backbone)).state_dict()
    moved = [k for k, v in began.items() if not torch.equal(other[f"backbone.{k}"], v)]
    assert len(moved) == 2 * len(targets)
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=2e-6)


def test_all_but_adapters_and_head_stays_bit_by_bit(backbone, tmp_path):
    began = load_model(str(backbone)).state_dict()
    learner = fitted(backbone, tmp_path / "run")
    now = {k.replace(".base_layer", ""): v for k, v in learner.model.backbone.state_dict().items()}
    assert all(torch.equal(now[k], v) for k, v in began.items())
    others = {k: v for k, v in learner.model.learned().items() if "lora_" not in k}
    assert set(others) == {"head.weight", "head.bias"}
    assert parts(learner.model.backbone)[1].abs().max() > 0


def test_norms_are_trained_if_asked(backbone, tmp_path):
    learner = fitted(backbone, tmp_path / "run", lora={"train_norms": True})
    began = load_model(str(backbone)).state_dict()
    now = {k.replace(".base_layer", ""): v for k, v in learner.model.backbone.state_dict().items()}
    assert {k for k, v in began.items() if not torch.equal(now[k], v)} == {
        k for k in began if "LayerNorm" in k
    }
    assert {k for k in learner.model.learned() if "LayerNorm" in k} == {
        f"backbone.{k}" for k in began if "LayerNorm" in k
    }


def test_rates_fall_by_the_depth_of_the_adapted_layer(backbone):
    learner = learner_of(backbone, training={"lr": 1.0, "layer_decay": 0.5, "head_lr": 3.0})
    learner.prepare(tiny_rows())
    rates = layer_rates(learner.model, learner.settings.training)
    adapter = "backbone.encoder.layer.{}.attention.self.query.lora_A.default.weight"
    assert [rates[adapter.format(i)] for i in range(2)] == [0.5, 1.0]
    assert rates["head.weight"] == 3.0


def test_an_average_is_of_trained_weights(backbone):
    learner = learner_of(backbone, training={"averaging": "ema"})
    learner.prepare(tiny_rows())
    average = make_averaging(learner.settings.training.averaging, learner.model)
    assert average.average.keys() == learner.model.learned().keys()


def test_frozen_lower_layers_keep_their_adapters(backbone, tmp_path):
    learner = fitted(backbone, tmp_path / "run", training={"freeze_layers": 1})
    b = {k: v for k, v in learner.model.learned().items() if "lora_B" in k}
    moved = {k.split(".")[3] for k, v in b.items() if v.abs().max() > 0}
    assert moved == {"1"}


def test_a_stage_with_a_frozen_backbone_trains_the_head_alone(backbone, tmp_path):
    stages = [{"freeze_backbone": True}, {"epochs": 1}]
    learner = learner_of(backbone, stages=stages)
    seen = []
    train = loop.train

    def noting(net: nn.Module, *args: object, **options: object) -> dict:
        facts = train(net, *args, **options)
        state = learner.model.learned()
        seen.append((max(float(v.abs().max()) for k, v in state.items() if "lora_B" in k), facts))
        return facts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", noting)
        learner.fit(tiny_rows(), None, tmp_path)
    assert seen[0][0] == 0 < seen[1][0]
    stored = load_file(tmp_path / "stage1/weights.safetensors")
    assert stored.keys() == learner.model.learned().keys()


@pytest.mark.parametrize("rows", [32, 5])
def test_training_with_the_words_that_occur_is_the_same(deep, tmp_path, monkeypatch, rows):
    """`deep` has 500 words, of which the texts have few."""
    few = fitted(deep, tmp_path / "few").model.learned()
    monkeypatch.setattr("foldstack.nets.vocabulary.WORTHWHILE", 0.0)
    all_of_them = fitted(deep, tmp_path / "all").model.learned()
    assert all(torch.equal(v, all_of_them[k]) for k, v in few.items())


# Adversaries


def attacked(backbone: Path, **adversary: object) -> tuple[Classifier, object, Tensor]:
    """A network with adapters that are not as they began, its attack, and a frozen embedding."""
    learner = learner_of(backbone, training={"adversary": adversary})
    examples = learner.prepare(tiny_rows())
    trained(learner.model.backbone)
    training = loop.prepare(learner.model, examples, learner.settings.training, learner.accelerator)
    return learner.model, (training, examples), learner.model.word_embeddings().weight


@pytest.mark.parametrize("name", ["fgm", "pgd", "awp"])
def test_frozen_word_embeddings_are_perturbed_and_come_back(backbone, name, monkeypatch):
    """The gradient reaches them, moves them within the attack, and leaves nothing behind."""
    own = {"awp": {"start": 0, "lr": 0.5}, "pgd": {"steps": 2}}.get(name, {})
    adversary = {"name": name, "parameters": WORD_EMBEDDINGS} | own
    model, (training, examples), words = attacked(backbone, **adversary)
    began, seen = words.detach().clone(), []
    forward = model.forward

    def noting(*args: object, **options: object) -> object:
        seen.append(float((words.detach() - began).norm()))
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", noting)
    loop.update(training, examples, torch.arange(8).numpy(), 0.0)
    assert seen[0] == 0 < seen[-1]
    if name == "fgm":
        assert seen[-1] == pytest.approx(training.settings.adversary.epsilon, rel=1e-4)
    assert torch.equal(words, began) and words.grad is None and not words.requires_grad


def test_the_perturbation_is_that_of_trained_word_embeddings(backbone):
    moves = []
    for frozen in (True, False):
        _, (training, examples), words = attacked(backbone, name="fgm")
        if not frozen:
            words.requires_grad_(True)
            training.adversary.frozen = []
        began = words.detach().clone()
        put = training.adversary.attack

        @contextmanager
        def noting(put=put, words=words, began=began):
            with put():
                moves.append(words.detach() - began)
                yield

        training.adversary.attack = noting
        loop.update(training, examples, torch.arange(8).numpy(), 0.0)
    torch.testing.assert_close(moves[0], moves[1])


def test_embeddings_that_the_user_has_frozen_are_refused_as_before(backbone):
    learner = learner_of(backbone, lora=None, training={"freeze_embeddings": True})
    learner.prepare(tiny_rows())
    learner.model.word_embeddings().weight.requires_grad_(False)
    with pytest.raises(InputError, match="which is frozen"):
        make_attack(FGM(name="fgm"), learner.model)
