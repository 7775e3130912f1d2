"""The paged window against a plain list of tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bot.kvcache import CacheError, CacheSpec, OutOfBlocks, WindowCache, round_trip
from bot.kvcache.layout import Layout
from bot.kvcache.pool import Arena, BlockPool

HEADS, KV_HEADS, DIM = 4, 2, 4


def pool_for(spec: CacheSpec, blocks: int = 400) -> BlockPool:
    block_bytes = Layout(spec).block_bytes
    return BlockPool(Arena(blocks * block_bytes, slab_bytes=block_bytes), block_bytes)


def fresh(kv_cache_dtype: str = "float64", window: int = 7, block_size: int = 3) -> WindowCache:
    spec = CacheSpec(
        layers=2,
        kv_heads=KV_HEADS,
        head_dim=DIM,
        window=window,
        block_size=block_size,
        kv_cache_dtype=kv_cache_dtype,
    )
    return WindowCache(Layout(spec), pool_for(spec))


def vectors(seed: int, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One token's q [H, D], k and v [Hkv, D]: a pure function of its number."""
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    draw = torch.randn(HEADS + 2 * KV_HEADS, DIM, generator=generator, dtype=torch.float64)
    return draw[:HEADS], draw[HEADS : HEADS + KV_HEADS], draw[HEADS + KV_HEADS :]


def feed(cache: WindowCache, seeds: list[int]) -> list[torch.Tensor]:
    """Append the tokens as one step; per layer, what they saw [T, H, D]."""
    outs = []
    for layer in range(cache.spec.layers):
        rows = [vectors(seed, layer) for seed in seeds]
        q, k, v = (torch.stack(part) for part in zip(*rows, strict=True))
        cache.append(layer, k, v)
        outs.append(cache.attend(layer, q)[0])
    return outs


def expected(past: list[int], layer: int, window: int, kv_cache_dtype: str) -> torch.Tensor:
    """What the newest token of a plain list sees: softmax over its window, head by head."""
    q = vectors(past[-1], layer)[0]
    seen = past[-window:]
    k = round_trip(torch.stack([vectors(s, layer)[1] for s in seen]), kv_cache_dtype)
    v = round_trip(torch.stack([vectors(s, layer)[2] for s in seen]), kv_cache_dtype)
    rows = []
    for head in range(HEADS):
        kv_head = head * KV_HEADS // HEADS
        weights = (k[:, kv_head] @ q[head] / DIM**0.5).softmax(0)
        rows.append(weights @ v[:, kv_head])
    return torch.stack(rows)


class CacheAgainstLists(RuleBasedStateMachine):
    """Random lives of a cache and its forks, each mirrored by a list of the tokens it holds."""

    caches = Bundle("caches")

    def __init__(self) -> None:
        super().__init__()
        self.kind = "int8"
        self.root = fresh(self.kind)
        self.past: dict[int, list[int]] = {id(self.root): []}
        self.alive: dict[int, WindowCache] = {id(self.root): self.root}
        self.next_seed = 0

    @rule(target=caches)
    def the_root(self) -> WindowCache:
        return self.root

    @rule(cache=caches, count=st.integers(1, 9))
    def append(self, cache: WindowCache, count: int) -> None:
        seeds = list(range(self.next_seed, self.next_seed + count))
        self.next_seed += count
        past = self.past[id(cache)]
        before = list(past)
        past += seeds
        outs = feed(cache, seeds)
        for layer, out in enumerate(outs):
            for index in range(count):
                want = expected(before + seeds[: index + 1], layer, cache.spec.window, self.kind)
                assert torch.allclose(out[index], want, atol=1e-12)

    @rule(target=caches, cache=caches)
    def fork(self, cache: WindowCache) -> WindowCache:
        twin = cache.fork()
        self.alive[id(twin)] = twin
        self.past[id(twin)] = list(self.past[id(cache)])
        return twin

    @rule(cache=caches, keep=st.integers(0, 9))
    def truncate(self, cache: WindowCache, keep: int) -> None:
        cache.truncate(keep)
        past = self.past[id(cache)]
        del past[: max(len(past) - keep, 0)]

    @rule(cache=caches, position=st.sampled_from([0, 1, 5, 10**9 + 1]))
    def reset(self, cache: WindowCache, position: int) -> None:
        cache.reset(position)
        self.past[id(cache)].clear()

    @rule(cache=consumes(caches))
    def end_a_fork(self, cache: WindowCache) -> None:
        if cache is not self.root:
            with cache:
                pass
            self.past[id(cache)].clear()

    @invariant()
    def references_are_conserved(self) -> None:
        held: dict[int, int] = {}
        for cache in self.alive.values():
            for block in cache.block_table:
                held[block] = held.get(block, 0) + 1
        pool = self.root.pool
        assert pool.used == len(held)
        assert all(pool.refs(block) == count for block, count in held.items())

    @invariant()
    def no_block_is_held_longer_than_needed(self) -> None:
        for key, cache in self.alive.items():
            spec = cache.spec
            assert len(cache) == min(len(self.past[key]), spec.window - 1)
            first = (cache.position - len(cache)) // spec.block_size
            last = (cache.position - 1) // spec.block_size
            assert len(cache.block_table) == (last - first + 1 if len(cache) else 0)


TestCacheAgainstLists = CacheAgainstLists.TestCase
TestCacheAgainstLists.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("window", [1, 2, 3, 16, 17])
@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_every_token_sees_exactly_its_window(window: int, block_size: int) -> None:
    cache = fresh(window=window, block_size=block_size)
    for now in range(3 * window + 2):
        outs = feed(cache, [now])
        past = list(range(now + 1))
        for layer, out in enumerate(outs):
            assert torch.allclose(out[0], expected(past, layer, window, "float64"), atol=1e-12)


def test_the_block_size_does_not_change_a_bit_of_the_result() -> None:
    caches = [fresh("int8", window=20, block_size=size) for size in (1, 3, 16, 64)]
    for now in range(50):
        first, *others = (torch.stack(feed(cache, [now])) for cache in caches)
        assert all(torch.equal(first, other) for other in others)


def test_a_fork_and_its_parent_go_separate_ways() -> None:
    cache = fresh()
    feed(cache, [0, 1, 2, 3])
    with cache.fork() as twin:
        shared = set(cache.block_table) & set(twin.block_table)
        assert len(shared) == 2
        ours = feed(cache, [4])
        theirs = feed(twin, [5])
        assert torch.allclose(ours[1][0], expected([0, 1, 2, 3, 4], 1, 7, "float64"))
        assert torch.allclose(theirs[1][0], expected([0, 1, 2, 3, 5], 1, 7, "float64"))
        assert set(cache.block_table) & set(twin.block_table) == {cache.block_table[0]}
    assert cache.pool.used == len(cache.block_table)


def test_a_step_that_finds_no_room_changes_nothing() -> None:
    spec = CacheSpec(2, KV_HEADS, DIM, window=7, block_size=3, kv_cache_dtype="float64")
    cache = WindowCache(Layout(spec), pool_for(spec, blocks=3))
    feed(cache, [0, 1, 2, 3])
    _, k, v = (torch.stack([part] * 6) for part in vectors(9, 0))
    with pytest.raises(OutOfBlocks, match="3 blocks"):
        cache.append(0, k, v)
    assert (cache.position, cache.pool.used) == (4, 2)
    out = feed(cache, [4])[1][0]
    assert torch.allclose(out, expected([0, 1, 2, 3, 4], 1, 7, "float64"))


def test_bytes_are_those_of_the_blocks_held() -> None:
    cache = fresh("int8", window=7, block_size=16)
    assert cache.nbytes == 0
    feed(cache, [0])
    # 2 layers x 2 heads x 16 tokens: codes of 4 bytes and scales of 2, for keys and for values
    assert cache.nbytes == 2 * 2 * 16 * 2 * (4 + 2)


def test_calls_out_of_order_are_refused() -> None:
    cache = fresh()
    q, k, v = (part.unsqueeze(0) for part in vectors(0, 0))
    with pytest.raises(CacheError, match=r"append\(1\) but layer 0 is next"):
        cache.append(1, k, v)
    with pytest.raises(CacheError, match=r"must follow append"):
        cache.attend(0, q)
    cache.append(0, k, v)
    with pytest.raises(CacheError, match="inside a step: 1 of 2"):
        cache.fork()
    with pytest.raises(CacheError, match="inside a step"):
        cache.append(0, k, v)
    with pytest.raises(CacheError, match="2 queries for 1 tokens"):
        cache.attend(0, q.repeat(2, 1, 1))
    with pytest.raises(CacheError, match=r"must be \(1, 2, 4\)"):
        cache.append(1, k.repeat(2, 1, 1), v)
    cache.reset()
    feed(cache, [0])


def test_an_evicted_sequence_says_so_until_it_is_reset() -> None:
    cache = fresh()
    feed(cache, [0, 1])
    cache.surrender()
    assert (cache.evicted, cache.pool.used) == (True, 0)
    with pytest.raises(CacheError, match="evicted"):
        feed(cache, [2])
    cache.reset(1)
    out = feed(cache, [1, 2])[0][1]
    assert torch.allclose(out, expected([1, 2], 0, 7, "float64"))


@pytest.mark.parametrize("field", ["layers", "kv_heads", "head_dim", "window", "block_size"])
def test_a_geometry_of_nothing_is_refused(field: str) -> None:
    good = {"layers": 1, "kv_heads": 1, "head_dim": 2, "window": 1, "block_size": 1}
    with pytest.raises(ValueError, match=f"{field} must be at least 1, got 0"):
        CacheSpec(**{**good, field: 0})


def test_negative_positions_and_lengths_are_refused() -> None:
    cache = fresh()
    with pytest.raises(ValueError, match="-1"):
        cache.reset(-1)
    with pytest.raises(ValueError, match="-2"):
        cache.truncate(-2)
