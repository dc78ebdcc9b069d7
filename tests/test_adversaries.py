"""Adversaries: what each perturbs, by how much, what it leaves in `.grad`; weights come back."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from transformers import LongformerConfig, LongformerModel, XLNetConfig, XLNetModel

from foldstack import techniques
from foldstack.config import validate
from foldstack.errors import InputError
from foldstack.nets.backbone import load_backbone
from foldstack.nets.classifier import Classifier
from foldstack.techniques import AWP, FGM, PGD, VAT, FreeLB, TransformerSettings
from foldstack.training.attacks import make_attack

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = "backbone.embeddings.word_embeddings.weight"
IDS = torch.tensor([[2, 6, 14, 15, 3], [2, 10, 3, 0, 0], [2, 9, 17, 3, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": (IDS > 0).long()}
TARGETS = torch.tensor([[1.0], [0.0], [0.7]])

ALL = {
    "fgm": FGM(name="fgm"),
    "pgd": PGD(name="pgd"),
    "freelb": FreeLB(name="freelb"),
    "awp": AWP(name="awp", start=0, lr=0.1),
    "vat": VAT(name="vat"),
}
every = pytest.mark.parametrize("settings", ALL.values(), ids=ALL.keys())
WEIGHTS = {name: ALL[name] for name in ("fgm", "pgd", "awp")}
of_weights = pytest.mark.parametrize("settings", WEIGHTS.values(), ids=WEIGHTS.keys())
NOISE = {name: ALL[name] for name in ("freelb", "vat")}
of_noise = pytest.mark.parametrize("settings", NOISE.values(), ids=NOISE.keys())


@pytest.fixture(scope="module")
def one_thread(cpu_settings_restored):
    torch.set_num_threads(1)


@dataclass
class Part:
    """Three rows; of each pass, `seen` has the weights, `vectors` the word vectors, `raws` outputs."""

    net: nn.Module
    targets: Tensor = TARGETS
    inputs: dict[str, Tensor] = field(default_factory=lambda: INPUTS)
    passes: int = 1  # of one loss; R-Drop has two
    factor: float = 1.0
    fails_at: int = 0
    seen: list[dict[str, Tensor]] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)
    raws: list[Tensor] = field(default_factory=list)

    def loss(self) -> Tensor:
        raws = [self.outputs() for _ in range(self.passes)]
        losses = [F.binary_cross_entropy_with_logits(r, self.targets.to(r.dtype)) for r in raws]
        return sum(losses) * self.factor

    def outputs(self) -> Tensor:
        self.seen.append({k: v.detach().clone() for k, v in self.net.named_parameters()})
        if len(self.seen) == self.fails_at:
            raise RuntimeError("out of memory")
        # Registered later than an adversary's hook, this one sees what the adversary has added.
        embeddings = getattr(self.net, "module", self.net).backbone.get_input_embeddings()
        spy = embeddings.register_forward_hook(lambda m, a, out: self.vectors.append(out.detach()))
        raw = self.net(**self.inputs)
        spy.remove()
        self.raws.append(raw.detach())
        return raw if raw.dtype == torch.float64 else raw.float()

    def divergence(self, a: Tensor, b: Tensor) -> Tensor:
        return symmetric(a, b) * self.factor


def symmetric(a: Tensor, b: Tensor) -> Tensor:
    """Symmetric Kullback-Leibler divergence of two rows of coins."""
    return ((a.sigmoid() - b.sigmoid()) * (a - b)).mean()


class Toy(nn.Module):
    """A backbone that is its word embeddings, so that outputs are linear in them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.config = SimpleNamespace(hidden_size=4, model_type="toy")
        self.words = nn.Embedding(20, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor]:
        return (self.words(input_ids),)


class Valley(nn.Module):
    """One weight matrix (3, 4) and the loss ||w||² / 2, whose gradient is w, of length 5."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
        self.seen: list[Tensor] = []

    def loss(self) -> Tensor:
        self.seen.append(self.w.detach().clone())
        return (self.w**2).sum() / 2


def toy() -> Classifier:
    torch.manual_seed(4)
    return Classifier(Toy(), 1, 0.0).double()


def classifier(backbone: Path, dropout: float) -> Classifier:
    torch.manual_seed(1)
    network = load_backbone(str(backbone), (), dropout)[0]
    return Classifier(network, 1, dropout).double().train()


@pytest.fixture(scope="module")
def steady(backbone: Path) -> Classifier:
    return classifier(backbone, 0.0)


@pytest.fixture
def bert(steady: Classifier) -> Classifier:
    """In float64, without dropout."""
    return copy.deepcopy(steady)


@pytest.fixture
def dropping(backbone: Path) -> Classifier:
    """With dropout."""
    return classifier(backbone, 0.3)


def attack(model: nn.Module, settings, part=None, backward=Tensor.backward, epoch: float = 0.0):
    """One micro-batch through the adversary; returns the part with what it saw."""
    part = part or Part(model)
    torch.manual_seed(0)
    make_attack(settings, model).backward(part, backward, epoch)
    return part


def gradients(model: nn.Module, settings, **options) -> dict[str, Tensor]:
    """What the adversary leaves in .grad, from none."""
    model.zero_grad()
    attack(model, settings, **options)
    return {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


def bits(model: nn.Module) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in model.parameters()]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor], **tolerance) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return any(not torch.allclose(a[k], b[k], rtol=1e-6, atol=0) for k in a)


# By hand: the gradient is the weight itself, so every step is along (3, 4) / 5

BY_HAND = {
    # adversary: (weights of each pass, gradient)
    "fgm": (FGM(name="fgm", epsilon=2, parameters="w"), [(3, 4), (4.2, 5.6)], (7.2, 9.6)),
    "pgd, one step": (
        PGD(name="pgd", alpha=0.3, epsilon=0.5, steps=1, parameters="w"),
        [(3, 4), (3.18, 4.24)],
        (6.18, 8.24),
    ),
    "pgd, projected": (
        PGD(name="pgd", alpha=0.3, epsilon=0.5, steps=3, parameters="w"),
        [(3, 4), (3.18, 4.24), (3.3, 4.4), (3.3, 4.4)],
        (6.3, 8.4),
    ),
    "awp": (AWP(name="awp", lr=0.1, epsilon=1, start=0), [(3, 4), (3.3, 4.4)], (3.3, 4.4)),
    "awp, clamped": (
        AWP(name="awp", lr=0.1, epsilon=0.01, start=0),
        [(3, 4), (3.03, 4.04)],
        (3.03, 4.04),
    ),
}


@pytest.mark.parametrize(("settings", "seen", "gradient"), BY_HAND.values(), ids=BY_HAND.keys())
def test_the_papers_formula_by_hand(settings, seen, gradient):
    valley = Valley()
    loss = make_attack(settings, valley).backward(valley, Tensor.backward, 0.0)
    torch.testing.assert_close(
        torch.cat(valley.seen), torch.tensor(seen, dtype=torch.float64), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(valley.w.grad, torch.tensor([gradient], dtype=torch.float64))
    assert valley.w.tolist() == [[3.0, 4.0]]
    assert loss.item() == 12.5 and not loss.requires_grad


# A slow reference: torch.autograd.grad on a copy


def slowly(model: Classifier, attacked: list[str], new_weight, steps: int, counted: list[int]):
    """Gradients at steps + 1 points, those of the points in `counted` summed."""
    model = copy.deepcopy(model)
    weights = dict(model.named_parameters())
    start = {k: weights[k].detach().clone() for k in attacked}
    total = {k: torch.zeros_like(p) for k, p in weights.items()}
    for step in range(steps + 1):
        gradient = torch.autograd.grad(Part(model).loss(), list(weights.values()))
        gradient = dict(zip(weights, gradient, strict=True))
        if step in counted:
            total = {k: total[k] + gradient[k] for k in total}
        for k in attacked:
            weights[k].data = new_weight(start[k], weights[k].data, gradient[k])
    return total


def test_fgm_is_the_slow_reference(bert):
    expected = slowly(bert, [WORDS], lambda _, w, g: w + 0.7 * g / g.norm(), 1, [0, 1])
    got = gradients(bert, FGM(name="fgm", epsilon=0.7))
    assert_same(got, expected, rtol=1e-9, atol=1e-15)


def test_pgd_is_the_slow_reference(bert):
    """The gradients of the points in between find the way and do not count."""

    def step(start: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        move = weight + 0.3 * gradient / gradient.norm() - start
        return start + (move if move.norm() <= 0.5 else 0.5 * move / move.norm())

    expected = slowly(bert, [WORDS], step, 4, [0, 4])
    got = gradients(bert, PGD(name="pgd", alpha=0.3, epsilon=0.5, steps=4))
    assert_same(got, expected, rtol=1e-9, atol=1e-15)


def test_awp_is_the_slow_reference(bert):
    def step(start: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        moved = weight + 0.1 * weight.norm() * gradient / (gradient.norm() + 1e-300)
        room = 0.05 * start.abs()
        return torch.maximum(torch.minimum(moved, start + room), start - room)

    matrices = [k for k, p in bert.named_parameters() if p.ndim > 1]
    expected = slowly(bert, matrices, step, 1, [1])
    got = gradients(bert, AWP(name="awp", lr=0.1, epsilon=0.05, start=0))
    assert_same(got, expected, rtol=1e-9, atol=1e-15)


def raw_of(model: Classifier, vectors: Tensor) -> Tensor:
    """Outputs for (b, t, h) word vectors, by the backbone's own entrance for them."""
    mask = INPUTS["attention_mask"]
    hidden = model.backbone(inputs_embeds=vectors, attention_mask=mask)[0]
    return model.head((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


def per_row(noise: Tensor) -> Tensor:
    return noise.flatten(1).norm(dim=1)[:, None, None]


def test_freelb_is_the_slow_reference(bert):
    """Algorithm 1 of the paper; the word vectors enter by `inputs_embeds` instead of by a hook."""
    model, mask = copy.deepcopy(bert), INPUTS["attention_mask"][..., None]
    names, weights = zip(*model.named_parameters(), strict=True)
    torch.manual_seed(0)
    noise = torch.zeros(3, 5, 16, dtype=torch.float64).uniform_(-1, 1) * mask
    noise *= 0.2 / (mask.double().sum(1, keepdim=True) * 16) ** 0.5
    mean = [torch.zeros_like(w) for w in weights]
    for _ in range(4):
        noise.requires_grad_()
        raw = raw_of(model, model.backbone.get_input_embeddings()(IDS) + noise)
        loss = F.binary_cross_entropy_with_logits(raw, TARGETS.double())
        *of_weights, g = torch.autograd.grad(loss, [*weights, noise])
        mean = [m + w / 4 for m, w in zip(mean, of_weights, strict=True)]
        noise = (noise + 0.3 * g / per_row(g)).detach()
        noise = noise * (0.5 / per_row(noise)).clamp(max=1)
    got = gradients(bert, FreeLB(name="freelb", steps=4, lr=0.3, init=0.2, max_norm=0.5))
    assert_same(got, dict(zip(names, mean, strict=True)), rtol=1e-9, atol=1e-15)


def test_vat_is_the_slow_reference(bert):
    model, mask = copy.deepcopy(bert), INPUTS["attention_mask"][..., None]
    names, weights = zip(*model.named_parameters(), strict=True)
    torch.manual_seed(0)
    d = torch.zeros(3, 5, 16, dtype=torch.float64).normal_() * mask
    d = (0.01 * d / per_row(d)).requires_grad_()
    words = model.backbone.get_input_embeddings()
    clean = raw_of(model, words(IDS)).detach()
    almost = clean + 2**-23 * torch.randn_like(clean)  # see the test of half precision
    (g,) = torch.autograd.grad(symmetric(almost, raw_of(model, words(IDS) + d)), d)
    loss = F.binary_cross_entropy_with_logits(raw_of(model, words(IDS)), TARGETS.double())
    loss = loss + 3 * symmetric(clean, raw_of(model, words(IDS) + 0.5 * g / per_row(g)))
    expected = dict(zip(names, torch.autograd.grad(loss, weights), strict=True))
    got = gradients(bert, VAT(name="vat", epsilon=0.5, xi=0.01, weight=3))
    assert_same(got, expected, rtol=1e-9, atol=1e-15)


# Noise on word vectors


def noises(part: Part) -> list[Tensor]:
    """(3, 5, h) noise on the word vectors in each pass."""
    embeddings = part.net.backbone.get_input_embeddings()
    return [v - embeddings(IDS).detach() for v in part.vectors]


def test_freelb_starts_small_climbs_by_lr_and_stays_within_max_norm():
    model = toy()
    settings = FreeLB(name="freelb", steps=4, lr=0.3, init=0.02, max_norm=0.5)
    first, second, _, last = noises(attack(model, settings, Part(model)))
    length = INPUTS["attention_mask"].sum(1)[:, None, None]
    bound = 0.02 / (length.double() * 4) ** 0.5
    assert (first.abs() <= bound).all() and (first.abs() > 0.9 * bound).any()
    torch.testing.assert_close(per_row(second - first), torch.full((3, 1, 1), 0.3).double())
    torch.testing.assert_close(per_row(last), torch.full((3, 1, 1), 0.5).double())


@of_noise
def test_noise_is_on_real_tokens_only(settings):
    """Also where the network listens to padding: here a row is the plain mean over all places."""
    model = toy()
    model.forward = lambda input_ids, attention_mask: model.head(
        model.backbone(input_ids, attention_mask)[0].mean(1)
    )
    seen = noises(attack(model, settings, Part(model)))
    assert max(n.abs().max() for n in seen) > 0.01
    assert all((n[IDS == 0] == 0).all() for n in seen)


def test_vats_noise_is_the_direction_in_which_outputs_change():
    """Outputs are the head's product with the mean word vector, so the worst noise is its multiple."""
    model = toy()
    *_, worst = noises(attack(model, VAT(name="vat", epsilon=0.5), Part(model)))
    mask = INPUTS["attention_mask"][..., None]
    expected = model.head.weight.detach() * mask / (mask.sum(1, keepdim=True) ** 0.5)
    expected = 0.5 * expected / model.head.weight.norm().detach()
    sign = (worst * expected).sum((1, 2), keepdim=True).sign()
    torch.testing.assert_close(worst, sign * expected)


def test_vat_tries_noise_of_length_xi_first():
    model = toy()
    _, clean, tried, _ = noises(attack(model, VAT(name="vat", xi=0.25), Part(model)))
    assert clean.abs().max() == 0
    torch.testing.assert_close(per_row(tried), torch.full((3, 1, 1), 0.25).double())


def test_vat_looks_at_no_label(bert):
    """What it adds to the plain gradient is the same whatever the targets are."""

    def added(targets: Tensor) -> dict[str, Tensor]:
        plain = gradients(bert, None, part=Part(bert, targets))
        whole = gradients(bert, ALL["vat"], part=Part(bert, targets))
        return {k: whole[k] - plain[k] for k in plain}

    assert_same(added(TARGETS), added(1 - TARGETS), rtol=1e-9, atol=1e-14)


def test_vat_compares_passes_of_the_same_dropout(dropping):
    """Without noise worth the name nothing is added; other masks would add their own divergence."""
    plain = gradients(dropping, None)
    assert_same(gradients(dropping, VAT(name="vat", epsilon=1e-12)), plain, rtol=1e-6, atol=1e-9)
    assert differ(gradients(dropping, ALL["vat"]), plain)


def test_freelb_climbs_under_the_same_dropout(dropping):
    """Next to no noise and no step: the mean gradient of three passes is that of one mask."""
    still = {"lr": 1e-12, "init": 0.0}
    one = gradients(dropping, FreeLB(name="freelb", steps=1, **still))
    three = gradients(dropping, FreeLB(name="freelb", steps=3, **still))
    assert_same(three, one, rtol=1e-6, atol=1e-9)


def test_the_noise_is_the_same_in_both_passes_of_rdrop():
    model = toy()
    seen = noises(attack(model, FreeLB(name="freelb", steps=2), Part(model, passes=2)))
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[0], seen[2])


def tiny_longformer() -> nn.Module:
    return LongformerModel(
        LongformerConfig(
            vocab_size=20,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            attention_window=4,
            max_position_embeddings=32,
        ),
        add_pooling_layer=False,
    )


def tiny_xlnet() -> nn.Module:
    return XLNetModel(XLNetConfig(vocab_size=20, d_model=16, n_layer=1, n_head=2, d_inner=16))


@of_noise
@pytest.mark.parametrize("make", [tiny_longformer, tiny_xlnet])
def test_noise_finds_its_row_and_token_in_every_layout(settings, make):
    """Longformer fills 5 tokens up to 8, XLNet embeds tokens by rows: noise would go astray."""
    torch.manual_seed(0)
    model = Classifier(make(), 1, 0.0).eval()
    part = attack(model, settings, Part(model))
    embeddings = model.backbone.get_input_embeddings()
    for vectors in part.vectors[-2:]:
        if make is tiny_xlnet:
            vectors = vectors.transpose(0, 1)
        noise = vectors[:, :5] - embeddings(IDS).detach()
        length = noise.abs().sum(2)
        assert (length[IDS == 0] == 0).all() and (length[IDS > 0] > 0).all()
    if make is tiny_longformer:
        padding = vectors[:, 5:]
        assert torch.equal(padding, embeddings.weight[1].expand_as(padding))


# What all have in common


def test_without_an_adversary_it_is_plain_training(bert):
    loss = Part(bert).loss()
    expected = dict(
        zip(
            dict(bert.named_parameters()), torch.autograd.grad(loss, bert.parameters()), strict=True
        )
    )
    assert_same(gradients(bert, None), expected)


@every
def test_the_gradient_changes_update_after_update(bert, settings):
    """Trap 1: a guard on `.grad` after zero_grad(), which sets it to None, made attacks do nothing."""
    adversary = make_attack(settings, bert)
    optimizer = torch.optim.SGD(bert.parameters(), lr=0.1)
    for _ in range(2):
        plain = gradients(bert, None)
        optimizer.zero_grad(set_to_none=True)
        adversary.backward(Part(bert), Tensor.backward, 1.0)
        assert differ({k: p.grad for k, p in bert.named_parameters()}, plain)
        optimizer.step()


@every
def test_the_loss_returned_is_of_the_clean_weights(bert, settings):
    loss = make_attack(settings, bert).backward(Part(bert), Tensor.backward, 0.0)
    clean = Part(bert).loss().item()
    # FreeLB has no clean pass: its first has noise of `init`.
    assert loss.item() == pytest.approx(clean, rel=1e-2 if settings.name == "freelb" else 1e-12)
    assert not loss.requires_grad


COSTS = {"fgm": 2, "pgd": 4, "freelb": 3, "awp": 2, "vat": 4}


@every
def test_passes_are_as_many_as_the_docstring_says(bert, settings):
    assert len(attack(bert, settings).seen) == COSTS[settings.name]


OPTIONS = [
    (FGM(name="fgm"), {"epsilon": 0.5, "parameters": "head"}),
    (PGD(name="pgd"), {"epsilon": 0.5, "alpha": 0.1, "steps": 2, "parameters": "head"}),
    (
        FreeLB(name="freelb", max_norm=0.15),
        {"steps": 2, "lr": 0.05, "init": 0.1, "max_norm": 0.1},
    ),
    (
        AWP(name="awp", start=1, epsilon=0.1),
        {"lr": 0.01, "epsilon": 0.2, "start": 2.0, "parameters": "head"},
    ),
    (VAT(name="vat"), {"epsilon": 0.5, "xi": 1.0, "weight": 2.0}),
]


@pytest.mark.parametrize(
    ("settings", "option", "value"),
    [(s, option, value) for s, options in OPTIONS for option, value in options.items()],
    ids=[f"{s.name}-{option}" for s, options in OPTIONS for option in options],
)
def test_no_setting_is_without_effect(bert, settings, option, value):
    other = settings.model_copy(update={option: value})
    assert differ(gradients(bert, settings, epoch=1.0), gradients(bert, other, epoch=1.0))


def test_every_setting_is_among_those_tried():
    for settings, options in OPTIONS:
        assert {"name", *options} == set(type(settings).model_fields)


@every
@pytest.mark.parametrize("fails_at", [0, 1, 2, 3])
def test_weights_come_back_bit_by_bit(bert, settings, fails_at):
    """Also -0.0 and a denormal, which subtracting the step would lose, and after an exception."""
    with torch.no_grad():
        for p in bert.parameters():
            p.view(-1)[0] = -0.0
            p.view(-1)[-1] = 1e-310
    before, earlier = bits(bert), torch.ones_like(bert.head.weight)
    bert.head.weight.grad = earlier.clone()
    part = Part(bert, fails_at=fails_at)
    torch.set_flush_denormal(True)
    fails = 0 < fails_at <= COSTS[settings.name]
    with pytest.raises(RuntimeError, match="out of memory") if fails else nullcontext():
        attack(bert, settings, part)
    torch.set_flush_denormal(False)
    assert bits(bert) == before
    assert not bert.backbone.get_input_embeddings()._forward_hooks
    if fails_at == 1:
        assert torch.equal(bert.head.weight.grad, earlier)


@of_weights
def test_what_is_attacked_moves_and_nothing_else(bert, settings):
    first, second, *_ = attack(bert, settings).seen
    moved = {k for k in first if not torch.equal(first[k], second[k])}
    if settings.name == "awp":
        assert moved == {k for k, p in bert.named_parameters() if p.ndim > 1}
        for k in moved:
            assert ((second[k] - first[k]).abs() <= 0.01 * first[k].abs() + 1e-15).all()
    else:
        length = {"fgm": 1.0, "pgd": 0.3}[settings.name]
        assert moved == {WORDS}
        assert (second[WORDS] - first[WORDS]).norm().item() == pytest.approx(length, rel=1e-9)


@of_weights
def test_the_direction_is_the_current_micro_batchs(bert, settings):
    """Gradients of earlier micro-batches, here enormous, neither turn the attack nor are lost."""
    model = bert
    alone = attack(model, settings)
    own = {k: p.grad for k, p in model.named_parameters()}
    earlier = {k: torch.full_like(p, 1000.0) for k, p in model.named_parameters()}
    for k, p in model.named_parameters():
        p.grad = earlier[k].clone()
    after = attack(model, settings)
    for one, other in zip(alone.seen, after.seen, strict=True):
        assert_same(other, one, rtol=0, atol=0)
    both = {k: p.grad for k, p in model.named_parameters()}
    assert_same(both, {k: earlier[k] + own[k] for k in own}, rtol=1e-15, atol=1e-12)


@of_weights
def test_earlier_gradients_come_through_exactly(settings):
    """Added once, to the last bit, with no trace of the gradients that do not count."""
    valley, other = Valley(), Valley()
    settings = settings.model_copy(update={"parameters": "w"})
    make_attack(settings, other).backward(other, Tensor.backward, 0.0)
    earlier = torch.tensor([[0.1, -1e9]], dtype=torch.float64)
    valley.w.grad = earlier.clone()
    make_attack(settings, valley).backward(valley, Tensor.backward, 0.0)
    assert torch.equal(valley.w.grad, earlier + other.w.grad)


@of_noise
def test_earlier_gradients_come_through_under_noise(bert, settings):
    own = gradients(bert, settings)
    for p in bert.parameters():
        p.grad = torch.full_like(p, 3.0)
    attack(bert, settings)
    both = {k: p.grad for k, p in bert.named_parameters()}
    assert_same(both, {k: 3 + g for k, g in own.items()}, rtol=1e-13, atol=1e-13)


@every
def test_a_scaled_loss_scales_the_gradient_alone(bert, settings):
    """As under fp16: the attack itself stays the same."""
    plain = gradients(bert, settings)
    scaled = gradients(bert, settings, backward=lambda loss: (loss * 1024).backward())
    assert_same(scaled, {k: 1024 * g for k, g in plain.items()}, rtol=1e-9, atol=1e-12)


@every
@pytest.mark.parametrize("factor", [0.0, float("inf"), float("nan")])
def test_a_gradient_of_zero_or_not_finite_perturbs_nothing(bert, settings, factor):
    part = attack(bert, settings, Part(bert, factor=factor))
    for seen in part.seen:
        assert_same(seen, part.seen[0], rtol=0, atol=0)
    if settings.name == "freelb":
        assert torch.equal(part.vectors[0], part.vectors[-1])
    if settings.name == "vat":
        assert torch.equal(part.vectors[0], part.vectors[-1])
    if factor == 0:
        assert all((p.grad == 0).all() for p in bert.parameters() if p.grad is not None)


@of_weights
def test_a_gradient_that_overflows_perturbs_nothing(settings):
    """As under fp16 while the scale is still sought: infinite, without any NaN."""
    valley = Valley()
    adversary = make_attack(settings.model_copy(update={"parameters": "w"}), valley)
    adversary.backward(valley, lambda loss: (loss * 1e308).backward(), 0.0)
    assert valley.w.grad.isinf().all()
    assert all(torch.equal(seen, valley.w) for seen in valley.seen)


@every
def test_the_seed_decides_and_the_generator_goes_on(dropping, settings):
    """Masks repeated within a micro-batch must not be repeated in the next one."""
    first = gradients(dropping, settings)
    assert_same(gradients(dropping, settings), first, rtol=0, atol=0)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    if settings.name == "freelb":
        torch.empty(3, 5, 16, dtype=torch.float64).uniform_(-1, 1)
    Part(dropping).loss()
    if settings.name == "vat":
        torch.empty(3, 5, 16, dtype=torch.float64).normal_()
    fresh = {"fgm": 1, "pgd": 3, "awp": 1, "freelb": 0, "vat": 1}[settings.name]
    for _ in range(fresh):
        Part(dropping).loss()
    assert torch.equal(torch.get_rng_state(), after)


def test_awp_waits_for_its_epoch(bert):
    settings, plain = AWP(name="awp", start=1.5), gradients(bert, None)
    assert_same(gradients(bert, settings, epoch=1.49), plain, rtol=0, atol=0)
    assert differ(gradients(bert, settings, epoch=1.5), plain)


# Frozen, tied, unused, half precision


def test_frozen_parameters_are_left_alone(bert):
    for p in bert.backbone.encoder.layer[0].parameters():
        p.requires_grad = False
    names = [f"backbone.encoder.layer.{i}.output.dense.weight" for i in (0, 1)]
    settings = FGM(name="fgm", parameters=r"layer\.\d\.output\.dense\.weight")
    first, second = attack(bert, settings).seen
    assert torch.equal(first[names[0]], second[names[0]])
    assert (second[names[1]] - first[names[1]]).norm().item() == pytest.approx(1.0)
    assert bert.get_parameter(names[0]).grad is None


@of_noise
def test_noise_passes_frozen_word_embeddings(bert, settings):
    """Noise is added to what they put out, so frozen ones are no obstacle, and get no gradient."""
    for p in bert.backbone.embeddings.parameters():
        p.requires_grad = False
    plain = gradients(bert, None)
    assert differ(gradients(bert, settings), plain)
    assert bert.backbone.embeddings.word_embeddings.weight.grad is None


def test_a_tied_weight_is_moved_once_under_either_name():
    model = Valley()
    model.again = nn.Linear(1, 2)
    model.again.weight = model.w
    make_attack(FGM(name="fgm", parameters=r"w|weight"), model).backward(model, Tensor.backward, 0)
    assert (model.seen[1] - model.seen[0]).norm().item() == pytest.approx(1.0)
    make_attack(FGM(name="fgm", parameters=r"again\.weight"), model)


def test_a_parameter_outside_the_loss_is_passed_over():
    model = Valley()
    model.spare = nn.Parameter(torch.ones(2, 2))
    for settings in WEIGHTS.values():
        settings = settings.model_copy(update={"parameters": ".*"})
        model.spare.grad = None
        make_attack(settings, model).backward(model, Tensor.backward, 0)
        assert model.spare.grad is None and (model.spare == 1).all()
        model.spare.grad = torch.ones(2, 2)
        make_attack(settings, model).backward(model, Tensor.backward, 0)
        assert (model.spare.grad == 1).all()


@every
def test_bf16_autocast(bert, settings):
    """The gradient is that of fp32 but for rounding, attack included."""
    bert.float()
    exact, forward = gradients(bert, settings), bert.forward

    def cast(**inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(**inputs)

    bert.forward = cast
    plain, got = gradients(bert, None), gradients(bert, settings)
    assert differ(got, plain)
    for k, g in got.items():
        if exact[k].norm() > 1e-3:
            assert F.cosine_similarity(g.flatten(), exact[k].flatten(), dim=0) > 0.9, k


@of_weights
def test_an_autocast_around_the_step_sees_the_moved_weights(settings):
    """It keeps half-precision copies of weights, with which the attack would be no attack."""
    settings = settings.model_copy(update={"parameters": "head", "epsilon": 0.5})
    with torch.autocast("cpu", torch.bfloat16):
        first, second, *_ = attack(toy().float(), settings).raws
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("xi", [1e-3, 1e-9])
def test_vat_perturbs_every_row_in_half_precision(dtype, xi):
    """Rounding left the outputs under noise of length xi what they were, and most rows without any;
    and the gradient of what is so small vanishes in fp16."""
    model = toy().float()
    with torch.autocast("cpu", dtype):
        *_, worst = noises(attack(model, VAT(name="vat", xi=xi), Part(model, factor=0.01)))
    torch.testing.assert_close(per_row(worst), torch.ones(3, 1, 1))


# Several processes


def _process(rank: int, folder: str, model: Classifier) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    rows = [slice(0, 1), slice(1, 3)][rank]
    inputs = {k: v[rows] for k, v in INPUTS.items()}
    model = copy.deepcopy(model)  # the one that came is in memory shared with the other process
    net = DistributedDataParallel(model)
    out = {}
    for name, settings in DISTRIBUTED.items():
        model.zero_grad()
        # DDP takes the mean over processes, so each one's share counts twice
        part = Part(net, TARGETS[rows], inputs, factor=2 * len(TARGETS[rows]) / 3)
        torch.manual_seed(rank)
        adversary = make_attack(settings, model)
        adversary.backward(part, Tensor.backward, 0.0)
        adversary.backward(part, Tensor.backward, 0.0)
        out[name] = {k: p.grad for k, p in model.named_parameters()}
    torch.save(out, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


DISTRIBUTED = ALL | {"freelb": FreeLB(name="freelb", init=0)}


@every
def test_a_ddp_wrapper_is_no_obstacle(bert, settings, tmp_path):
    """Passes whose gradients are not of weights, and hooks inside the wrapped network."""
    expected = gradients(bert, settings)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        part = Part(DistributedDataParallel(bert))
        for _ in range(2):
            assert_same(gradients(bert, settings, part=part), expected, rtol=1e-9, atol=1e-14)
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(bert, tmp_path):
    """Twice, as under accumulation: the second direction is of the second gradients alone."""
    mp.spawn(_process, (str(tmp_path), bert), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, settings in DISTRIBUTED.items():
        assert_same(one[name], other[name], rtol=0, atol=0)
        bert.zero_grad()
        for _ in range(2):
            attack(bert, settings)
        expected = {k: p.grad for k, p in bert.named_parameters()}
        if name == "vat":  # its noise is random, the processes' own
            assert 0 < (one[name][WORDS] - expected[WORDS]).norm() < expected[WORDS].norm()
        else:
            assert_same(one[name], expected, rtol=1e-8, atol=1e-13)


# Refusals


class Unembedded(Toy):
    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError


INSTEAD = {
    "fgm": "name other weights with training.adversary.parameters",
    "pgd": "name other weights with training.adversary.parameters",
    "freelb": "take fgm, pgd or awp and name other weights with training.adversary.parameters",
    "vat": "take fgm, pgd or awp and name other weights with training.adversary.parameters",
}


@pytest.mark.parametrize("name", INSTEAD)
def test_a_backbone_without_word_embeddings_is_refused(name, monkeypatch):
    model = Classifier(Unembedded(), 1, 0.0)
    message = (
        f"adversary {name} perturbs the word embeddings, but Unembedded has none: {INSTEAD[name]}"
    )
    with pytest.raises(InputError) as refusal:
        make_attack(ALL[name], model)
    assert str(refusal.value) == message
    monkeypatch.setattr(Unembedded, "get_input_embeddings", lambda self: None)
    with pytest.raises(InputError) as refusal:
        make_attack(ALL[name], model)
    assert str(refusal.value) == message


def test_a_pattern_that_is_found_nowhere_is_refused():
    with pytest.raises(InputError) as refusal:
        make_attack(FGM(name="fgm", parameters="hed.weight"), toy())
    assert str(refusal.value) == (
        "adversary fgm: training.adversary.parameters 'hed.weight' matches none of the names of "
        "the model's weights; the nearest is 'head.weight'"
    )
    with pytest.raises(InputError) as refusal:
        make_attack(AWP(name="awp", parameters="bias"), toy())
    assert str(refusal.value) == (
        "adversary awp: training.adversary.parameters 'bias' matches none of the names of "
        "the model's matrices; the nearest is 'backbone.words.weight'"
    )


def test_attacked_parameters_that_are_all_frozen_are_refused():
    model = toy()
    model.backbone.words.weight.requires_grad = False
    with pytest.raises(InputError) as refusal:
        make_attack(ALL["fgm"], model)
    assert str(refusal.value) == (
        "adversary fgm perturbs 'backbone.words.weight', which is frozen: name trained weights with "
        "training.adversary.parameters, or freeze less (freeze_embeddings, freeze_layers)"
    )


def test_a_pattern_that_is_no_regular_expression_is_refused():
    data = {
        "learner": "transformer",
        "backbone": "b",
        "training": {"adversary": {"name": "awp", "parameters": "("}},
    }
    with pytest.raises(InputError) as refusal:
        validate(TransformerSettings, data, "preset")
    assert str(refusal.value) == (
        "preset: setting 'training.adversary.parameters' is '(': it is no regular expression: "
        "missing ), unterminated subpattern at position 0"
    )


def test_every_technique_has_an_adversary():
    assert set(techniques.Adversary.registered) == set(ALL)
