"""Attention on a processor: scores, softmax, dropout and products piece by piece, all from the cache.

torch has no fused kernel with dropout there, and its kernel without takes longer, above all backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from foldstack.nets.device import computes_ahead, lowered
from foldstack.nets.dropout import Dropout, draw_kept, kept_share, seeded

ATTENTION = "foldstack"
AT_ONCE = 1 << 22  # bytes of attention weights, which stay in a processor's cache
SHORT = 64  # tokens: a row of attention weights
LONG = 512  # tokens, beyond which torch's kernel, which keeps no weights, is worth its time
# What the library may pass to an attention and only its own computes.
SPECIAL = ("position_bias", "softcap", "cache")


def use_ours(backbone: nn.Module) -> None:
    """Give a backbone this project's dropout, and its attention where the library lets us, in place."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
    # An architecture that has its own attention (DeBERTa, XLNet) drops by the modules above.
    if backbone.config._attn_implementation == "sdpa" and backbone._can_set_attn_implementation():
        backbone.set_attn_implementation(ATTENTION)


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
    """Attention as transformers calls it for (b, h, t, d) queries, keys and values, to (b, t, h, d).

    On a processor `_Attention`, elsewhere and for long texts without dropout torch's.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    ours = dropout < 1 and not computes_ahead(query) and query.shape[1] == key.shape[1]
    ours = ours and (dropout > 0 or key.shape[2] <= LONG)
    if attention_mask is None:
        ours = ours and not causal
    else:
        ours = ours and not attention_mask.requires_grad
    if not ours or any(others.get(name) is not None for name in SPECIAL):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    kind = lowered(query.dtype)  # layers that autocast does not know may give another
    query, key, value = (x.to(kind) for x in (query, key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, as_bias(attention_mask), scaling, dropout), None


AttentionInterface.register(ATTENTION, attend)


def _mask(make: Callable, *args, attention_mask: Tensor | None = None, **options) -> Tensor | None:
    """The library's mask, but that an accelerator is not asked whether a batch has any padding.

    The answer, which spares the mask of a batch without, would wait for all that it has still to do.
    """
    if attention_mask is not None and computes_ahead(attention_mask):
        options["allow_is_bidirectional_skip"] = False
    return make(*args, attention_mask=attention_mask, **options)


AttentionMaskInterface.register("sdpa", partial(_mask, sdpa_mask))
AttentionMaskInterface.register(ATTENTION, partial(_mask, sdpa_mask))
AttentionMaskInterface.register("eager", partial(_mask, eager_mask))


def as_bias(mask: Tensor | None) -> Tensor | None:
    """Return what is added to the scores for a (b, 1, t or 1, t) mask; an additive one is unchanged.

    A mask that is the same for all queries, as padding is, stays one row.
    """
    if mask is None or mask.dtype != torch.bool:
        return mask
    if mask.stride(2) == 0:
        mask = mask[:, :, :1]
    # Not -inf: a padding token that sees nothing shall be some number.
    return torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)


class _Attention(torch.autograd.Function):
    """dropout(softmax(scaling q kᵀ + bias)) v.

    A (b, h, t, t) array in the type of q is kept for the backward pass, where autograd would keep three
    or four.
    """

    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scaling: float, p: float
    ) -> Tensor:
        q = q * scaling
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3])
        with torch.autocast("cpu", enabled=False):  # these types are what it has chosen
            keep = any(ctx.needs_input_grad)
            signed = weighed_sums(q, k, v, bias, p, out.transpose(1, 2), keep)
        ctx.save_for_backward(q, k, v, out, *signed)
        ctx.scaling, ctx.p = scaling, p
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Softmax's gradient takes Σ weight · gradient from a row, which is the sum times its gradient.

        Dao et al. 2022, FlashAttention, appendix B.4. Dropout changes nothing of that.
        """
        q, k, v, out, *signed = ctx.saved_tensors
        taken = (out * grad).sum(dim=3, keepdim=True, dtype=_wide(q)).to(q.dtype).transpose(1, 2)
        grad = grad.transpose(1, 2)
        if ctx.p:
            grad = grad / kept_share(ctx.p)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for some, weights in zip(_parts(q, k), signed, strict=True):
            kept = weights
            if ctx.p:
                kept, weights = weights.relu(), weights.abs()
            dv[some] = kept.transpose(2, 3) @ grad[some]
            of_scores = (grad[some] @ v[some].transpose(2, 3)).mul_(kept)
            of_scores.addcmul_(weights, taken[some], value=-1)
            dq[some] = of_scores @ k[some]
            dk[some] = of_scores.transpose(2, 3) @ q[some]
        return dq.mul_(ctx.scaling), dk, dv, None, None, None


def weighed_sums(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    p: float,
    out: Tensor,
    keep: bool,
) -> list[Tensor]:
    """Write dropout(softmax(q kᵀ + bias)) v into `out`, all (b, h, t, d), some rows and heads at once.

    Returns the weights part by part, in the type of q, negative where they are dropped, or nothing where
    they are not to be kept.
    """
    signed = []
    generator = seeded() if p else None
    if bias is not None:
        bias = bias.to(q.dtype).expand(*q.shape[:2], -1, -1)
    for some in _parts(q, k):
        scores = q[some] @ k[some].transpose(2, 3)
        if bias is not None:
            scores += bias[some]
        weights = kept = _softmax(scores)
        if generator is not None:
            drawn = draw_kept(generator, weights.shape, p, weights.dtype)
            weights = torch.copysign(weights, drawn.sub_(0.5))
            kept = weights.relu()
        if keep:
            signed.append(weights)
        out[some] = kept @ v[some]
    if p:
        out.div_(kept_share(p))
    return signed


def _softmax(scores: Tensor) -> Tensor:
    """Over the last dimension, in float32 within; torch's own for lower types is slow on short rows."""
    if scores.shape[-1] < SHORT:
        return scores.to(_wide(scores)).softmax(dim=-1).to(scores.dtype)
    return scores.softmax(dim=-1)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _parts(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and heads that are computed together: whole rows, or where they are too large some heads."""
    b, h, t, _ = q.shape
    of_head = t * k.shape[2] * q.element_size()
    rows, heads = max(AT_ONCE // (h * of_head), 1), min(max(AT_ONCE // of_head, 1), h)
    for row in range(0, b, rows):
        for head in range(0, h, heads):
            yield slice(row, row + rows), slice(head, head + heads)
