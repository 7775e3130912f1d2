"""Sink tokens against StreamingLLM's own bookkeeping, which re-rotates every key at every step."""

import math

import pytest
import torch

from bot.kvcache import CacheSpec, KVCacheManager, WindowCache

DIM, HEADS = 8, 2
FREQUENCIES = 100.0 ** (-torch.arange(DIM // 2, dtype=torch.float64) / (DIM // 2))


def turned(x: torch.Tensor, position: int) -> torch.Tensor:
    """Rotary positions as complex multiplication: pairs (i, i + D / 2) of x [..., D]."""
    pairs = torch.complex(x[..., : DIM // 2], x[..., DIM // 2 :])
    pairs = pairs * torch.polar(torch.ones_like(FREQUENCIES), FREQUENCIES * position)
    return torch.cat((pairs.real, pairs.imag), dim=-1)


def streaming_llm(
    q: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], sinks: int, window: int
) -> torch.Tensor:
    """Keep the first ``sinks`` and the last ``window`` raw keys; positions are cache slots."""
    if len(keys) > sinks + window:
        keys, values = keys[:sinks] + keys[-window:], values[:sinks] + values[-window:]
    query = turned(q, len(keys) - 1)
    rotated = torch.stack([turned(key, slot) for slot, key in enumerate(keys)])
    scores = torch.einsum("hd,shd->hs", query, rotated) / math.sqrt(DIM)
    return torch.einsum("hs,shd->hd", scores.softmax(-1), torch.stack(values))


@pytest.mark.parametrize("contiguous", [False, True])
@pytest.mark.parametrize(("sinks", "window"), [(1, 1), (1, 6), (4, 5), (9, 3)])
@pytest.mark.parametrize("origin", [0, 2, 5000])
def test_sinks_are_seen_from_the_positions_of_streaming_llm(
    contiguous: bool, sinks: int, window: int, origin: int
) -> None:
    spec = CacheSpec(1, HEADS, DIM, window, 4, "float64", sinks=sinks, contiguous=contiguous)
    cache: WindowCache = KVCacheManager(1 << 20).anonymous(spec)
    cache.reset(origin)
    generator = torch.Generator().manual_seed(1)
    keys: list[torch.Tensor] = []
    values: list[torch.Tensor] = []
    for position in range(origin, origin + 3 * (sinks + window)):
        q, k, v = torch.randn(3, HEADS, DIM, generator=generator, dtype=torch.float64)
        keys.append(k)
        values.append(v)
        (seen_from,) = cache.sink_positions(1)
        cache.append(0, turned(k, position)[None], v[None])
        out, _ = cache.attend(0, turned(q, position)[None], turned(q, seen_from)[None])
        assert (out[0] - streaming_llm(q, keys, values, sinks, window)).abs().max() < 1e-10
