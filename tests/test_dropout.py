"""Dropout on a processor: torch's in distribution and gradient, seeded, and quicker to draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model

from foldstack.nets import dropout
from foldstack.nets.backbone import load_backbone
from foldstack.nets.dropout import Dropout, attend, draw_kept, kept_share, seeded, use_cheap_dropout
from foldstack.training.stages import dropout as other_rates

TINY = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "vocab_size": 40,
}


# Masks


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_so_many_are_dropped_and_the_expectation_stays(p):
    torch.manual_seed(0)
    x = torch.ones(400, 1000)
    y = Dropout(p)(x)
    kept = y != 0
    deviation = math.sqrt(p * (1 - p) / x.numel())
    assert abs(kept.double().mean() - (1 - p)) < 4 * deviation
    assert y[kept].unique().tolist() == pytest.approx([1 / (1 - p)], abs=2e-4 / (1 - p))
    assert kept_share(p) == pytest.approx(1 - p, abs=2**-17)
    assert kept_share(p) * y[kept][0].item() == pytest.approx(1, abs=1e-6)


def test_each_number_is_dropped_on_its_own():
    """Rows, columns and neighbours agree as often as chance has it."""
    torch.manual_seed(0)
    kept = Dropout(0.3)(torch.ones(2000, 500)) != 0
    together = 0.7**2 + 0.3**2
    for distance in (1, 2, 3, 4, 500):
        flat = kept.flatten()
        agree = (flat[distance:] == flat[:-distance]).double().mean().item()
        assert agree == pytest.approx(together, abs=0.002)
    assert kept.double().mean(dim=0).std().item() == pytest.approx(math.sqrt(0.21 / 2000), rel=0.15)


def test_the_rarest_and_the_commonest():
    torch.manual_seed(0)
    x = torch.ones(1000)
    assert Dropout(1e-9)(x).tolist() == x.tolist()
    assert Dropout(1.0)(x).tolist() == [0] * 1000  # torch's
    few = draw_kept(seeded(), torch.Size([1 << 20]), 1 - 1e-9, torch.float32)
    assert 0 < few.sum() < 60  # one in 2^16


def test_what_seeds_torch_seeds_it():
    def draw(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [Dropout(0.5)(torch.ones(7, 5)) for _ in range(2)]

    (a, b), (again, _), (other, _) = draw(1), draw(1), draw(2)
    assert torch.equal(a, again)
    assert not torch.equal(a, b) and not torch.equal(a, other)


def test_the_gradient_passes_where_the_value_did():
    torch.manual_seed(0)
    x = torch.randn(50, 40, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    factor = (y != 0) / kept_share(0.4)
    torch.testing.assert_close(x.grad, factor)
    torch.testing.assert_close(y, x * factor)


def test_without_training_or_a_rate_nothing_is_drawn():
    x = torch.ones(3)
    for module in (Dropout(0.5).eval(), Dropout(0.0)):
        assert module(x) is x or torch.equal(module(x), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_type_stays(dtype):
    assert Dropout(0.1)(torch.ones(5, dtype=dtype)).dtype == dtype


# Attention


def tensors(b=3, h=2, t=5, d=4) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(b, h, t, d, requires_grad=True) for _ in range(3)]


def padding(b=3, t=5) -> Tensor:
    """(b, 1, t, t): the last two keys of the second row are padding."""
    mask = torch.ones(b, 1, t, t, dtype=torch.bool)
    mask[1, :, :, -2:] = False
    return mask


class Module:
    """What transformers hands to an attention beside the tensors: the layer that has it."""

    is_causal = False


@pytest.mark.parametrize("at_once", [1 << 20, 60, 1])
@pytest.mark.parametrize("mask", [None, padding()])
def test_attention_is_the_formula_with_its_gradients(monkeypatch, at_once, mask):
    """In one part, by rows, and by heads: softmax, the same masks, the products, written out."""
    monkeypatch.setattr(dropout, "AT_ONCE", at_once)
    drawn = []

    def recorded(*args):
        drawn.append(draw_kept(*args).clone())
        return drawn[-1].clone()

    monkeypatch.setattr(dropout, "draw_kept", recorded)
    q, k, v = tensors()
    out, _ = attend(Module(), q, k, v, mask, dropout=0.3, scaling=0.7)
    upstream = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), upstream)

    kept = torch.cat([part.flatten(0, 1) for part in drawn]).view(3, 2, 5, 5)
    scores = 0.7 * q @ k.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) * kept / kept_share(0.3)) @ v
    expected = expected.transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(found, torch.autograd.grad(expected, (q, k, v), upstream), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert len(drawn) == {1 << 20: 1, 60: 3, 1: 6}[at_once]


def test_its_gradient_is_that_of_finite_differences():
    """The masks follow from torch's seed, so that a shifted input meets the same ones."""
    q, k, v = tensors()

    def loss(*given: Tensor) -> Tensor:
        torch.manual_seed(7)
        return attend(Module(), *given, None, dropout=0.3)[0].double().sin().sum()

    gradients = torch.autograd.grad(loss(q, k, v), (q, k, v))
    with torch.no_grad():
        for i, gradient in enumerate(gradients):
            step = torch.randn_like(q)
            sides = []
            for sign in (1, -1):
                given = [q, k, v]
                given[i] = given[i] + sign * 1e-3 * step
                sides.append(loss(*given).item())
            slope = (sides[0] - sides[1]) / 2e-3
            assert slope == pytest.approx((gradient * step).sum().item(), rel=2e-3, abs=2e-3)


def test_its_mean_over_masks_is_attention_without_dropout():
    given = [x.detach()[:1] for x in tensors()]
    many, _ = attend(Module(), *(x.repeat(5000, 1, 1, 1) for x in given), None, dropout=0.2)
    plain = F.scaled_dot_product_attention(*given).transpose(1, 2)
    assert (many.mean(dim=0) - plain).abs().max() < 0.05


@pytest.mark.parametrize(
    "given",
    [
        {"dropout": 0.0},
        {"dropout": 0.3, "is_causal": True},
        {"dropout": 0.3, "position_bias": torch.zeros(3, 2, 5, 5)},
    ],
)
def test_torchs_own_does_what_this_one_is_not_for(monkeypatch, given):
    monkeypatch.setattr(dropout, "draw_kept", None)
    out, _ = attend(Module(), *tensors(), None, **given)
    assert out.shape == (3, 5, 2, 4)


def test_a_padding_token_that_sees_nothing_spoils_nothing():
    mask = padding()
    mask[1, :, -1] = False
    q, k, v = tensors()
    out, _ = attend(Module(), q, k, v, mask, dropout=0.3)
    assert out.isfinite().all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


def test_in_bf16_it_is_that_of_float32_roughly():
    q, k, v = tensors()

    def run(dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(3)
        given = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        out, _ = attend(Module(), *given, padding(), dropout=0.3)
        assert out.dtype == dtype
        return [x.float() for x in (out, *torch.autograd.grad(out.sum(), given))]

    for half, full in zip(run(torch.bfloat16), run(torch.float32), strict=True):
        torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)


# In a backbone


def test_a_loaded_backbone_has_it_everywhere(backbone):
    model, _ = load_backbone(str(backbone))
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.Dropout)}
    assert kinds == {Dropout}
    assert model.config._attn_implementation == dropout.ATTENTION


def test_without_dropout_a_step_is_the_librarys(backbone):
    torch.manual_seed(0)
    theirs = BertModel(BertConfig(**TINY)).eval()
    ours = BertModel(BertConfig(**TINY)).eval()
    ours.load_state_dict(theirs.state_dict())
    use_cheap_dropout(ours)
    ids, mask = torch.randint(40, (3, 6)), torch.ones(3, 6, dtype=torch.long)
    mask[1, 4:] = 0
    a, b = (m(input_ids=ids, attention_mask=mask)[0] for m in (theirs, ours))
    assert torch.equal(a, b)


def test_every_rate_of_a_backbone_counts():
    """Attention's too, in an architecture with the library's attention and in one with its own."""
    for model in (BertModel(BertConfig(**TINY)), DebertaV2Model(DebertaV2Config(**TINY))):
        use_cheap_dropout(model.train())
        rates = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        ids = torch.arange(12).view(2, 6)

        def outputs(model=model, ids=ids) -> list[Tensor]:
            out = []
            for seed in (0, 1):
                torch.manual_seed(seed)
                out.append(model(input_ids=ids, attention_mask=torch.ones_like(ids))[0])
            return out

        for one in rates:
            for other in rates:
                other.p = 0.5 if other is one else 0.0
            a, b = outputs()
            assert not torch.equal(a, b)
        one.p = 0.0
        a, b = outputs()
        assert torch.equal(a, b)


def test_a_stage_may_have_other_rates(backbone):
    model, _ = load_backbone(str(backbone), dropout=0.25)
    classifier = nn.Module()
    classifier.backbone, classifier.dropout = model, nn.Dropout(0.1)
    modules = [m for m in model.modules() if isinstance(m, Dropout)]
    assert {m.p for m in modules} == {0.25}
    with other_rates(classifier, None, 0.0):
        assert {m.p for m in modules} == {0.0}
    assert {m.p for m in modules} == {0.25}


def test_the_draw_is_the_same_on_every_machine():
    """Little-endian words of SFC64, four numbers each."""
    kept = draw_kept(np.random.SFC64(5), torch.Size([6]), 0.5, torch.float32)
    words = np.random.SFC64(5).random_raw(2).tolist()
    numbers = [word >> 16 * i & 0xFFFF for word in words for i in range(4)][:6]
    signed = [n - (1 << 16) if n >= 1 << 15 else n for n in numbers]
    assert kept.tolist() == [float(n >= 0) for n in signed]
