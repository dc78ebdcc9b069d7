"""Which rate each weight has, what an optimiser does with it, and how the rate goes up and down."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from foldstack.nets.layers import freeze
from foldstack.techniques import (
    ConstantSchedule,
    Cosine,
    LinearSchedule,
    Plateau,
    Step,
    TrainingSettings,
)
from foldstack.training.optim import (
    load_state_tensors,
    lr_factor,
    make_optimizer,
    state_tensors,
)
from test_layers import backward, classifier, snapshot

ADAFACTOR = TrainingSettings(optimizer="adafactor", lr=1e-3, weight_decay=0)


def rates(model: nn.Module, **settings: object) -> dict[str, float]:
    """The rate of each named parameter that is trained, at the schedule's top."""
    names = {p: n for n, p in model.named_parameters()}
    optimizer = make_optimizer(model, TrainingSettings(lr=1.0, **settings))
    return {names[p]: g["initial_lr"] for g in optimizer.param_groups for p in g["params"]}


def matrix(values: torch.Tensor) -> nn.Module:
    """A module whose only parameter is this."""
    model = nn.Module()
    model.weight = nn.Parameter(values.clone())
    return model


# Groups


def test_weight_decay_spares_biases_and_norms():
    """With gradients of zero only the decay moves anything: matrices shrink, vectors stay."""
    model = classifier()
    optimizer = make_optimizer(model, TrainingSettings(lr=1e-3, weight_decay=0.5))
    before = snapshot(model)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        spared = name.endswith("bias") or "LayerNorm" in name
        wanted = before[name] * (1 if spared else 1 - 1e-3 * 0.5)
        torch.testing.assert_close(p.detach(), wanted)


@pytest.mark.parametrize(
    ("kind", "spared"),
    [
        ("xlnet", ("bias", "layer_norm.weight")),
        ("mpnet", (".bias", "LayerNorm.weight")),
        ("modernbert", ("bias", "norm.weight")),
    ],
)
def test_biases_of_any_shape_are_spared(kind, spared):
    """XLNet's r_w_bias is a matrix, heads by width; MPNet's relative_attention_bias.weight decays."""
    model = classifier(kind)
    names = {p: n for n, p in model.named_parameters()}
    groups = make_optimizer(model, TrainingSettings(weight_decay=0.5)).param_groups
    found = {names[p]: g["weight_decay"] for g in groups for p in g["params"]}
    assert found == {n: 0.0 if n.endswith(spared) else 0.5 for n in names.values()}


def test_by_default_there_are_two_groups_of_one_rate():
    groups = make_optimizer(classifier(), TrainingSettings(lr=3e-4)).param_groups
    assert [(g["lr"], g["initial_lr"], g["weight_decay"]) for g in groups] == [
        (3e-4, 3e-4, 0.01),
        (3e-4, 3e-4, 0.0),
    ]


def test_any_module_is_trained_at_one_rate():
    """Layers are asked for only where rates differ between them."""
    assert rates(nn.Linear(2, 1)) == {"weight": 1.0, "bias": 1.0}


def test_the_rate_falls_with_each_layer_down():
    """Closed form: lr · decay to the power of the blocks above; the head and the top block have lr."""
    found = rates(classifier(), layer_decay=0.5)
    assert found["head.weight"] == found["head.bias"] == 1.0
    for i, rate in enumerate([0.25, 0.5, 1.0]):
        of_block = {r for n, r in found.items() if f"layer.{i}." in n}
        assert of_block == {rate}
    assert {r for n, r in found.items() if "embeddings" in n} == {0.125}


def test_what_follows_the_top_block_has_its_rate():
    found = rates(classifier("modernbert"), layer_decay=0.5)
    assert found["backbone.final_norm.weight"] == found["backbone.layers.2.mlp.Wi.weight"] == 1.0


def test_the_head_has_its_own_rate():
    found = rates(classifier(), head_lr=7.0)
    assert {n for n, r in found.items() if r == 7} == {"head.weight", "head.bias"}
    assert set(found.values()) == {1.0, 7.0}


def test_layers_drawn_anew_have_the_heads_rate():
    found = rates(classifier(), head_lr=7.0, reinit_layers=1, layer_decay=0.5)
    assert {r for n, r in found.items() if "layer.2." in n} == {7.0}
    assert {r for n, r in found.items() if "layer.1." in n} == {0.5}
    found = rates(classifier(), reinit_layers=2, layer_decay=0.5)  # without a rate for the head
    assert {r for n, r in found.items() if "layer.1." in n} == {1.0}
    assert {r for n, r in found.items() if "layer.0." in n} == {0.25}


def test_the_last_norm_of_old_layers_is_not_new():
    found = rates(classifier("modernbert"), head_lr=7.0, reinit_layers=1)
    assert found["backbone.final_norm.weight"] == 1.0


def test_frozen_weights_are_left_out():
    model = classifier()
    freeze(model, embeddings=False, layers=1)
    assert set(rates(model)) == {n for n, p in model.named_parameters() if p.requires_grad}
    before = snapshot(model)
    optimizer = make_optimizer(model, TrainingSettings(weight_decay=0.5))
    backward(model)
    optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= set(rates(model)) and "head.weight" in moved


def test_one_update_is_that_of_one_group_for_each_rate():
    """Weights are updated one by one: however they are grouped, the bytes are the same."""
    together, apart = classifier(), classifier()
    mine = make_optimizer(together, TrainingSettings(lr=1e-3, weight_decay=0.5))
    each = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.5 * (p.ndim > 1)} for p in apart.parameters()],
        lr=1e-3,
        fused=True,
    )
    for _ in range(3):
        for model, optimizer in ((together, mine), (apart, each)):
            optimizer.zero_grad()
            backward(model)
            optimizer.step()
    assert all(
        torch.equal(a, b) for a, b in zip(together.parameters(), apart.parameters(), strict=True)
    )


# Adafactor


def adafactor_by_hand(theta, gradients, lr, decay):
    """Shazeer and Stern 2018, algorithm 4, with an absolute rate and decoupled decay, in float64."""
    theta = theta.double()
    row, column = 0, 0
    for t, gradient in enumerate(gradients, 1):
        square = gradient.double() ** 2
        beta = 1 - t**-0.8
        row = beta * row + (1 - beta) * square.sum(1, keepdim=True)
        column = beta * column + (1 - beta) * square.sum(0, keepdim=True)
        update = gradient.double() / (row * column / row.sum()).sqrt()
        update /= max(1.0, update.square().mean().sqrt().item())
        theta = theta * (1 - lr * decay) - lr * update
    return theta


@pytest.mark.parametrize("size", [1.0, 1e-5])
def test_adafactor_is_the_papers(size):
    """torch's own bound on mean squared gradients, 1e-7, would change the step for small ones."""
    generator = torch.Generator().manual_seed(0)
    theta = 0.04 * torch.randn(6, 5, generator=generator)
    # Uneven ones, so that the clipping of the update is not always in force.
    gradients = [size * f * torch.randn(6, 5, generator=generator) for f in (1, 0.3, 2, 0.1)]
    model = matrix(theta)
    settings = ADAFACTOR.model_copy(update={"weight_decay": 0.1})
    optimizer = make_optimizer(model, settings)
    for gradient in gradients:
        model.weight.grad = gradient.clone()
        optimizer.step()
    wanted = adafactor_by_hand(theta, gradients, 1e-3, 0.1)
    torch.testing.assert_close(model.weight.double() - theta, wanted - theta, rtol=1e-3, atol=1e-8)


def test_adafactors_rate_is_adamws():
    """Where squared gradients factor, both take a first step of lr in each weight, small as it is."""
    theta = 0.01 * torch.ones(3, 2)
    gradient = torch.tensor([[1.0], [-2.0], [3.0]]) @ torch.tensor([[0.1, -0.4]])
    for settings in (ADAFACTOR, ADAFACTOR.model_copy(update={"optimizer": "adamw"})):
        model = matrix(theta)
        optimizer = make_optimizer(model, settings)
        model.weight.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(
            model.weight.detach(), theta - 1e-3 * gradient.sign(), rtol=0, atol=1e-7
        )


def test_adafactor_survives_rows_without_gradients():
    """The embedding of a word that is not in the batch: nought over nought."""
    model = matrix(torch.ones(3, 2))
    optimizer = make_optimizer(model, ADAFACTOR)
    for _ in range(2):
        model.weight.grad = torch.tensor([[1.0, 2.0], [0.0, 0.0], [1e-12, 0.0]])
        optimizer.step()
    assert torch.isfinite(model.weight).all()
    assert (model.weight[1] == 1).all()


def test_adagrad_is_the_papers():
    """Duchi et al. 2011: each weight's step is lr g over the root of its summed squared gradients."""
    torch.manual_seed(0)
    theta, gradients = torch.randn(4, 3), [torch.randn(4, 3) for _ in range(5)]
    model = matrix(theta)
    optimizer = make_optimizer(model, TrainingSettings(optimizer="adagrad", lr=0.1, weight_decay=0))
    wanted, squares = theta.double(), torch.zeros(4, 3, dtype=torch.double)
    for gradient in gradients:
        model.weight.grad = gradient.clone()
        optimizer.step()
        squares += gradient.double() ** 2
        wanted = wanted - 0.1 * gradient / squares.sqrt()
    torch.testing.assert_close(model.weight.double(), wanted, rtol=1e-5, atol=1e-6)


def test_adagrads_weight_decay_is_added_to_the_gradient():
    model = matrix(torch.tensor([[2.0, -4.0]]))
    settings = TrainingSettings(optimizer="adagrad", lr=0.1, weight_decay=0.5)
    optimizer = make_optimizer(model, settings)
    model.weight.grad = torch.tensor([[-1.0, 1.0]])  # 0 with 2 * .5 added; -1 with -4 * .5
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), torch.tensor([[2.0, -3.9]]))


def test_adafactor_remembers_less():
    """Of an r × c matrix it keeps r + c numbers, AdamW 2 r c."""

    def remembered(optimizer: str) -> int:
        model = classifier()
        made = make_optimizer(model, TrainingSettings(optimizer=optimizer))
        backward(model)
        made.step()
        numbers = state_tensors(model, made)
        return sum(v.numel() for k, v in numbers.items() if not k.startswith("step."))

    shapes = [p.shape for p in classifier().parameters()]
    assert remembered("adamw") == sum(2 * s.numel() for s in shapes)
    assert remembered("adafactor") == sum(sum(s) if len(s) > 1 else s.numel() for s in shapes)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_what_is_remembered_comes_back_bit_by_bit(optimizer):
    settings = TrainingSettings(optimizer=optimizer, lr=1e-3, layer_decay=0.5)

    def updates(model: nn.Module, made: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            backward(model)
            made.step()
            made.zero_grad()

    straight, cut, fresh = classifier(), classifier(), classifier()
    made = make_optimizer(straight, settings)
    updates(straight, made, 4)

    first = make_optimizer(cut, settings)
    updates(cut, first, 2)
    kept = {k: v.clone() for k, v in state_tensors(cut, first).items()}
    second = make_optimizer(fresh, settings)
    fresh.load_state_dict(cut.state_dict())
    load_state_tensors(fresh, second, kept)
    updates(fresh, second, 2)
    assert [g["initial_lr"] for g in second.param_groups] == [
        g["initial_lr"] for g in made.param_groups
    ]
    for a, b in zip(straight.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


# The learning rate


LINEAR, COSINE = LinearSchedule(), Cosine(name="cosine")


def factors(schedule, steps=100, per_epoch=10, warmup=0.0, scores=()) -> list[float]:
    return [lr_factor(s, steps, per_epoch, warmup, schedule, scores) for s in range(steps)]


@pytest.mark.parametrize("schedule", [LINEAR, COSINE])
def test_the_rate_climbs_to_one_and_falls_to_nothing(schedule):
    found = [lr_factor(step, 100, 10, 0.1, schedule) for step in range(101)]
    assert found[0] == pytest.approx(0.1)
    assert found[9] == found[10] == 1.0
    assert found[100] == pytest.approx(0.0, abs=1e-12)
    assert all(a < b for a, b in pairwise(found[:10]))
    assert all(a > b for a, b in pairwise(found[10:]))
    assert found[55] == pytest.approx(0.5)


def test_the_two_schedules_differ_between_their_ends():
    assert lr_factor(25, 100, 10, 0, LINEAR) == 0.75
    assert lr_factor(25, 100, 10, 0, COSINE) == pytest.approx(0.5 * (1 + math.sqrt(0.5)))


def test_the_very_first_update_moves():
    """A warm-up that starts at 0 wastes an update, and with a single one learns nothing."""
    assert lr_factor(0, 1, 1, 0.1, LINEAR) == 1.0
    assert lr_factor(0, 1, 1, 0.0, COSINE) == 1.0


@pytest.mark.parametrize(
    "schedule", [ConstantSchedule(name="constant"), Step(name="step"), Plateau(name="plateau")]
)
def test_every_schedule_climbs_first(schedule):
    found = factors(schedule, warmup=0.05)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[5] == 1.0


def test_a_constant_rate_stays():
    assert factors(ConstantSchedule(name="constant")) == [1.0] * 100


def test_steps_come_after_whole_epochs():
    """By the start of training, not by the end of the warm-up, which is inside an epoch."""
    found = factors(Step(name="step", factor=0.1, every=2), warmup=0.15)
    assert found[14:20] == [1.0] * 6
    assert found[20:40] == [0.1] * 20
    assert found[99] == pytest.approx(1e-4)
    assert factors(Step(name="step", factor=0.5))[9:11] == [1.0, 0.5]


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateaus_are_torchs(patience):
    """torch cuts after more than its patience, so its number is one less."""
    generator = torch.Generator().manual_seed(patience)
    scores = torch.randint(0, 6, (60,), generator=generator).tolist()
    schedule = Plateau(name="plateau", factor=0.5, patience=patience)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    reference = ReduceLROnPlateau(
        optimizer, "max", factor=0.5, patience=patience - 1, threshold=0, eps=0
    )
    for epoch in range(1, 61):
        reference.step(scores[epoch - 1])
        found = lr_factor(epoch * 7, 60 * 7 + 1, 7, 0, schedule, scores[:epoch])
        assert found == optimizer.param_groups[0]["lr"]
    assert found < 0.5**10


def test_a_plateau_by_hand():
    """Two epochs without a better score; equal is not better; the count begins anew."""
    schedule = Plateau(name="plateau", factor=0.5, patience=2)
    scores = [0.5, 0.5, 0.4, 0.6, 0.6, 0.1, 0.2, 0.3]
    found = [lr_factor(10 * n, 100, 10, 0, schedule, scores[:n]) for n in range(9)]
    assert found == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
