"""What the KV cache is worth: one cached step against one full recompute of the same answer."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from bot.model.trader import KVCacheTrader

_ROUNDS = 30
_RECOMPUTES = 5
_WARM = 2


def benchmark_kv_cache(
    model: KVCacheTrader, context_length: int = 1024
) -> dict[str, float | int | str]:
    """Time both ways to the newest token's answer when ``context_length`` tokens have been read.

    Cached: append one token. Recompute: the forward over all tokens read, or over the last ones
    that the answer depends on where those are fewer. Both are timed in turn in one process, after
    ``context_length`` tokens less the rounds were appended, and give the same answer up to the
    cache's quantization, which ``rel_error`` states. Medians, in microseconds; the prefill counts
    for neither. ``model`` itself stays as it is. Raises ValueError for a context of less than 8.
    """
    if context_length < 2 * (_WARM + 2):
        raise ValueError(f"context_length must be at least {2 * (_WARM + 2)}, got {context_length}")
    rounds = min(_ROUNDS, context_length // 2)
    recompute_every = max(rounds // _RECOMPUTES, 1)
    config = model.model.config
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(context_length, config.features, generator=generator)
    cached_us: list[float] = []
    recompute_us: list[float] = []
    errors: list[float] = []
    with torch.inference_mode(), model.sibling() as other:
        start = context_length - rounds
        model.model.step(x[:start], other.cache)
        for index in range(rounds):
            end = start + index + 1
            heads, us = _timed_step(other, x[end - 1 : end])
            cached_us.append(us)
            if index % recompute_every == 0:
                full, us = _timed_forward(model, x[max(0, end - config.reach) : end])
                recompute_us.append(us)
                errors.append(((heads - full).norm() / full.norm()).item())
        nbytes = other.nbytes
    cached = statistics.median(cached_us[_WARM:])
    recompute = statistics.median(recompute_us[1:])
    return {
        "context_length": context_length,
        "window": config.window,
        "kv_cache_dtype": model.cache.spec.kv_cache_dtype,
        "threads": torch.get_num_threads(),
        "cached_us": cached,
        "recompute_us": recompute,
        "speedup": recompute / cached,
        "nbytes": nbytes,
        "rel_error": max(errors),
    }


def _timed_step(trader: KVCacheTrader, x: Tensor) -> tuple[Tensor, float]:
    began = time.perf_counter_ns()
    heads = trader.model.step(x, trader.cache)[-1]
    return heads, (time.perf_counter_ns() - began) / 1e3


def _timed_forward(trader: KVCacheTrader, x: Tensor) -> tuple[Tensor, float]:
    began = time.perf_counter_ns()
    heads = trader.model(x)[-1]
    return heads, (time.perf_counter_ns() - began) / 1e3
