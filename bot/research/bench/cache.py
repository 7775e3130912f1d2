"""What each kind of cache costs in bytes, time and error, and what sharing and eviction save.

Figures, not judgements. Attention alone, in torch: the whole step is ``decode.py``'s subject.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from msgspec import Struct

from bot.kvcache import CacheSpec, KVCacheManager, WindowCache, cache_spec
from bot.kvcache.attention import attend, attend_coded
from bot.kvcache.layout import Layout
from bot.kvcache.quantize import formats_named
from bot.kvcache.table import Held
from bot.model.transformer import CausalTransformer, TransformerConfig, initialize

Row = dict[str, Any]

CONTEXTS = (256, 512, 1_024, 2_048, 4_096, 8_192)
STREAM_TOKENS = 1_000_000
_KINDS = (
    ("standard", "float32"),
    ("paged", "float32"),
    ("paged", "float16"),
    ("quantized", "int8"),
    ("quantized", "fp8_e4m3"),
    ("quantized", "k8v4"),
    ("quantized", "int4"),
    ("quantized+selective", "int8"),
)
_ROUNDS = 15
_CHUNK = 64


class _Shape(Struct, frozen=True):
    layers: int
    heads: int
    head_dim: int


_SHAPES = {"A": _Shape(6, 8, 64), "B": _Shape(4, 4, 32)}


def rows(
    *, contexts: tuple[int, ...] = CONTEXTS, stream_tokens: int = STREAM_TOKENS
) -> Iterator[Row]:
    """All measurements, one at a time; ``measure`` says which. Takes a minute or two.

    memory: ``nbytes`` of one full window, ``of_fp16``, ``step_us`` of one token through append and
    attend of every layer, ``rel_error`` of the attention output on Gaussian heads.
    prefix, eviction, stream: see the functions.
    """
    with torch.inference_mode():
        for name, shape in _SHAPES.items():
            for context in contexts:
                yield from memory_rows(name, shape, context)
        yield prefix_row()
        yield eviction_row()
        yield stream_row(stream_tokens)


def memory_rows(model: str, shape: _Shape, context: int) -> list[Row]:
    """A row a kind: a window of ``context`` tokens, full."""
    half = _layout(shape, context, "paged", "float16").token_bytes * context
    found = []
    for kind, dtype in _KINDS:
        layout = _layout(shape, context, kind, dtype)
        cache = _full(layout)
        found.append(
            {
                "measure": "memory",
                "model": model,
                "context": context,
                "kind": kind,
                "kv_cache_dtype": dtype,
                "nbytes": cache.nbytes,
                "of_fp16": cache.nbytes / half,
                "step_us": _step_us(cache, shape),
                "rel_error": _rel_error(shape.head_dim, dtype),
                "threads": torch.get_num_threads(),
            }
        )
    return found


def prefix_row(*, sequences: int = 16, shared: int = 1_008, own: int = 16) -> Row:
    """Sequences that begin alike, computed alone and over shared blocks: model B's shape."""
    model = _model(window=shared + own)
    common = torch.randn(shared, 8, generator=torch.Generator().manual_seed(1))
    inputs = [
        torch.cat((common, torch.randn(own, 8, generator=torch.Generator().manual_seed(2 + i))))
        for i in range(sequences)
    ]
    results: dict[str, tuple[float, int]] = {}
    metrics = None
    for kind in ("paged", "prefix"):
        caches = KVCacheManager(1 << 26)
        spec = model.config.cache_spec(kind, kv_cache_dtype="int8", model="bench")
        opened = [caches.open(str(i), spec) for i in range(sequences)]
        began = time.perf_counter()
        for x, cache in zip(inputs, opened, strict=True):
            model.prefill(x, cache)
        metrics = caches.metrics()
        results[kind] = (time.perf_counter() - began, metrics.used_bytes)
    assert metrics is not None
    return {
        "measure": "prefix",
        "model": "B",
        "sequences": sequences,
        "shared_tokens": shared,
        "own_tokens": own,
        "hits": metrics.prefix_hits,
        "lookups": metrics.prefix_lookups,
        "alone_s": results["paged"][0],
        "shared_s": results["prefix"][0],
        "alone_nbytes": results["paged"][1],
        "shared_nbytes": results["prefix"][1],
    }


def eviction_row(*, sequences: int = 6, room: int = 4, turns: int = 60) -> Row:
    """More sequences than the budget holds, asked in turn, and what a rebuild costs: model B's
    shape with a window of 128, of which every rebuild appends all inputs within reach."""
    model = _model(window=128)
    spec = model.config.cache_spec(kv_cache_dtype="int8")
    layout = Layout(spec)
    budget = room * spec.blocks_for(_CHUNK) * layout.block_bytes
    caches = KVCacheManager(budget, slab_bytes=layout.block_bytes)
    opened = [caches.open(str(i), spec, step_tokens=_CHUNK) for i in range(sequences)]
    reach = torch.randn(model.config.reach, 8)
    found: dict[bool, list[float]] = {False: [], True: []}
    most = 0
    for turn in range(turns):
        # two sequences are asked always, the others in turn
        cache = opened[turn % 2] if turn % 3 else opened[2 + turn // 3 % (sequences - 2)]
        lost = cache.evicted or not cache.position
        began = time.perf_counter()
        if lost:
            cache.reset(cache.position)
            model.step(reach, cache)
        else:
            model.step(reach[:1], cache)
        found[lost].append((time.perf_counter() - began) * 1e6)
        most = max(most, caches.metrics().used_bytes)
    metrics = caches.metrics()
    return {
        "measure": "eviction",
        "model": "B",
        "sequences": sequences,
        "room": room,
        "budget_bytes": metrics.budget_bytes,
        "most_used_bytes": most,
        "hits": metrics.hits,
        "misses": metrics.misses,
        "evictions": metrics.evictions,
        "step_us": statistics.median(found[False]),
        "rebuild_us": statistics.median(found[True]),
    }


def stream_row(tokens: int) -> Row:
    """One endless stream through a tiny model, ``_CHUNK`` tokens at a time; then its steps of one
    token against those of a sequence just past its first window, in turn."""
    config = TransformerConfig(
        features=8, width=32, layers=2, heads=2, kv_heads=2, head_dim=16, hidden=64, window=128,
        horizons_ns=(1,), return_scale=(1.0,),
    )  # fmt: skip
    model = CausalTransformer(config)
    initialize(model, 1)
    caches = KVCacheManager(1 << 22)
    spec = config.cache_spec(kv_cache_dtype="int8")
    old, young = caches.open("old", spec), caches.open("young", spec)
    chunk = torch.randn(_CHUNK, 8)
    sizes = set()
    began = time.perf_counter()
    while old.position < tokens:
        model.step(chunk, old)
        if old.position > config.window:
            sizes.add(old.nbytes)
    wall_s = time.perf_counter() - began
    while young.position < 2 * config.window:
        model.step(chunk, young)
    timed: dict[str, list[float]] = {"old": [], "young": []}
    for _ in range(300):
        for name, cache in (("old", old), ("young", young)):
            timed[name].append(_timed_us(partial(model.step, chunk[:1], cache)))
    return {
        "measure": "stream",
        "tokens": old.position,
        "window": config.window,
        "wall_s": wall_s,
        "tokens_per_s": old.position / wall_s,
        "nbytes_least": min(sizes),
        "nbytes_most": max(sizes),
        "young_us": statistics.median(timed["young"]),
        "old_us": statistics.median(timed["old"]),
    }


def _layout(shape: _Shape, context: int, kind: str, dtype: str) -> Layout:
    spec: CacheSpec = cache_spec(
        kind,
        layers=shape.layers,
        kv_heads=shape.heads,
        head_dim=shape.head_dim,
        window=context,
        kv_cache_dtype=dtype,
        step_tokens=1,
    )
    return Layout(spec)


def _full(layout: Layout) -> WindowCache:
    """A cache whose window is full of zeros, at whatever length its kind keeps."""
    spec = layout.spec
    blocks = spec.blocks_for(1)
    caches = KVCacheManager((blocks + 1) * layout.block_bytes, slab_bytes=layout.block_bytes)
    cache = caches.anonymous(spec)
    held = min(spec.retain, spec.window) if spec.retention else spec.window
    numbers = [0] if spec.contiguous else list(range(-(-held // spec.block_size)))
    empty = torch.zeros(0)
    content = torch.zeros(len(numbers), layout.block_bytes, dtype=torch.uint8)
    scores = (empty.long(), empty.double(), empty.double()) if spec.retention else ()
    cache.take(Held(held, 0, 0, numbers, content, scores))
    return cache


def _step_us(cache: WindowCache, shape: _Shape) -> float:
    q = torch.randn(1, shape.heads, shape.head_dim)

    def step() -> None:
        for layer in range(shape.layers):
            cache.append(layer, q, q)
            cache.attend(layer, q)

    for _ in range(2):
        step()
    return statistics.median(_timed_us(step) for _ in range(_ROUNDS))


def _rel_error(head_dim: int, dtype: str) -> float:
    """Of the attention output, over 1,024 Gaussian keys of unit RMS, as QK-norm makes them."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = (
        torch.randn(heads, tokens, head_dim, generator=generator)
        for heads, tokens in ((1, 64), (4, 1_024), (4, 1_024))
    )
    q = q.transpose(0, 1).expand(-1, 4, -1)
    keys, values = formats_named(dtype)
    exact, _ = attend(q, k, v)
    coded_k = keys.decode(*keys.encode(k), q.dtype)
    coded_v = values.decode(*values.encode(v), q.dtype)
    got, _, _ = attend_coded(q, coded_k, coded_v)
    return float((got - exact).norm() / exact.norm())


def _model(*, window: int) -> CausalTransformer:
    config = TransformerConfig(features=8, window=window, horizons_ns=(1,), return_scale=(1.0,))
    model = CausalTransformer(config)
    initialize(model, 1)
    return model.requires_grad_(requires_grad=False)


def _timed_us(call: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - began) / 1e3
