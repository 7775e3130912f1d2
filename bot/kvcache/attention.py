"""Attention over one segment of keys, and the law by which segments join.

A segment answers with (out, lse): its softmax-weighted values and the log-sum-exp of its scores.
Any two answers merge into the answer over both segments, in any order (Ye et al., FlashInfer,
2025, "attention states"), so sinks, a shared prefix and blocks are just segments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bot.kvcache.quantize import Coded


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, visible: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention of ``q`` [T, H, D] over ``k`` and ``v`` [Hkv, S, D].

    ``visible`` [T, S] says which keys each query may see (None: all). A query that sees none gets
    zeros and an lse of -inf, the neutral element of ``merge_state``. H is a multiple of Hkv; query
    head h reads key head ``h * Hkv // H``. Returns out [T, H, D] and lse [T, H].
    """
    out, lse, _ = attend_coded(q, Coded(k), Coded(v), visible=visible)
    return out, lse


def attend_coded(
    q: Tensor, k: Coded, v: Coded, *, visible: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """``attend`` over quantized keys and values without dequantizing them.

    With values ``raw * scale + zero``: q . k is ``(q . raw) * scale + sum(q) * zero``, and w . v is
    ``(w * scale) . raw + sum(w * zero)``. The third result is the weights [Hkv, H / Hkv, T, S].
    """
    tokens, heads, dim = q.shape
    kv_heads = k.raw.shape[0]
    group = heads // kv_heads
    # [T, H, D] -> [Hkv, group * T, D]
    grouped = q.view(tokens, kv_heads, group, dim).permute(1, 2, 0, 3) * dim**-0.5
    grouped = grouped.reshape(kv_heads, group * tokens, dim)
    scores = torch.bmm(grouped, k.raw.transpose(1, 2))
    if k.scale is not None:
        scores.mul_(k.scale.transpose(1, 2))
    if k.zero is not None:
        scores.add_(grouped.sum(-1, keepdim=True) * k.zero.transpose(1, 2))
    scores = scores.view(kv_heads, group, tokens, -1)
    if visible is not None:
        scores.masked_fill_(~visible, -torch.inf)
    lse = scores.logsumexp(-1, keepdim=True)
    lowest = torch.finfo(lse.dtype).min
    weights = (scores - lse.clamp_min(lowest)).exp_()
    flat = weights.view(kv_heads, group * tokens, -1)
    out = torch.bmm(flat if v.scale is None else flat * v.scale.transpose(1, 2), v.raw)
    if v.zero is not None:
        out = out + torch.bmm(flat, v.zero)
    out = out.view(kv_heads, group, tokens, dim)
    return (
        out.permute(2, 0, 1, 3).reshape(tokens, heads, dim),
        lse.permute(2, 0, 1, 3).reshape(tokens, heads),
        weights,
    )


def merge_state(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Join two segments' answers: out [..., D], lse [...]. Associative and commutative."""
    lse = torch.logaddexp(lse_a, lse_b)
    base = lse.clamp_min(torch.finfo(lse.dtype).min)  # two empty segments make an empty one
    out = out_a * (lse_a - base).exp().unsqueeze(-1) + out_b * (lse_b - base).exp().unsqueeze(-1)
    return out, lse


def merge_sink(out: Tensor, lse: Tensor, sink: Tensor) -> Tensor:
    """Join a segment with a learned sink logit per head: a key of value zero.

    ``out`` [T, H, D], ``lse`` [T, H], ``sink`` [H]. Equals a softmax over [scores, sink] whose
    last column is dropped. (Agarwal et al., gpt-oss model card, 2025.)
    """
    return out * torch.sigmoid(lse - sink).unsqueeze(-1)
