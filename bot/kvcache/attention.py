"""Attention over one segment of keys, and the law by which segments join.

A segment answers with (out, lse): its softmax-weighted values and the log-sum-exp of its scores.
Any two answers merge into the answer over both segments, in any order (Ye et al., FlashInfer,
2025, "attention states"), so sinks, a shared prefix and blocks are just segments.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, visible: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention of ``q`` [T, H, D] over ``k`` and ``v`` [Hkv, S, D].

    ``visible`` [T, S] says which keys each query may see (None: all); every query must see at
    least one. H is a multiple of Hkv; query head h reads key head ``h * Hkv // H``.
    Returns out [T, H, D] and lse [T, H].
    """
    tokens, heads, dim = q.shape
    kv_heads = k.shape[0]
    group = heads // kv_heads
    # [T, H, D] -> [Hkv, group * T, D]
    grouped = q.view(tokens, kv_heads, group, dim).permute(1, 2, 0, 3)
    scores = torch.bmm(grouped.reshape(kv_heads, group * tokens, dim), k.transpose(1, 2))
    scores = scores.mul_(dim**-0.5).view(kv_heads, group, tokens, -1)
    if visible is not None:
        scores = scores.masked_fill_(~visible, -torch.inf)
    lse = scores.logsumexp(-1, keepdim=True)
    weights = (scores - lse).exp_().view(kv_heads, group * tokens, -1)
    out = torch.bmm(weights, v).view(kv_heads, group, tokens, dim)
    return (
        out.permute(2, 0, 1, 3).reshape(tokens, heads, dim),
        lse.permute(2, 0, 1, 3).reshape(tokens, heads),
    )


def merge_state(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Join two segments' answers: out [..., D], lse [...]. Associative and commutative."""
    lse = torch.logaddexp(lse_a, lse_b)
    out = out_a * (lse_a - lse).exp().unsqueeze(-1) + out_b * (lse_b - lse).exp().unsqueeze(-1)
    return out, lse


def merge_sink(out: Tensor, lse: Tensor, sink: Tensor) -> Tensor:
    """Join a segment with a learned sink logit per head: a key of value zero.

    ``out`` [T, H, D], ``lse`` [T, H], ``sink`` [H]. Equals a softmax over [scores, sink] whose
    last column is dropped. (Agarwal et al., gpt-oss model card, 2025.)
    """
    return out * torch.sigmoid(lse - sink).unsqueeze(-1)
