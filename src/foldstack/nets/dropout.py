"""Dropout on a processor, whose masks torch draws number by number: a twentieth of a step or more.

Here a mask is drawn in 16 random bits a number, from a generator seeded by torch's own, so that what
seeds torch seeds it. The share that is dropped is p to the nearest 2^-16, and what is kept is divided
by exactly the share that is: the expectation is the input. An accelerator keeps torch's dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import SFC64
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from foldstack.nets.device import computes_ahead

LEVELS = 1 << 16  # of 16 bits
ATTENTION = "foldstack"
AT_ONCE = 1 << 20  # attention weights: 4 MiB in float32, which stay in a processor's cache
# What the library may pass to an attention and only its own computes.
SPECIAL = ("position_bias", "softcap", "cache")


def use_cheap_dropout(backbone: nn.Module) -> None:
    """Give a backbone the dropout of this module, in its attention too where the library lets us."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
    # An architecture that has its own attention (DeBERTa, XLNet) drops by the modules above.
    if backbone.config._attn_implementation == "sdpa" and backbone._can_set_attn_implementation():
        backbone.set_attn_implementation(ATTENTION)


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) of any tensor."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and 0 < self.p < 1) or computes_ahead(x):
            return super().forward(x)
        kept = draw_kept(seeded(), x.shape, self.p, x.dtype)
        return x * kept.mul_(1 / kept_share(self.p))


def seeded() -> SFC64:
    """A generator seeded by torch's; it makes eight random bytes in a nanosecond or two."""
    return SFC64(int(torch.randint(2**62, ())))


def kept_share(p: float) -> float:
    """1 - p, to the nearest 2^-16."""
    return 1 - _cut(p) / LEVELS


def draw_kept(generator: SFC64, shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """Zeros, with chance p each, and ones."""
    n = math.prod(shape)
    words = generator.random_raw(-(-n // 4)).astype("<u8", copy=False)
    bits = torch.from_numpy(words.view(np.int16)[:n]).view(shape)
    kept = torch.empty(shape, dtype=dtype)
    return torch.ge(bits, _cut(p) - LEVELS // 2, out=kept)


def _cut(p: float) -> int:
    return min(round(p * LEVELS), LEVELS - 1)


# Attention


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """What transformers calls for (b, h, t, d) queries, keys and values; returns (b, t, h, d).

    With dropout on a processor, where torch has no fused kernel: `_Attention`. Else torch's.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    ours = 0 < dropout < 1 and not computes_ahead(query) and query.shape[1] == key.shape[1]
    if attention_mask is None:
        ours = ours and not causal
    else:
        ours = ours and not attention_mask.requires_grad
    if not ours or any(others.get(name) is not None for name in SPECIAL):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    bias = attention_mask
    if bias is not None and bias.dtype == torch.bool:
        # Not -inf: a padding token that sees nothing shall be some number.
        lowest = torch.finfo(torch.float32).min
        bias = torch.zeros(bias.shape).masked_fill(~bias, lowest)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, bias, scaling, dropout), None


AttentionInterface.register(ATTENTION, attend)


class _Attention(torch.autograd.Function):
    """dropout(softmax(scaling q kᵀ + bias)) v, some rows and heads at once, all from the cache.

    A (b, h, t, t) array is kept for the backward pass, where autograd would keep three or four: the
    weights, negative where they are dropped.
    """

    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scaling: float, p: float
    ) -> Tensor:
        q = q * scaling
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3])
        generator, signed = seeded(), []
        with torch.autocast("cpu", enabled=False):  # these types are what it has chosen
            for some in _parts(q, k):
                scores = (q[some] @ k[some].transpose(2, 3)).float()
                if bias is not None:
                    scores += bias.expand(*q.shape[:2], -1, -1)[some]
                weights = scores.softmax(dim=-1)
                kept = draw_kept(generator, weights.shape, p, weights.dtype)
                signed.append(torch.copysign(weights, kept.sub_(0.5)))
                out.transpose(1, 2)[some] = signed[-1].relu().to(v.dtype) @ v[some]
        ctx.save_for_backward(q, k, v, *signed)
        ctx.scaling, ctx.share = scaling, kept_share(p)
        return out.div_(ctx.share)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *signed = ctx.saved_tensors
        grad = grad.transpose(1, 2) / ctx.share
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for some, each in zip(_parts(q, k), signed, strict=True):
            dv[some] = each.relu().to(v.dtype).transpose(2, 3) @ grad[some]
            of_dropped = (grad[some] @ v[some].transpose(2, 3)).float()
            of_weights = torch.ops.aten.threshold_backward(of_dropped, each, 0)
            of_scores = torch._softmax_backward_data(of_weights, each.abs(), -1, each.dtype)
            of_scores = of_scores.to(q.dtype)
            dq[some] = of_scores @ k[some]
            dk[some] = of_scores.transpose(2, 3) @ q[some]
        return dq.mul_(ctx.scaling), dk, dv, None, None, None


def _parts(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and heads that are computed together: whole rows, or where they are too large some heads."""
    b, h, t, _ = q.shape
    of_head = t * k.shape[2]
    rows, heads = max(AT_ONCE // (h * of_head), 1), min(max(AT_ONCE // of_head, 1), h)
    for row in range(0, b, rows):
        for head in range(0, h, heads):
            yield slice(row, row + rows), slice(head, head + heads)
