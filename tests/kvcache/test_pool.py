"""Blocks, slabs and reference counts."""

import pytest
import torch

from bot.kvcache.pool import Arena, BlockPool, OutOfBlocks


def test_a_pool_gives_each_block_once_until_it_is_freed() -> None:
    pool = BlockPool(Arena(4 * 128, slab_bytes=128), 64)
    blocks = [pool.allocate() for _ in range(8)]
    assert sorted(blocks) == list(range(8))
    with pytest.raises(OutOfBlocks, match=r"all 8 blocks of 64 bytes.*512 bytes"):
        pool.allocate()
    pool.free(blocks[3])
    assert pool.allocate() == blocks[3]


def test_a_shared_block_returns_only_with_its_last_reference() -> None:
    pool = BlockPool(Arena(128, slab_bytes=128), 64)
    block = pool.allocate()
    pool.share(block)
    pool.free(block)
    assert (pool.used, pool.refs(block)) == (1, 1)
    pool.free(block)
    assert (pool.used, pool.refs(block)) == (0, 0)
    with pytest.raises(ValueError, match="not in use"):
        pool.free(block)


def test_pools_of_two_sizes_share_slabs_through_trim() -> None:
    arena = Arena(2 * 192, slab_bytes=192)
    small, large = BlockPool(arena, 64), BlockPool(arena, 192)
    held = [small.allocate() for _ in range(4)]
    assert large.available == 0
    small.free(held[3])
    assert small.trim() == 1
    assert (large.available, small.used) == (1, 3)
    large.allocate()
    assert (small.available, arena.free_runs(1)) == (0, 0)


def test_blocks_do_not_overlap() -> None:
    pool = BlockPool(Arena(3 * 192, slab_bytes=192), 64)
    blocks = [pool.allocate() for _ in range(9)]
    for block in blocks:
        pool.storage[divmod(block, pool.per_slab)] = block + 1
    for block in blocks:
        assert torch.all(pool.storage[divmod(block, pool.per_slab)] == block + 1)


@pytest.mark.parametrize(("budget", "slab", "block"), [(100, 128, 64), (128, 64, 192)])
def test_a_budget_that_holds_no_block_is_refused(budget: int, slab: int, block: int) -> None:
    with pytest.raises((ValueError, OutOfBlocks), match=r"holds no slab|does not fit the whole"):
        BlockPool(Arena(budget, slab_bytes=slab), block)


def test_a_slab_size_off_the_cache_line_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        Arena(1000, slab_bytes=100)


def test_long_and_short_blocks_of_one_arena_do_not_overlap() -> None:
    arena = Arena(7 * 192, slab_bytes=192)
    small, long = BlockPool(arena, 64), BlockPool(arena, 320)
    assert (long.capacity, long.available) == (3, 3)
    pools = [small, long, small, long, small, small]
    blocks = [(pool, pool.allocate()) for pool in pools]
    for number, (pool, block) in enumerate(blocks):
        pool.block(block).fill_(number + 1)
    for number, (pool, block) in enumerate(blocks):
        assert torch.all(pool.block(block) == number + 1)
        assert torch.all(pool.storage[divmod(block, pool.per_slab)] == number + 1)
    assert long.available == 0  # the shorts lie in two slabs, the second breaks the last run
    for pool, block in blocks:
        pool.free(block)
    small.trim()
    long.trim()
    assert arena.free_runs(1) == 7
    assert arena.free_runs(2) == 3
