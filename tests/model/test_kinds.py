"""Every kind of cache through a model, against the full forward with the same mask."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from bot.kvcache import CacheError, round_trip
from bot.kvcache.quantize import KV_CACHE_DTYPES, QUANTIZED
from tests.model.streaming import SINKS, WINDOW, build, cache_for, caches, inputs, stream

TOKENS = 3 * WINDOW + 5
FAR = 10**9
EXACT = [(torch.float64, "float64", 1e-10), (torch.float32, "float32", 1e-5)]


@pytest.mark.parametrize("kind", ["standard", "paged", "prefix"])
@pytest.mark.parametrize("sink_tokens", [0, SINKS, WINDOW + 2])
@pytest.mark.parametrize("position", [0, FAR])
@pytest.mark.parametrize("chunk", [1, 7, TOKENS])
@pytest.mark.parametrize(("dtype", "kv_cache_dtype", "most"), EXACT)
def test_streaming_is_the_full_forward_with_the_mask(
    kind: str,
    sink_tokens: int,
    position: int,
    chunk: int,
    dtype: torch.dtype,
    kv_cache_dtype: str,
    most: float,
) -> None:
    model, x = build(dtype, sink_tokens=sink_tokens), inputs(TOKENS, dtype)
    cache = cache_for(model, kind, kv_cache_dtype, position=position)
    assert (stream(model, x, cache, chunk) - model(x)).abs().max() < most


@pytest.mark.parametrize("sink_tokens", [0, SINKS])
@pytest.mark.parametrize("position", [3, FAR])
@pytest.mark.parametrize(("dtype", "kv_cache_dtype", "most"), EXACT)
def test_a_sequence_on_a_shared_prefix_is_the_full_forward(
    sink_tokens: int, position: int, dtype: torch.dtype, kv_cache_dtype: str, most: float
) -> None:
    model, x = build(dtype, sink_tokens=sink_tokens), inputs(TOKENS, dtype)
    manager = caches()
    first, second = (
        cache_for(model, "prefix", kv_cache_dtype, position=position, manager=manager)
        for _ in range(2)
    )
    stream(model, x, first)
    other = torch.cat((x[:30], inputs(TOKENS - 30, dtype, seed=9)))
    got = torch.cat((model.prefill(other[:32], second), stream(model, other[32:], second)))
    assert len(got) < TOKENS - 20
    assert (got - model(other)[-len(got) :]).abs().max() < most
    assert manager.metrics().prefix_hits == (position + 30) // 5 - position // 5


@pytest.mark.parametrize("kind", ["standard", "paged", "prefix"])
@pytest.mark.parametrize("sink_tokens", [0, SINKS])
@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("kv_cache_dtype", sorted(QUANTIZED))
def test_a_quantized_cache_is_the_forward_with_quantized_keys_and_values(
    kind: str, sink_tokens: int, chunk: int, kv_cache_dtype: str
) -> None:
    model, x = build(torch.float64, sink_tokens=sink_tokens), inputs(TOKENS, torch.float64)
    keys, values = KV_CACHE_DTYPES[kv_cache_dtype]
    expected = model(
        x,
        through=partial(round_trip, kv_cache_dtype=keys),
        through_values=partial(round_trip, kv_cache_dtype=values),
    )
    cache = cache_for(model, f"quantized+{kind}", kv_cache_dtype)
    assert (stream(model, x, cache, chunk) - expected).abs().max() < 1e-10


def test_formats_rank_by_their_bits() -> None:
    model, x = build(torch.float64), inputs(TOKENS, torch.float64)
    exact = model(x)
    errors = {}
    for name in QUANTIZED:
        got = stream(model, x, cache_for(model, "quantized", name))
        errors[name] = ((got - exact).norm() / exact.norm()).item()
    assert 1e-6 < errors["int8"] < 0.01
    assert errors["int8"] < errors["fp8_e4m3"] < errors["int4"] < 0.2
    assert errors["int8"] < errors["k8v4"] < errors["int4"]


@pytest.mark.parametrize("retention", ["attention_score", "recency", "entropy", "hybrid"])
@pytest.mark.parametrize("sink_tokens", [0, SINKS])
@pytest.mark.parametrize("position", [0, FAR])
@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize(("dtype", "kv_cache_dtype", "most"), EXACT)
def test_a_selective_cache_is_the_forward_with_a_mask_of_what_it_kept(
    retention: str,
    sink_tokens: int,
    position: int,
    chunk: int,
    dtype: torch.dtype,
    kv_cache_dtype: str,
    most: float,
) -> None:
    tokens = 3 * WINDOW + 4
    model, x = build(dtype, sink_tokens=sink_tokens), inputs(tokens, dtype)
    cache = cache_for(
        model, "selective", kv_cache_dtype, position=position, block_size=2,
        retention=retention, retain=8,
    )  # fmt: skip
    outs, visible = [], torch.zeros(tokens, tokens, dtype=torch.bool)
    band = torch.ones(tokens, tokens, dtype=torch.bool).tril().triu(1 - WINDOW)
    band[:, :sink_tokens] = True
    for start in range(0, tokens, chunk):
        rows = slice(start, start + chunk)
        held = [p - position for p in cache.positions]
        visible[rows, held] = True
        visible[rows, rows] = True
        outs.append(model.step(x[rows], cache))
    visible &= band.tril()
    assert (torch.cat(outs) - model(x, visible=visible)).abs().max() < most
    dropped = band.tril() & ~visible
    assert dropped.any()
    assert len(cache) <= 8 + sink_tokens + 2


@pytest.mark.parametrize("kind", ["standard", "paged"])
def test_sinks_and_the_last_inputs_within_reach_rebuild_a_sequence(kind: str) -> None:
    model = build(torch.float64, sink_tokens=SINKS)
    reach = model.config.reach
    x = inputs(2 * reach, torch.float64)
    lived = stream(model, x, cache_for(model, kind, "float64"))[-1]
    rebuilt = cache_for(model, kind, "float64")
    stream(model, x[:SINKS], rebuilt)
    rebuilt.seek(len(x) - reach)
    assert (stream(model, x[-reach:], rebuilt, 16)[-1] - lived).abs().max() < 1e-10


def test_a_seek_before_the_sinks_are_there_is_refused() -> None:
    model = build(torch.float64, sink_tokens=SINKS)
    cache = cache_for(model, "paged", "float64")
    stream(model, inputs(2, torch.float64), cache)
    with pytest.raises(CacheError, match="seek with 2 of 3 sinks"):
        cache.seek(20)
    with pytest.raises(ValueError, match="1 is before 2"):
        cache.seek(1)


@pytest.mark.parametrize("kind", ["standard", "paged", "quantized"])
@pytest.mark.parametrize("sink_tokens", [0, SINKS])
def test_a_row_of_a_batch_depends_on_nobody_else_to_the_last_bit(
    kind: str, sink_tokens: int
) -> None:
    model = build(torch.float32, sink_tokens=sink_tokens)
    dtype = "int8" if kind == "quantized" else "float32"
    lengths = [1, 4, 40, 11, 25, 12, 13, 2, 30, 17, 8]

    def decode(order: list[int]) -> dict[int, torch.Tensor]:
        opened = {}
        for row in order:
            opened[row] = cache_for(model, kind, dtype, position=1000 * row)
            stream(model, inputs(lengths[row], torch.float32, seed=row), opened[row], 64)
        last = {}
        for turn in range(3):
            x = torch.cat([inputs(1, torch.float32, seed=100 * turn + row) for row in order])
            last = dict(zip(order, model.decode(x, [opened[row] for row in order]), strict=True))
        return last

    together = decode(list(range(11)))
    for order in ([10, 3, 7, 1, 0, 2, 9, 8, 6, 5, 4], [5], [4, 9, 2]):
        for row, heads in decode(order).items():
            assert torch.equal(heads, together[row])
    alone = cache_for(model, kind, dtype, position=3000)
    stream(model, inputs(lengths[3], torch.float32, seed=3), alone, 64)
    for turn in range(3):
        heads = model.step(inputs(1, torch.float32, seed=100 * turn + 3), alone)[0]
    assert (heads - together[3]).abs().max() < 1e-5


@pytest.mark.parametrize("sink_tokens", [0, SINKS])
def test_the_block_size_changes_nothing_beyond_rounding(sink_tokens: int) -> None:
    model, x = build(torch.float32, sink_tokens=sink_tokens), inputs(TOKENS, torch.float32)
    outs = [
        stream(model, x, cache_for(model, "paged", "float32", block_size=size), 3)
        for size in (1, 3, 16, 64)
    ]
    outs.append(stream(model, x, cache_for(model, "standard", "float32"), 3))
    assert all((out - outs[0]).abs().max() < 1e-6 for out in outs)


def test_chunks_of_any_size_and_forks_between_them_change_nothing() -> None:
    model, x = build(torch.float64, sink_tokens=SINKS), inputs(TOKENS, torch.float64)
    expected = model(x)
    for kind in ("standard", "paged", "prefix"):
        cache = cache_for(model, kind, "float64")
        start = 0
        for size in (1, 9, 2, 15, 4, 10):
            with cache.fork() as dream:
                stream(model, inputs(6, torch.float64, seed=77), dream, 4)
            got = model.step(x[start : start + size], cache)
            assert (got - expected[start : start + size]).abs().max() < 1e-10
            start += size


@pytest.mark.parametrize("layer", [0, 2])
def test_a_batch_in_which_one_row_fails_leaves_every_sequence_as_it_was(layer: int) -> None:
    model = build(torch.float32)
    opened = [cache_for(model, "paged", "float32") for _ in range(3)]
    for row, cache in enumerate(opened):
        stream(model, inputs(9 + row, torch.float32, seed=row), cache)
    expected = [model.step(inputs(1, torch.float32), cache.fork()) for cache in opened]
    used = [cache.pool.used for cache in opened]
    if layer == 0:
        x = inputs(3, torch.float32)
        x[1] = torch.nan
        with pytest.raises(FloatingPointError, match="keys of layer 0 at position 10 reach nan"):
            model.decode(x, opened)
    else:
        whole = model.blocks[layer].qkv.clone()
        model.blocks[layer].qkv.fill_(torch.inf)
        with pytest.raises(FloatingPointError, match="of layer 2"):
            model.decode(inputs(3, torch.float32), opened)
        model.blocks[layer].qkv.copy_(whole)
    assert [cache.position for cache in opened] == [9, 10, 11]
    assert [cache.pool.used for cache in opened] == used
    for cache, want in zip(opened, expected, strict=True):
        assert torch.equal(model.step(inputs(1, torch.float32), cache), want)
