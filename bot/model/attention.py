"""Attention of a whole sequence under the banded mask: the training path and the reference.

Every head has a learned sink: a key and a value of zero, whose score of 0 is lifted to the head's
logit, so that a token may attend to nothing (streaming needs no special first tokens then).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ALIGNED = 8
"""Columns and head dimensions come in eights: what fused kernels want of masks and rows."""
_NEVER = -3e4
"""A score that softmax sees as none, and that bfloat16 and float16 can hold."""


def masked_attention(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, hidden: Tensor) -> Tensor:
    """Attention [..., T, H, D] under any mask ``hidden`` [T, T], with torch's fused kernel, at half
    the time of plain products."""
    nothing = k.new_zeros(*k.shape[:-3], 1, *k.shape[-2:])
    keys, values = (torch.cat((x, nothing), dim=-3) for x in (k, v))
    band = torch.zeros_like(hidden, dtype=q.dtype).masked_fill(hidden, -torch.inf)
    column = sink[:, None, None].expand(-1, q.shape[-3], 1)
    mask = torch.cat((band.expand(len(sink), -1, -1), column), dim=-1)
    # with fewer than four dimensions, of the mask too, torch falls back to plain products
    q4, k4, v4 = (x.reshape(-1, *x.shape[-3:]).transpose(1, 2) for x in (q, keys, values))
    out = functional.scaled_dot_product_attention(
        q4, k4, v4, attn_mask=mask.unsqueeze(0), enable_gqa=True
    )
    return out.transpose(1, 2).reshape(q.shape)


def banded_attention(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, window: int) -> Tensor:
    """Attention [..., T, H, D] of each token to the last ``window`` with itself, in the type of
    ``v``; the work grows with T and not with its square.

    Queries come in chunks of a window; each chunk sees its own keys and those of the chunk before.
    One mask serves all chunks: keys that are none (before the first token) and the sink have their
    score from an extra dimension, in which every query is 1. So no gradient goes through a mask.
    """
    tokens, heads, dim = q.shape[-3:]
    chunks = -(-tokens // window)
    short = chunks * window - tokens
    group = heads // k.shape[-2]
    q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (q, k, v))
    k, v = k.repeat_interleave(group, -2), v.repeat_interleave(group, -2)
    extra = functional.pad(q.new_ones(*q.shape[:-1], 1), (0, _ALIGNED - 1))
    q = functional.pad(torch.cat((q, extra), dim=-1), (0, 0, 0, 0, 0, short))
    k = functional.pad(k, (0, _ALIGNED))
    before = functional.pad(k.new_full((window, heads, 1), _NEVER), (dim, _ALIGNED - 1))
    k = torch.cat((before.expand(len(k), -1, -1, -1), k), dim=1)
    k = functional.pad(k, (0, 0, 0, 0, 0, short))
    v = functional.pad(v, (0, _ALIGNED, 0, 0, window, short))
    q = q.reshape(-1, window, heads, dim + _ALIGNED)
    lifted = functional.pad((sink * dim**0.5).unsqueeze(-1), (dim, _ALIGNED - 1))
    sinks = functional.pad(lifted.unsqueeze(0), (0, 0, 0, 0, 0, _ALIGNED - 1))
    keys = _chunked(k, window, sinks)
    values = _chunked(v, window, torch.zeros_like(sinks))
    q4, k4, v4 = (x.to(v.dtype).transpose(1, 2) for x in (q, keys, values))
    mask = _band(window, v.device).to(v.dtype)
    out = functional.scaled_dot_product_attention(q4, k4, v4, attn_mask=mask, scale=dim**-0.5)
    out = out[..., :dim].transpose(1, 2).reshape(-1, chunks * window, heads, dim)
    return out[:, :tokens]


def _chunked(x: Tensor, window: int, last: Tensor) -> Tensor:
    """[B, window + chunks * window, H, D] as overlapping rows [B * chunks, 2 * window + 8, H, D]
    that end with ``last`` [8, H, D]."""
    parts = x.reshape(len(x), -1, window, *x.shape[-2:])
    pairs = torch.cat((parts[:, :-1], parts[:, 1:]), dim=2).flatten(0, 1)
    return torch.cat((pairs, last.to(x.dtype).expand(len(pairs), -1, -1, -1)), dim=1)


def _band(window: int, device: torch.device) -> Tensor:
    """The mask [1, 1, window, 2 * window + 8] of a chunk: its band, and the sink's column."""
    query = torch.arange(window, device=device).unsqueeze(1)
    key = torch.arange(2 * window + _ALIGNED, device=device)
    seen = ((key > query) & (key <= query + window)) | (key == 2 * window)
    mask = torch.zeros(seen.shape, device=device).masked_fill(~seen, -torch.inf)
    return mask[None, None]


def sink_token_attention(
    q: Tensor, q_sink: Tensor, k: Tensor, v: Tensor, sink: Tensor, hidden: Tensor, sinks: int
) -> Tensor:
    """Attention [..., T, H, D] that sees the first ``sinks`` keys through ``q_sink``.

    Softmax over [scores, learned sink] with the sink's column dropped.
    """
    group = q.shape[-2] // k.shape[-2]
    k, v = k.repeat_interleave(group, -2), v.repeat_interleave(group, -2)
    first = torch.einsum("...qhd,...khd->...hqk", q_sink, k[..., :sinks, :, :])
    rest = torch.einsum("...qhd,...khd->...hqk", q, k[..., sinks:, :, :])
    scores = torch.cat((first, rest), dim=-1) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(hidden, -torch.inf)
    column = sink[:, None, None].expand(*scores.shape[:-1], 1)
    weights = torch.cat((scores, column), dim=-1).softmax(-1)[..., :-1]
    return torch.einsum("...hqk,...khd->...qhd", weights, v)
