"""Blocks that sequences share because they began alike."""

from __future__ import annotations

import pytest
import torch

from bot.kvcache import CacheError, CacheSpec, KVCacheManager, PrefixCache, WindowCache

SIZE, WINDOW = 4, 10


def inputs(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def feed(cache: WindowCache, x: torch.Tensor, *, tag: bool = True) -> None:
    if tag:
        cache.tag(x)
    for layer in range(cache.spec.layers):
        rows = x.unsqueeze(1).expand(-1, cache.spec.kv_heads, cache.spec.head_dim)
        cache.append(layer, rows, rows + layer)
        cache.attend(layer, rows, rows if cache.spec.sinks else None)


def begin(cache: WindowCache, x: torch.Tensor) -> int:
    taken = cache.adopt(x)
    feed(cache, x[taken:])
    return taken


def prefix_cache(**changes: object) -> WindowCache:
    return PrefixCache(2, 1, 2, WINDOW, **{"model": "m", "block_size": SIZE, **changes})


def test_a_second_sequence_takes_over_whole_blocks_and_computes_the_rest() -> None:
    first = prefix_cache()
    second = first.sibling()
    begin(first, inputs(*range(11)))
    assert begin(second, inputs(*range(9), 50, 51)) == 8
    assert second.block_table[:2] == first.block_table[:2]
    assert second.block_table[2] != first.block_table[2]
    assert second.position == 11


def test_the_last_token_is_never_taken_over() -> None:
    first = prefix_cache()
    begin(first, inputs(*range(8)))
    assert first.sibling().adopt(inputs(*range(8))) == 4
    assert first.sibling().adopt(inputs(*range(9))) == 8
    assert first.sibling().adopt(inputs(0)) == 0


def test_a_long_beginning_needs_only_the_blocks_within_the_window() -> None:
    first = prefix_cache()
    begin(first, inputs(*range(41)))
    # the oldest blocks are no longer in use and are the first to go
    index = first._prefixes
    index.make_room(first.pool, first.pool.available + 5)
    second = first.sibling()
    assert begin(second, inputs(*range(41))) == 40
    assert second.positions == first.positions
    assert index.hits == 10


def test_sinks_are_needed_too() -> None:
    first = prefix_cache(sinks=2)
    begin(first, inputs(*range(41)))
    index = first._prefixes
    assert first.sibling().adopt(inputs(*range(41))) == 40
    first.reset()
    index.make_room(first.pool, first.pool.available + 1)  # the sinks' block was used longest ago
    assert first.sibling().adopt(inputs(*range(41))) == 0


@pytest.mark.parametrize("what", ["inputs", "origin", "model", "dtype", "window"])
def test_sequences_that_differ_share_nothing(what: str) -> None:
    caches = KVCacheManager(1 << 20)
    values: dict[str, object] = {
        "layers": 2, "kv_heads": 1, "head_dim": 2, "window": WINDOW, "block_size": SIZE,
        "kv_cache_dtype": "float32", "prefix": "m",
    }  # fmt: skip
    first = caches.anonymous(CacheSpec(**values))
    changes: dict[str, dict[str, object]] = {
        "model": {"prefix": "other"},
        "dtype": {"kv_cache_dtype": "float16"},
        "window": {"window": WINDOW + 1},
    }
    second = caches.anonymous(CacheSpec(**{**values, **changes.get(what, {})}))
    begin(first, inputs(*range(20)))
    if what == "origin":
        second.reset(SIZE)
    x = inputs(99, *range(1, 20)) if what == "inputs" else inputs(*range(20))
    assert second.adopt(x) == 0
    assert caches.anonymous(first.spec).adopt(inputs(*range(20))) == 16


def test_a_sequence_that_starts_within_a_block_shares_it_with_its_like() -> None:
    first = prefix_cache()
    first.reset(10**9 + 3)
    begin(first, inputs(*range(12)))
    second = first.sibling()
    second.reset(10**9 + 3)
    assert begin(second, inputs(*range(12))) == 9
    assert second.positions == first.positions


@pytest.mark.parametrize("how", ["untagged", "truncated", "sought"])
def test_what_does_not_follow_from_the_inputs_alone_is_not_offered(how: str) -> None:
    first = prefix_cache()
    begin(first, inputs(*range(8)))
    if how == "untagged":
        feed(first, inputs(8), tag=False)
    elif how == "truncated":
        first.truncate(2)
    else:
        first.seek(8)
    feed(first, inputs(*range(9 if how == "untagged" else 8, 20)))
    assert first.sibling().adopt(inputs(*range(20))) == 8


def test_a_tag_is_for_the_next_step_alone() -> None:
    first = prefix_cache()
    first.tag(inputs(*range(4)))
    with pytest.raises(CacheError, match="must be"):
        first.append(0, torch.zeros(4, 9, 9), torch.zeros(4, 9, 9))
    feed(first, inputs(*range(50, 54)), tag=False)
    assert first.sibling().adopt(inputs(*range(5))) == 0


def test_truncating_nothing_away_changes_nothing() -> None:
    first = prefix_cache()
    begin(first, inputs(*range(8)))
    first.truncate(8)
    feed(first, inputs(*range(8, 13)))
    assert first.sibling().adopt(inputs(*range(20))) == 12


def test_a_fork_goes_on_offering_its_own_continuation() -> None:
    first = prefix_cache()
    begin(first, inputs(*range(6)))
    with first.fork() as twin:
        feed(twin, inputs(70, 71, 72, 73, 74, 75))
    feed(first, inputs(*range(6, 13)))
    assert first.sibling().adopt(inputs(*range(6), 70, 71, 72, 73, 74, 75, 0)) == 12
    assert first.sibling().adopt(inputs(*range(13), 0)) == 12


def test_a_beginning_outlives_its_sequence_until_room_is_needed() -> None:
    spec = prefix_cache().spec
    block_bytes = prefix_cache().pool.block_bytes
    caches = KVCacheManager(8 * block_bytes, slab_bytes=block_bytes)
    first = caches.open("first", spec)
    begin(first, inputs(*range(13)))
    caches.close("first")
    metrics = caches.metrics()
    assert (metrics.used_blocks, metrics.prefix_blocks) == (3, 3)
    assert begin(caches.open("second", spec), inputs(*range(13))) == 12
    begin(caches.open("third", spec), inputs(*range(100, 120)))
    metrics = caches.metrics()
    assert metrics.evictions == 0
    assert metrics.used_blocks <= 8
    assert (metrics.prefix_hits, metrics.prefix_lookups) == (3, 3 + 3 + 4)
    for name in ("second", "third"):
        caches.close(name)
    caches.prefixes.clear()
    assert caches.metrics().used_blocks == 0


def test_adopting_comes_first() -> None:
    cache = prefix_cache()
    feed(cache, inputs(1))
    with pytest.raises(CacheError, match="adopt must come first, 1 in"):
        cache.adopt(inputs(1, 2))
