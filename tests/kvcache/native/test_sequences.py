"""How the native step treats the caches it is given: forks, prefixes, refusals, budgets, leaks."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from bot.kvcache import CacheError, KVCacheManager, OutOfBlocks
from bot.kvcache.layout import Layout
from bot.model.checkpoint import CheckpointError
from bot.model.native import NativeDecoder
from tests.kvcache.native.builders import (
    FEATURES,
    budget,
    cache_for,
    decoder,
    inputs,
    model,
    needs_native,
    one_by_one,
)

pytestmark = needs_native
WINDOW = 40


def test_a_fork_goes_its_own_way() -> None:
    of, caches = model(window=WINDOW), budget()
    by, trunk = decoder(of), cache_for(of, caches=caches)
    past, mine, theirs = inputs(21), inputs(30, 3), inputs(30, 4)
    by.step(past, trunk)
    with trunk.fork() as twin:
        both = [
            by.decode(torch.stack(pair), [trunk, twin]) for pair in zip(mine, theirs, strict=True)
        ]
        for row, x in enumerate((mine, theirs)):
            lone = cache_for(of)
            by.step(past, lone)
            assert torch.equal(torch.stack([b[row] for b in both]), one_by_one(by, x, lone))
    caches.close("test")
    assert caches.metrics().used_blocks == 0


def test_a_known_prefix_is_not_computed_again() -> None:
    of, caches, by = model(window=WINDOW), budget(), decoder(model(window=WINDOW))
    spec = of.config.cache_spec("prefix", kv_cache_dtype="int8", block_size=8, model="m")
    x = inputs(30)
    first, second = caches.open("first", spec), caches.open("second", spec)
    expected = by.prefill(x, first)
    got = by.prefill(x, second)
    assert caches.metrics().prefix_hits == 3
    assert len(got) == 30 - 24
    assert torch.equal(got, expected[24:])
    assert second.position == 30


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_input_that_is_no_number_is_refused_and_nothing_moves(value: float) -> None:
    of, by = model(), decoder(model())
    caches = budget()
    pair = [cache_for(of, caches=caches, name=name) for name in "ab"]
    before = by.decode(inputs(2), pair)
    used = caches.metrics().used_blocks
    broken = inputs(2, 3)
    broken[1, 4] = value
    with pytest.raises(ValueError, match=rf"feature 4 of row 1 is {value}: inputs must be finite"):
        by.decode(broken, pair)
    assert [cache.position for cache in pair] == [1, 1]
    assert caches.metrics().used_blocks == used
    fresh = [cache_for(of), cache_for(of)]
    assert torch.equal(by.decode(inputs(2), fresh), before)
    assert torch.equal(by.decode(inputs(2, 3), pair), by.decode(inputs(2, 3), fresh))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, FEATURES + 1), r"x is torch.float32 \(1, 7\), must be .* \(1, 6\)"),
        (torch.zeros(2, FEATURES), r"\(2, 6\), must be contiguous float32 \(1, 6\)"),
        (torch.zeros(1, FEATURES, dtype=torch.float64), "x is torch.float64"),
        (torch.zeros(1, FEATURES, 2)[:, :, 0], "must be contiguous"),
    ],
)
def test_inputs_of_another_shape_are_refused(x: torch.Tensor, message: str) -> None:
    of = model()
    with pytest.raises(ValueError, match=message):
        decoder(of).decode(x, [cache_for(of)])


def test_no_rows_are_refused() -> None:
    of = model()
    with pytest.raises(ValueError, match="at least one row"):
        decoder(of).step(torch.zeros(0, FEATURES), cache_for(of))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kv_cache_dtype": "int4"},
            r"cannot read kv_cache_dtype int4 .*models.decode to torch",
        ),
        ({"kv_cache_dtype": "float64"}, "cannot read kv_cache_dtype float64"),
        ({"kind": "standard"}, "cannot read a contiguous cache"),
        ({"kind": "selective"}, "retention"),
    ],
)
def test_caches_that_it_cannot_read_are_refused(changes: dict[str, str], message: str) -> None:
    of, options = model(window=400), {"kv_cache_dtype": "int8", **changes}
    spec = of.config.cache_spec(options.pop("kind", "paged"), **options)
    with pytest.raises(ValueError, match=message):
        decoder(of).decode(inputs(1), [budget().open("test", spec)])


def test_a_cache_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="the cache's window is 39, the model's 40"):
        decoder(model(window=40)).decode(inputs(1), [cache_for(model(window=39))])


def test_a_sequence_cannot_be_twice_in_a_batch() -> None:
    of, by = model(), decoder(model())
    cache = cache_for(of)
    by.decode(inputs(1), [cache])
    with pytest.raises(CacheError, match="begin_step inside a step"):
        by.decode(inputs(2), [cache, cache])
    assert cache.position == 1
    by.decode(inputs(1), [cache])


def _small_budget(of: object, blocks: int) -> KVCacheManager:
    block_bytes = Layout(of.config.cache_spec(kv_cache_dtype="int8")).block_bytes  # type: ignore[attr-defined]
    return KVCacheManager(blocks * block_bytes, slab_bytes=block_bytes)


@pytest.mark.parametrize("order", [1, -1])
def test_a_batch_beyond_the_budget_is_refused(order: int) -> None:
    of = model(window=WINDOW)
    by, caches = decoder(of), _small_budget(of, 5)
    spec = of.config.cache_spec(kv_cache_dtype="int8")
    pair = [caches.open(name, spec) for name in "ab"]
    by.step(inputs(30), pair[0])
    by.step(inputs(32), pair[1])
    by.decode(inputs(2), pair)
    by.decode(inputs(2), pair)
    with pytest.raises(OutOfBlocks, match="does not hold a batch of 2"):
        by.decode(inputs(2), pair[::order])
    assert caches.metrics().used_blocks == sum(len(cache.block_table) for cache in pair)
    left = [cache for cache in pair if not cache.evicted]
    assert left
    for cache in left:
        by.decode(inputs(1), [cache])


def test_an_evicted_sequence_says_so() -> None:
    of, by = model(window=WINDOW), decoder(model(window=WINDOW))
    cache = cache_for(of)
    cache.surrender()
    with pytest.raises(CacheError, match="evicted sequence"):
        by.decode(inputs(1), [cache])


def test_a_weight_that_is_no_number_is_refused() -> None:
    of = model()
    of.blocks[1].up[3, 4] = float("nan")
    with pytest.raises(CheckpointError, match=r"weight blocks.1.up has values that are no number"):
        decoder(of)


@pytest.mark.parametrize("threads", [0, 257])
def test_an_impossible_number_of_threads_is_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be 1 to 256, got {threads}"):
        NativeDecoder(model(), "int8", threads)


def test_a_long_stream_holds_constant_memory() -> None:
    of, caches = model("odd", WINDOW), budget()
    by, cache = decoder(of), cache_for(of, caches=caches)
    held = set()
    for part in inputs(1500).split(1):
        by.decode(part, [cache])
        held.add(caches.metrics().used_bytes)
    most = cache.spec.blocks_for(1) * cache.pool.block_bytes
    assert max(held) <= most
    cache.reset()
    assert caches.metrics().used_blocks == 0


def test_decoders_take_their_threads_with_them() -> None:
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("no /proc here")
    gc.collect()
    before = len(list(tasks.iterdir()))
    for _ in range(5):
        by = decoder(model("odd"), threads=4)
        by.step(inputs(3), cache_for(model("odd")))
        assert len(list(tasks.iterdir())) == before + 3
        del by
        gc.collect()
        assert len(list(tasks.iterdir())) == before
