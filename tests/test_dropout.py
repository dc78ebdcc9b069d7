"""Dropout on a processor: torch's in distribution and gradient, seeded, and quicker to draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, DebertaV2Config, DebertaV2Model

from foldstack.nets.attention import install_attention
from foldstack.nets.backbone import load_backbone
from foldstack.nets.dropout import Dropout, draw_kept, kept_share, seeded
from foldstack.training.stagewise import dropout as other_rates
from tiny import TINY

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


def test_in_bf16_what_is_kept_is_divided_by_the_share_that_is():
    """1 / .9 itself, rounded to bf16, would be .15 % too small for every number."""
    x = torch.linspace(1, 2, 10_000).bfloat16()
    y = Dropout(0.1)(x).float()
    ratio = y[y != 0] / x[y != 0].float()
    assert ratio.mean().item() == pytest.approx(1 / kept_share(0.1), rel=2e-4)


def test_the_draw_is_the_same_on_every_machine():
    """Little-endian words of SFC64, four numbers each."""
    kept = draw_kept(np.random.SFC64(5), torch.Size([6]), 0.5, torch.float32)
    words = np.random.SFC64(5).random_raw(2).tolist()
    numbers = [word >> 16 * i & 0xFFFF for word in words for i in range(4)][:6]
    signed = [n - (1 << 16) if n >= 1 << 15 else n for n in numbers]
    assert kept.tolist() == [float(n >= 0) for n in signed]


# In a backbone


def test_every_rate_of_a_backbone_counts():
    """Attention's too, in an architecture with the library's attention and in one with its own."""
    for model in (BertModel(BertConfig(**TINY)), DebertaV2Model(DebertaV2Config(**TINY))):
        install_attention(model.train())
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
