"""A KV cache in five minutes: exact, bounded, shared, and warm after a restart.

python examples/01_kv_cache_basics.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from bot.kvcache import (
    KVCache,
    KVCacheManager,
    PagedKVCache,
    PrefixCache,
    QuantizedKVCache,
    SelectiveKVCache,
    WindowCache,
    load_sequence,
    save_sequence,
)

LAYERS, HEADS, DIM, WINDOW = 2, 4, 32, 256


def tokens(count: int, seed: int) -> torch.Tensor:
    """Made-up queries, keys and values [3, layers, T, heads, dim]; a model would compute them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, LAYERS, count, HEADS, DIM, generator=generator)


def step(cache: WindowCache, qkv: torch.Tensor) -> torch.Tensor:
    """Append tokens to every layer; what the last layer's attention answers, [T, heads, dim]."""
    out = torch.empty(0)
    for layer in range(LAYERS):
        q, k, v = qkv[:, layer]
        cache.append(layer, k, v)
        out, _ = cache.attend(layer, q)
    return out


def what_attention_should_be(qkv: torch.Tensor, positions: list[int]) -> torch.Tensor:
    """The newest token over the keys at ``positions``, from everything, without any cache."""
    q, k, v = qkv[:, -1]
    scores = torch.einsum("hd,thd->ht", q[-1], k[positions]) / DIM**0.5
    return torch.einsum("ht,thd->hd", scores.softmax(-1), v[positions])


def kinds() -> None:
    print(f"1. Every kind reads the same 1,000 tokens, with a window of {WINDOW}:")
    shape = (LAYERS, HEADS, DIM, WINDOW)
    caches: dict[str, WindowCache] = {
        "KVCache (contiguous, float32)": KVCache(*shape),
        "PagedKVCache (float32)": PagedKVCache(*shape),
        "QuantizedKVCache (int8)": QuantizedKVCache(*shape),
        "QuantizedKVCache (fp8_e4m3)": QuantizedKVCache(*shape, kv_cache_dtype="fp8_e4m3"),
        "QuantizedKVCache (k8v4)": QuantizedKVCache(*shape, kv_cache_dtype="k8v4"),
        "QuantizedKVCache (int4)": QuantizedKVCache(*shape, kv_cache_dtype="int4"),
        "SelectiveKVCache (64 of 256)": SelectiveKVCache(*shape, retain=64),
    }
    history = tokens(1000, seed=1)
    print(f"   {'kind':32} {'tokens seen':>11} {'bytes':>9} {'error':>9}")
    for name, cache in caches.items():
        for part in history[:, :, :-1].split(50, dim=2):
            step(cache, part)
        seen = [*cache.positions, 999]
        out = step(cache, history[:, :, -1:])[0]
        expected = what_attention_should_be(history, seen)
        error = (out - expected).norm() / expected.norm()
        print(f"   {name:32} {len(seen):>11} {cache.nbytes:>9,} {error:>9.1e}")
    print("   (error: against plain attention over the tokens seen)\n")


def forever() -> None:
    cache = QuantizedKVCache(LAYERS, HEADS, DIM, WINDOW)
    cache.reset(position=10**12)
    sizes = set()
    for part in tokens(3000, seed=2).split(50, dim=2):
        step(cache, part)
        sizes.add(cache.nbytes)
    print("2. A stream never ends. From position 10^12 to", f"{cache.position:,}:")
    print(f"   at most {max(sizes):,} bytes, whatever its length\n")


def forks() -> None:
    cache = PagedKVCache(LAYERS, HEADS, DIM, WINDOW)
    step(cache, tokens(200, seed=3))
    before = cache.pool.used
    with cache.fork() as dream:
        print(f"3. A fork of {len(dream)} tokens takes {cache.pool.used - before} blocks more;")
        step(dream, tokens(1, seed=4))
        print(f"   its first own token copies {cache.pool.used - before}, the open one;")
    print(f"   when it ends, {cache.pool.used - before} are left. Nothing leaks.\n")


def prefixes() -> None:
    first = PrefixCache(LAYERS, HEADS, DIM, WINDOW, model="example")
    inputs = torch.arange(100.0).unsqueeze(1)  # what the tokens were computed from
    first.tag(inputs)
    step(first, tokens(100, seed=5))
    second = first.sibling()
    taken = second.adopt(inputs)
    print(f"4. A second sequence that begins alike takes over {taken} of its 100 tokens,")
    shared = len(set(first.block_table) & set(second.block_table))
    print(f"   in {shared} shared blocks, instead of computing them again\n")


def restart() -> None:
    cache, again = (QuantizedKVCache(LAYERS, HEADS, DIM, WINDOW) for _ in range(2))
    step(cache, tokens(500, seed=6))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sequence.safetensors"
        save_sequence(cache, path, model="example")
        load_sequence(again, path, model="example")
        size = path.stat().st_size
    same = torch.equal(step(cache, tokens(1, seed=7)), step(again, tokens(1, seed=7)))
    print(
        f"5. Saved in {size:,} bytes and loaded: the next answer is the same to the bit: {same}\n"
    )


def budget() -> None:
    spec = QuantizedKVCache(LAYERS, HEADS, DIM, WINDOW).spec
    caches = KVCacheManager(1 << 20)
    names = [f"symbol {i}" for i in range(10)]
    opened = {name: caches.open(name, spec, step_tokens=50) for name in names}
    for name in names:
        for part in tokens(200, seed=8).split(50, dim=2):
            step(opened[name], part)
    metrics = caches.metrics()
    gone = [name for name in names if opened[name].evicted]
    print(f"6. {metrics.budget_bytes:,} bytes for {metrics.sequences} sequences:")
    print(f"   {metrics.used_bytes:,} used, {metrics.evictions} least recently used evicted")
    print(f"   ({', '.join(gone)}), to be rebuilt at their next use")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    kinds()
    forever()
    forks()
    prefixes()
    restart()
    budget()
