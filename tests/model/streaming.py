"""A small model, its inputs, and its caches of every kind, for the tests of streaming."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bot.kvcache import KVCacheManager, WindowCache
from bot.model.transformer import CausalTransformer, initialize
from tests.model.builders import small_config

WINDOW = 12
SINKS = 3


def build(dtype: torch.dtype, **changes: object) -> CausalTransformer:
    model = CausalTransformer(small_config(window=WINDOW, **changes))
    initialize(model, 5)
    with torch.no_grad():
        for block in model.blocks:
            block.sink.copy_(torch.tensor([-1.0, 0.5, 2.0, 4.0]))
    return model.to(dtype).requires_grad_(requires_grad=False)


def inputs(tokens: int, dtype: torch.dtype, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, 6, generator=generator, dtype=dtype)


def caches(slab_bytes: int = 1 << 16, budget: int = 1 << 22) -> KVCacheManager:
    return KVCacheManager(budget, slab_bytes=slab_bytes)


def cache_for(
    model: CausalTransformer,
    kind: str,
    kv_cache_dtype: str,
    *,
    position: int = 0,
    block_size: int = 5,
    manager: KVCacheManager | None = None,
    **options: object,
) -> WindowCache:
    spec = model.config.cache_spec(
        kind, block_size=block_size, kv_cache_dtype=kv_cache_dtype, model="test", **options
    )
    cache = (manager or caches()).anonymous(spec)
    cache.reset(position)
    return cache


def stream(
    model: CausalTransformer, x: torch.Tensor, cache: WindowCache, chunk: int = 1
) -> torch.Tensor:
    """Heads [T, outputs] of tokens appended ``chunk`` at a time."""
    return torch.cat([model.step(part, cache) for part in x.split(chunk)])


def pieces(total: int, sizes: list[int]) -> Iterator[slice]:
    """Slices of ``total``, their lengths repeating ``sizes``."""
    start, index = 0, 0
    while start < total:
        end = min(start + sizes[index % len(sizes)], total)
        yield slice(start, end)
        start, index = end, index + 1
