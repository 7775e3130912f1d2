"""The paged window against a plain list of tokens."""

from __future__ import annotations

import pytest
import torch

from bot.kvcache import CacheError, CacheSpec, NotFinite, OutOfBlocks, WindowCache, round_trip
from bot.kvcache.layout import Layout
from bot.kvcache.pool import Arena, BlockPool
from bot.kvcache.quantize import KV_CACHE_DTYPES

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


@pytest.mark.parametrize("contiguous", [False, True])
@pytest.mark.parametrize("kv_cache_dtype", sorted(KV_CACHE_DTYPES))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e300])
def test_what_cannot_be_stored_is_refused_and_changes_nothing(
    contiguous: bool, kv_cache_dtype: str, bad: float
) -> None:
    if kv_cache_dtype == "float64" and bad == -1e300:
        pytest.skip("float64 holds it")
    spec = CacheSpec(2, KV_HEADS, DIM, 7, 3, kv_cache_dtype, contiguous=contiguous)
    cache, other = (WindowCache(Layout(spec), pool_for(spec)) for _ in range(2))
    for each in (cache, other):
        feed(each, [0, 1, 2, 3, 4, 5, 6, 7])
    used = cache.pool.used
    _, k, v = (torch.stack([part] * 4) for part in vectors(9, 0))
    for layer, name in ((0, "values"), (1, "keys"), (1, "values")):
        if layer:
            cache.append(0, k, v)
            cache.attend(0, vectors(9, 0)[0].expand(4, -1, -1))
        broken = v.clone()
        broken[2, 1, 3] = bad
        pair = (broken, v) if name == "keys" else (k, broken)
        with pytest.raises(NotFinite, match=rf"{name} of layer {layer} at position 8 reach"):
            cache.append(layer, *pair)
        assert (cache.position, cache.pool.used) == (8, used)
    for ours, theirs in zip(feed(cache, [10, 11]), feed(other, [10, 11]), strict=True):
        assert torch.equal(ours, theirs)


def test_huge_tiny_and_constant_rows_come_through_attention() -> None:
    for kv_cache_dtype in KV_CACHE_DTYPES:
        cache = fresh(kv_cache_dtype)
        for scale in (0.0, 1e-30, 1e-6, 1.0, 6e4):
            x = torch.full((1, KV_HEADS, DIM), scale, dtype=torch.float64)
            for layer in range(2):
                cache.append(layer, x, x)
                out, _ = cache.attend(layer, torch.ones(1, HEADS, DIM, dtype=torch.float64))
                assert torch.isfinite(out).all()
        assert abs(out.max().item() / 6e4 - 1) < 1e-2


def test_a_contiguous_cache_takes_its_room_at_once_and_keeps_it() -> None:
    spec = CacheSpec(2, KV_HEADS, DIM, 7, kv_cache_dtype="float32", contiguous=True, step_tokens=4)
    cache = WindowCache(Layout(spec), pool_for(spec, blocks=1))
    feed(cache, [0])
    held = (cache.block_table, cache.nbytes)
    assert held == ((0,), 2 * KV_HEADS * (6 + 4) * DIM * 4 * 2)
    for now in range(1, 40):
        feed(cache, [now])
    cache.truncate(0)
    assert (cache.block_table, cache.nbytes) == held
    _, k, v = (torch.stack([part] * 5) for part in vectors(9, 0))
    with pytest.raises(CacheError, match="takes 4 tokens at once, not 5"):
        cache.append(0, k, v)


def test_an_abandoned_fork_gives_its_blocks_back() -> None:
    cache = fresh()
    feed(cache, [0, 1, 2, 3])
    twin = cache.fork()
    feed(twin, [4, 5, 6, 7])
    assert cache.pool.used > len(cache.block_table)
    del twin
    assert cache.pool.used == len(cache.block_table)
    assert all(cache.pool.refs(block) == 1 for block in cache.block_table)


def test_sinks_are_not_read_without_queries_for_them() -> None:
    spec = CacheSpec(1, KV_HEADS, DIM, 7, kv_cache_dtype="float64", sinks=2)
    cache = WindowCache(Layout(spec), pool_for(spec))
    q, k, v = (part.unsqueeze(0) for part in vectors(0, 0))
    cache.append(0, k, v)
    with pytest.raises(CacheError, match="reads them through q_sink"):
        cache.attend(0, q)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sinks": -1}, "sinks must not be negative"),
        ({"contiguous": True, "prefix": "m"}, "use a paged one"),
        ({"contiguous": True, "retention": "recency", "retain": 64}, "use a paged one"),
        ({"retain": 64}, "retain 64 without a retention rule"),
        ({"retention": "luck", "retain": 64}, "'luck' is not one of attention_score, recency"),
        ({"retention": "recency", "retain": 63}, "3 blocks of 16: at least 4"),
        ({"retention": "recency", "retain": 64, "prefix": "m"}, "cannot be shared"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CacheSpec(**{"layers": 1, "kv_heads": 1, "head_dim": 2, "window": 9, **changes})
