"""The native step's arithmetic written again in numpy, float32 operation by operation.

Nothing here is taken from the extension: integers are exact, and a float32 product or sum in numpy
is the machine's own, so an agreement of the two is an agreement to the bit.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from bot.kvcache import round_trip
from bot.kvcache.quantize import FORMATS
from bot.model.native import quantize_rows
from bot.model.rotary import phases
from bot.model.transformer import CausalTransformer

F = np.float32
Array = NDArray[np.float32]
GROUP = 16
LOG2_E = F(1.44269504088896341)


def in_order(terms: Array) -> Array:
    """The sum over axis 0, one after another."""
    return np.add.accumulate(terms, axis=0, dtype=F)[-1]


def eight_lanes(x: Array) -> np.float32:
    """((0+1)+(2+3))+((4+5)+(6+7)) of the sums of every eighth number."""
    padded = np.zeros(-(-len(x) // 8) * 8, dtype=F)
    padded[: len(x)] = x
    s = in_order(padded.reshape(-1, 8))
    return F(((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])))


def exp2(x: Array) -> Array:
    n = np.rint(x)
    r = x - n
    y = np.full_like(x, 1.5403530393381610e-4)
    for term in (1.3333558146428443e-3, 9.618129107628477e-3, 5.5504108664821580e-2,
                 2.4022650695910072e-1, 6.9314718055994531e-1, 1.0):  # fmt: skip
        y = y * r + F(term)
    power = np.exp2(n, dtype=np.float64).astype(F)
    return np.where(x >= F(-126), y * power, F(0))


def gelu(x: Array) -> Array:
    u = F(0.79788456080286536) * (x + (F(0.044715) * x) * (x * x))
    return x / (F(1) + exp2(np.minimum(F(-2) * LOG2_E * u, F(127))))


def norm(x: Array, weight: Array) -> Array:
    factor = F(1) / np.sqrt(eight_lanes(x * x) / F(len(x)) + F(1e-6))
    return (x * factor) * weight


def codes(x: Array) -> tuple[NDArray[np.float64], np.float32]:
    """Integers, as float64: its sums of them are exact, and faster than numpy's of integers."""
    peak = np.abs(x).max()
    inverse = F(127) / peak if peak > F(1e-30) else F(0)
    return np.rint(x * inverse).astype(np.float64), peak / F(127)


def float_product(weight: Array, x: Array) -> Array:
    terms = (weight * x).T  # [K, N]
    even = in_order(terms[0::2])
    return even + in_order(terms[1::2]) if len(x) > 1 else even


@cache
def coded(weight: torch.Tensor) -> tuple[NDArray[np.float64], Array]:
    w, scales = quantize_rows(weight)
    return w.numpy().astype(np.float64), scales.numpy()


def product(weight: torch.Tensor, x: Array, weight_dtype: str) -> Array:
    if weight_dtype == "float32":
        return float_product(weight.numpy(), x)
    w, scales = coded(weight)
    x_codes, x_scale = codes(x)
    return (w @ x_codes).astype(F) * (scales * x_scale)


def rotated(x: Array, cos: Array, sin: Array) -> Array:
    low, high = np.split(x, 2)
    return np.concatenate((low * cos - high * sin, high * cos + low * sin))


def attention(
    q: Array, keys: list[Array], values: list[Array], first: int, sink: np.float32
) -> Array:
    """Over an int8 cache whose oldest visible position is ``first``."""
    held = []
    for rows in (keys, values):
        c, scale = FORMATS["int8"].encode(torch.from_numpy(np.stack(rows)))
        held.append((c.numpy().astype(np.float64), scale.numpy().astype(F)[:, 0]))
    (k, k_scale), (v, v_scale) = held
    q_codes, q_scale = codes(q)
    q_scale = q_scale * (LOG2_E / np.sqrt(F(len(q))))
    scores = ((k @ q_codes).astype(F) * k_scale) * q_scale
    sink = sink * LOG2_E
    peak = max(scores.max(), sink)
    weights = exp2(scores - peak)
    out = np.zeros(len(q), dtype=F)
    lanes = np.zeros(8, dtype=F)
    position = np.arange(first, first + len(k))
    for group in range(first // GROUP, position[-1] // GROUP + 1):
        inside = position // GROUP == group
        at = position[inside] - group * GROUP
        full = np.zeros(GROUP, dtype=F)
        full[at] = weights[inside]
        lanes = lanes + (full[:8] + full[8:])
        scaled = full[at] * v_scale[inside]
        exponent = np.frexp(scaled.max())[1] - 1
        if exponent <= -100:
            continue
        whole = np.rint(scaled * F(2.0 ** (11 - exponent))).astype(np.float64)
        out = out + (whole @ v[inside]).astype(F) * F(2.0 ** (exponent - 11))
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + (
        (lanes[4] + lanes[5]) + (lanes[6] + lanes[7])
    )
    total = total + exp2(np.array([sink - peak], dtype=F))[0]
    return out * (F(1) / total)


def stream(
    model: CausalTransformer, x: torch.Tensor, weight_dtype: str, first_position: int = 0
) -> torch.Tensor:
    """Raw heads [T, outputs] for a sequence, token by token, on an int8 cache."""
    config = model.config
    heads, kv_heads, dim = config.heads, config.kv_heads, config.head_dim
    cos, sin = phases(model.turns, first_position, len(x), torch.float32)
    past: dict[tuple[int, int], tuple[list[Array], list[Array]]] = {
        (layer, head): ([], []) for layer in range(config.layers) for head in range(kv_heads)
    }
    answers = []
    for t, row in enumerate(x.numpy()):
        c, s = cos[t, 0].numpy(), sin[t, 0].numpy()
        h = float_product(model.embed.numpy(), row) + model.embed_bias.numpy()
        for layer, block in enumerate(model.blocks):
            qkv = product(block.qkv, norm(h, block.attention_norm.numpy()), weight_dtype)
            q, k, v = np.split(qkv.reshape(-1, dim), [heads, heads + kv_heads])
            attended = np.empty((heads, dim), dtype=F)
            for kv_head in range(kv_heads):
                keys, values = past[layer, kv_head]
                keys.append(rotated(norm(k[kv_head], block.k_norm.numpy()), c, s))
                values.append(v[kv_head])
                del keys[: -config.window], values[: -config.window]
                group = heads // kv_heads
                for head in range(kv_head * group, (kv_head + 1) * group):
                    query = rotated(norm(q[head], block.q_norm.numpy()), c, s)
                    oldest = first_position + t - len(keys) + 1
                    sink = block.sink.numpy()[head]
                    attended[head] = attention(query, keys, values, oldest, sink)
            h = product(block.out, attended.ravel(), weight_dtype) + h
            up = gelu(product(block.up, norm(h, block.mlp_norm.numpy()), weight_dtype))
            h = product(block.down, up, weight_dtype) + h
        final = norm(h, model.final_norm.numpy())
        answers.append(float_product(model.head.numpy(), final) + model.head_bias.numpy())
    return torch.from_numpy(np.stack(answers))


def rounded_cache(x: torch.Tensor) -> torch.Tensor:
    return round_trip(x, "int8")
