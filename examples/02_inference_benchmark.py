"""What the KV cache saves: one cached step against one full recompute of the same answer.

    python examples/02_inference_benchmark.py

Untrained weights; the arithmetic does not care. The figures are those of this machine, now: read
the ratios. `bot bench decode` compares with other libraries and with the memory's own speed.
"""

from __future__ import annotations

import time

import torch

from bot.model import KVCacheTrader, benchmark_kv_cache, trader_config

CONTEXTS = (128, 256, 512, 1024)


def by_context() -> None:
    print(f"{'tokens read':>11} {'recompute':>12} {'cached step':>12} {'speedup':>9} {'error':>9}")
    trader = KVCacheTrader(trader_config(window=max(CONTEXTS)), kv_cache_dtype="int8")
    for context in CONTEXTS:
        found = benchmark_kv_cache(trader, context_length=context)
        print(
            f"{context:>11,} {found['recompute_us']:>9,.0f} us {found['cached_us']:>9,.0f} us "
            f"{found['speedup']:>8.1f}x {found['rel_error']:>9.1e}"
        )
    print("error: of the answer, from storing keys and values as int8\n")


def by_kind(context: int = 512) -> None:
    print(f"{'kind':>20} {'dtype':>9} {'bytes':>11} {'cached step':>12} {'error':>9}")
    for kind, dtype in (
        ("standard", "float32"),
        ("paged", "float32"),
        ("quantized", "int8"),
        ("quantized", "k8v4"),
        ("quantized", "int4"),
    ):
        trader = KVCacheTrader(trader_config(window=context), kind=kind, kv_cache_dtype=dtype)
        found = benchmark_kv_cache(trader, context_length=context)
        print(
            f"{kind:>20} {dtype:>9} {found['nbytes']:>11,} {found['cached_us']:>9,.0f} us "
            f"{found['rel_error']:>9.1e}"
        )
    print(f"after {context} tokens\n")


def by_age() -> None:
    """A step costs the same after ten windows as after one."""
    trader = KVCacheTrader(trader_config(window=128))
    generator = torch.Generator().manual_seed(1)
    print(f"{'position':>11} {'p50 step':>12} {'bytes':>11}")
    for age in (1, 4, 10):
        while trader.position < age * 128:
            trader.update(torch.randn(64, 8, generator=generator).numpy())
        rows = torch.randn(60, 8, generator=generator).numpy()
        times = []
        for row in rows:
            began = time.perf_counter_ns()
            trader.update(row)
            times.append((time.perf_counter_ns() - began) / 1e3)
        median = sorted(times)[len(times) // 2]
        print(f"{trader.position:>11,} {median:>9,.0f} us {trader.nbytes:>11,}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    by_context()
    by_kind()
    by_age()
