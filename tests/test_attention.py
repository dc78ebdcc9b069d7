"""Attention on a processor: the formula, its gradients, and who computes it where."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from foldstack.nets import attention
from foldstack.nets.attention import ATTENTION, attend, install_attention
from foldstack.nets.backbone import load_backbone
from foldstack.nets.dropout import Dropout, draw_kept, kept_share
from tiny import TINY


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


@pytest.mark.parametrize("at_once", [1 << 22, 240, 1])
@pytest.mark.parametrize("mask", [None, padding(), padding()[:, :, :1].expand(-1, -1, 5, -1)])
@pytest.mark.parametrize("p", [0.3, 0.0])
@pytest.mark.parametrize("short", [64, 1])
def test_attention_is_the_formula_with_its_gradients(monkeypatch, at_once, mask, p, short):
    """In one part, by rows, and by heads: softmax, the same masks, the products, written out."""
    monkeypatch.setattr(attention, "SHORT", short)
    monkeypatch.setattr(attention, "AT_ONCE", at_once)
    drawn = []

    def recorded(*args):
        drawn.append(draw_kept(*args).clone())
        return drawn[-1].clone()

    monkeypatch.setattr(attention, "draw_kept", recorded)
    q, k, v = tensors()
    out, _ = attend(Module(), q, k, v, mask, dropout=p, scaling=0.7)
    upstream = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), upstream)

    kept = torch.ones(3, 2, 5, 5)
    if p:
        kept = torch.cat([part.flatten(0, 1) for part in drawn]).view(3, 2, 5, 5)
    scores = 0.7 * q @ k.transpose(2, 3)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) * kept / kept_share(p)) @ v
    expected = expected.transpose(1, 2)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    for a, b in zip(found, torch.autograd.grad(expected, (q, k, v), upstream), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert len(drawn) == ({1 << 22: 1, 240: 3, 1: 6}[at_once] if p else 0)


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
        {"dropout": 0.3, "is_causal": True},
        {"dropout": 0.3, "position_bias": torch.zeros(3, 2, 5, 5)},
    ],
)
def test_torchs_own_does_what_this_one_is_not_for(monkeypatch, given):
    monkeypatch.setattr(attention, "draw_kept", None)
    out, _ = attend(Module(), *tensors(), None, **given)
    assert out.shape == (3, 5, 2, 4)


def test_long_texts_without_dropout_are_torchs(monkeypatch):
    """Its kernel keeps no weights, which grow with the square of the length."""
    given, mask = tensors(), padding()
    expected, _ = attend(Module(), *given, mask)
    monkeypatch.setattr(attention, "LONG", 4)
    monkeypatch.setattr(attention, "weighted_sums", None)
    found, _ = attend(Module(), *given, mask)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError):  # with dropout they stay ours
        attend(Module(), *given, mask, dropout=0.1)


def test_without_gradients_no_weights_are_kept(monkeypatch):
    kept = []

    def watched(*args: object) -> list[Tensor]:
        kept.append(len(found := real(*args)))
        return found

    real = attention.weighted_sums
    monkeypatch.setattr(attention, "weighted_sums", watched)
    given = tensors()
    attend(Module(), *given, None)
    with torch.inference_mode():
        attend(Module(), *(x * 1 for x in given), None)
    assert kept == [1, 0]


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_that_attends_to_nothing_is_no_nan(dtype):
    """Padding beyond the window of every token; its state is never read, but 0 times NaN is NaN."""
    q, k, v = (torch.ones(1, 2, 3, 4, dtype=dtype) for _ in range(3))
    mask = torch.tensor([[[[True, True, False], [True, True, False], [False, False, False]]]])
    out, _ = attend(Module(), q, k, v, mask)
    torch.testing.assert_close(out, torch.ones(1, 3, 2, 4, dtype=dtype))


# In a backbone


def test_a_loaded_backbone_has_it_everywhere(backbone):
    model, _ = load_backbone(str(backbone))
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.Dropout)}
    assert kinds == {Dropout}
    assert model.config._attn_implementation == ATTENTION


def test_without_dropout_a_step_is_the_librarys(backbone):
    torch.manual_seed(0)
    theirs = BertModel(BertConfig(**TINY)).eval()
    ours = BertModel(BertConfig(**TINY)).eval()
    ours.load_state_dict(theirs.state_dict())
    install_attention(ours)
    ids, mask = torch.randint(40, (3, 6)), torch.ones(3, 6, dtype=torch.long)
    mask[1, 4:] = 0
    a, b = (m(input_ids=ids, attention_mask=mask)[0] for m in (theirs, ours))
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
