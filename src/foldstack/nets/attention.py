"""Attention on a CPU: scores, softmax, dropout and products block by block, all within the cache.

torch has no fused CPU kernel with dropout; its kernel without dropout is slower, above all in the
backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from foldstack.nets.device import autocast_dtype, is_asynchronous
from foldstack.nets.dropout import Dropout, draw_kept, kept_share, seeded

ATTENTION, TRACED = "foldstack", "foldstack_traced"
AT_ONCE = 1 << 22  # bytes of attention weights that fit the CPU's cache
SHORT = 64  # tokens: a row of attention weights
LONG = 512  # tokens, beyond which torch's kernel, which stores no weights, is faster
# Options that the library may pass and only its own attention supports.
SPECIAL = ("position_bias", "softcap", "cache")


def install_attention(backbone: nn.Module) -> None:
    """Install this project's dropout and, if the library allows it, its attention, in place."""
    install_dropout(backbone)
    # Architectures with their own attention (DeBERTa, XLNet) use the dropout modules above.
    if backbone.config._attn_implementation == "sdpa" and backbone._can_set_attn_implementation():
        backbone.set_attn_implementation(ATTENTION)


def install_dropout(backbone: nn.Module) -> None:
    """Install this project's dropout in place of torch's."""
    for module in list(backbone.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))


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
    """Return (b, t, h, d) attention outputs for (b, h, t, d) queries, keys and values.

    It has the signature that transformers calls. On a CPU it computes `_Attention`; on an
    accelerator, and for long texts without dropout, torch's kernel.

    Args:
        module: the attention layer; `is_causal` is read from it if the argument is None.
        query: (b, h, t, d).
        key: (b, h, t, d).
        value: (b, h, t, d).
        attention_mask: (b, 1, t or 1, t), boolean or additive.
        dropout: probability that a weight is dropped.
        scaling: factor on the scores; d^-0.5 if None.
        is_causal: whether a token attends to earlier tokens only.
        others: options of the library; those in `SPECIAL` are left to torch's kernel.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    ours = dropout < 1 and not is_asynchronous(query) and query.shape[1] == key.shape[1]
    ours = ours and (dropout > 0 or key.shape[2] <= LONG)
    if attention_mask is None:
        ours = ours and not causal
    else:
        ours = ours and not attention_mask.requires_grad
    if not ours or any(others.get(name) is not None for name in SPECIAL):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **others
        )
    kind = autocast_dtype(query.dtype)  # layers unknown to autocast may return another dtype
    query, key, value = (x.to(kind) for x in (query, key, value))
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Attention.apply(query, key, value, as_bias(attention_mask), scaling, dropout), None


AttentionInterface.register(ATTENTION, attend)


def _mask(make: Callable, *args, attention_mask: Tensor | None = None, **options) -> Tensor | None:
    """Return the library's mask without asking an accelerator whether a batch has any padding.

    The answer, which saves the mask of a batch without padding, would wait for all pending work.
    """
    if attention_mask is not None and is_asynchronous(attention_mask):
        options["allow_is_bidirectional_skip"] = False
    return make(*args, attention_mask=attention_mask, **options)


AttentionMaskInterface.register("sdpa", partial(_mask, sdpa_mask))
AttentionMaskInterface.register(ATTENTION, partial(_mask, sdpa_mask))
AttentionMaskInterface.register("eager", partial(_mask, eager_mask))


def _traced_mask(*args, **options) -> Tensor | None:
    """Return the library's mask, in which a token that attends to nothing attends to everything.

    Such a token is padding, beyond the window of all others; OpenVINO's kernel makes it NaN, which
    the next layer spreads.
    """
    mask = sdpa_mask(*args, **options)
    return None if mask is None else mask | ~mask.any(dim=-1, keepdim=True)


AttentionInterface.register(TRACED, sdpa_attention_forward)
AttentionMaskInterface.register(TRACED, _traced_mask)


def as_bias(mask: Tensor | None) -> Tensor | None:
    """Return the additive bias of a (b, 1, t or 1, t) mask; an additive mask is returned unchanged.

    A mask that is the same for all queries, such as a padding mask, stays one row.
    """
    if mask is None or mask.dtype != torch.bool:
        return mask
    if mask.stride(2) == 0:
        mask = mask[:, :, :1]
    # Not -inf: a padding token that attends to nothing must not be NaN. The lowest number of bfloat16,
    # since that of float32 becomes -inf there.
    return torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.bfloat16).min)


class _Attention(torch.autograd.Function):
    """dropout(softmax(scaling q kᵀ + bias)) v.

    Keeps one (b, h, t, t) array in the dtype of q for the backward pass; autograd would keep three
    or four.
    """

    @staticmethod
    def forward(
        ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scaling: float, p: float
    ) -> Tensor:
        q = q * scaling
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3])
        with torch.autocast("cpu", enabled=False):  # dtypes are already autocast's
            keep = any(ctx.needs_input_grad)
            signed = weighted_sums(q, k, v, bias, p, out.transpose(1, 2), keep)
        ctx.save_for_backward(q, k, v, out, *signed)
        ctx.scaling, ctx.p = scaling, p
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k and v.

        The term Σ weight · gradient of softmax equals the output times its gradient (Dao et al.
        2022, FlashAttention, appendix B.4), with dropout too.
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


def weighted_sums(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    p: float,
    out: Tensor,
    keep: bool,
) -> list[Tensor]:
    """Write dropout(softmax(q kᵀ + bias)) v into `out`, block by block of rows and heads.

    Args:
        q: (b, h, t, d) scaled queries.
        k: (b, h, t, d) keys.
        v: (b, h, t, d) values.
        bias: additive mask that broadcasts to (b, h, t, t), or None.
        p: probability that a weight is dropped.
        out: (b, h, t, d), overwritten.
        keep: whether the weights are returned, for a backward pass.

    Returns:
        The attention weights of each block in the dtype of q, negative if dropped; empty unless
            `keep`.
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
    """Return softmax over the last dimension, computed in float32.

    torch's own softmax of lower dtypes is slow on short rows.
    """
    if scores.shape[-1] < SHORT:
        return scores.to(_wide(scores)).softmax(dim=-1).to(scores.dtype)
    return scores.softmax(dim=-1)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _parts(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield slices of rows and heads to compute together: some heads only if a row is too large."""
    b, h, t, _ = q.shape
    of_head = t * k.shape[2] * q.element_size()
    rows, heads = max(AT_ONCE // (h * of_head), 1), min(max(AT_ONCE // of_head, 1), h)
    for row in range(0, b, rows):
        for head in range(0, h, heads):
            yield slice(row, row + rows), slice(head, head + heads)
