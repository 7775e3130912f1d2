"""One budget, many sequences."""

import pytest
import torch

from bot.kvcache import CacheSpec, KVCacheManager, OutOfBlocks, WindowCache
from bot.kvcache.layout import Layout

SMALL = CacheSpec(layers=1, kv_heads=1, head_dim=8, window=8, block_size=4)
LARGE = CacheSpec(layers=2, kv_heads=2, head_dim=16, window=8, block_size=4)
SLAB = Layout(LARGE).block_bytes


def feed(cache: WindowCache, tokens: int = 1) -> None:
    spec = cache.spec
    for layer in range(spec.layers):
        x = torch.ones(tokens, spec.kv_heads, spec.head_dim)
        cache.append(layer, x, x)
        cache.attend(layer, x)


def test_the_least_recently_used_sequence_leaves_whole() -> None:
    caches = KVCacheManager(6 * SLAB, slab_bytes=SLAB)
    first, second, third = (caches.open(name, LARGE) for name in ("first", "second", "third"))
    feed(first, 8)
    feed(second, 8)
    feed(first)
    feed(third, 8)
    assert [cache.evicted for cache in (first, second, third)] == [False, True, False]
    assert second.block_table == ()
    metrics = caches.metrics()
    assert (metrics.evictions, metrics.sequences) == (1, 3)
    assert metrics.used_bytes == sum(cache.nbytes for cache in (first, third))
    assert metrics.used_bytes <= metrics.budget_bytes == 6 * SLAB


def test_a_rebuild_counts_as_a_miss_and_other_steps_as_hits() -> None:
    caches = KVCacheManager(3 * SLAB, slab_bytes=SLAB)
    first, second = caches.open("first", LARGE), caches.open("second", LARGE)
    feed(first, 8)
    feed(second, 8)
    assert first.evicted
    first.reset(4)
    feed(first, 4)
    feed(first)
    metrics = caches.metrics()
    assert (metrics.hits, metrics.misses, metrics.evictions) == (3, 1, 2)


def test_sequences_of_another_shape_make_room_too() -> None:
    caches = KVCacheManager(3 * SLAB, slab_bytes=SLAB)
    small = [caches.open(f"small {i}", SMALL) for i in range(40)]
    for cache in small:
        feed(cache, 8)
    large = caches.open("large", LARGE)
    feed(large, 8)
    assert not large.evicted
    assert sum(cache.evicted for cache in small) > 0
    assert caches.metrics().used_bytes <= 3 * SLAB


def test_a_budget_too_small_for_one_window_is_refused_with_numbers() -> None:
    caches = KVCacheManager(2 * SLAB, slab_bytes=SLAB)
    with pytest.raises(OutOfBlocks, match=rf"needs 3 blocks of {SLAB:,}.*holds 2"):
        caches.open("large", LARGE)


def test_a_fork_is_never_evicted_and_a_step_without_room_says_so() -> None:
    caches = KVCacheManager(3 * SLAB, slab_bytes=SLAB)
    cache, other = caches.open("one", LARGE), caches.open("two", LARGE)
    feed(cache, 8)
    twin = cache.fork()
    with pytest.raises(OutOfBlocks, match="'two' needs 2 more blocks"):
        feed(other, 8)
    assert twin.block_table
    twin.reset()
    feed(other, 8)
    assert cache.evicted


def test_the_sequence_that_asks_is_never_the_victim() -> None:
    caches = KVCacheManager(3 * SLAB, slab_bytes=SLAB)
    cache = caches.open("one", LARGE)
    feed(cache, 4)
    with pytest.raises(OutOfBlocks, match="shorten the window or the step"):
        feed(cache, 12)
    assert (cache.evicted, cache.position) == (False, 4)


def test_names_are_unique_and_closing_frees() -> None:
    caches = KVCacheManager(3 * SLAB, slab_bytes=SLAB)
    feed(caches.open("one", LARGE), 8)
    with pytest.raises(ValueError, match="'one' is already open"):
        caches.open("one", SMALL)
    caches.close("one")
    assert caches.metrics().used_blocks == 0
    with pytest.raises(KeyError):
        caches.close("one")


def test_a_manager_that_refuses_evicts_nobody() -> None:
    caches = KVCacheManager(3 * SLAB, slab_bytes=SLAB, when_full="refuse")
    first, second = caches.open("first", LARGE), caches.open("second", LARGE)
    feed(first, 8)
    with pytest.raises(
        OutOfBlocks, match=rf"'second' needs 2 more blocks of {SLAB:,} bytes; 1 are"
    ):
        feed(second, 8)
    metrics = caches.metrics()
    assert (metrics.evictions, metrics.refusals, metrics.used_blocks) == (0, 1, 2)
    assert not first.evicted
    feed(second, 1)
    with pytest.raises(ValueError, match="'panic' is not one of evict, refuse"):
        KVCacheManager(3 * SLAB, when_full="panic")


def test_a_contiguous_sequence_longer_than_a_slab_gets_a_run_of_slabs() -> None:
    spec = CacheSpec(1, 2, 16, window=100, contiguous=True)
    caches = KVCacheManager(9 * 4096, slab_bytes=4096)
    small = [caches.open(f"small {i}", SMALL) for i in range(300)]
    for cache in small:
        feed(cache, 8)
    long = caches.open("long", spec)
    feed(long, 60)
    feed(long, 60)
    assert long.nbytes > 2 * 4096
    assert caches.metrics().evictions > 0
    assert caches.metrics().used_bytes <= 9 * 4096
    assert not all(cache.evicted for cache in small)
    with pytest.raises(OutOfBlocks, match=r"does not fit the whole budget of 36,864 bytes"):
        caches.open("longer", CacheSpec(1, 2, 16, window=5000, contiguous=True))


def test_shared_prefixes_leave_before_sequences_do() -> None:
    spec = CacheSpec(2, 2, 16, window=8, block_size=4, prefix="m")
    caches = KVCacheManager(6 * SLAB, slab_bytes=SLAB)
    first, second = caches.open("first", spec), caches.open("second", LARGE)
    for _ in range(6):
        first.tag(torch.randn(4, 1))
        feed(first, 4)
    assert caches.metrics().used_blocks == 6
    feed(second, 8)
    assert not first.evicted
    assert caches.metrics().evictions == 0
