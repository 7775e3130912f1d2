"""One byte budget for every sequence of every model.

When it is spent, the least recently used sequence goes whole. Its owner finds ``evicted`` set at
the next use, resets it and appends the inputs that it kept. Single-threaded, like the caches;
``metrics`` only reads counters and may be called from another thread.
"""

from __future__ import annotations

from msgspec import Struct

from bot.kvcache.cache import WindowCache
from bot.kvcache.layout import CacheSpec, Layout
from bot.kvcache.pool import Arena, BlockPool, OutOfBlocks


class CacheMetrics(Struct, frozen=True):
    """Counters since the start, and what is held now."""

    budget_bytes: int
    used_bytes: int
    used_blocks: int
    sequences: int
    hits: int
    """Steps that found their sequence where they had left it."""
    misses: int
    """Steps that first had to rebuild an evicted sequence."""
    evictions: int


class KVCacheManager:
    """Opens sequences by name and decides which one leaves when room is short."""

    def __init__(
        self, budget_bytes: int, *, slab_bytes: int = 1 << 20, device: str = "cpu"
    ) -> None:
        self._arena = Arena(budget_bytes, slab_bytes=slab_bytes, device=device)
        self._pools: dict[int, BlockPool] = {}  # by block_bytes
        self._sequences: dict[str, WindowCache] = {}  # least recently used first
        self._names: dict[int, str] = {}  # by id of the cache
        self._lost: set[str] = set()
        self._hits = self._misses = self._evictions = 0

    def open(self, name: str, spec: CacheSpec, *, step_tokens: int = 1) -> WindowCache:
        """A new, empty sequence, to which at most ``step_tokens`` are appended at once.

        Raises ValueError if the name is open, OutOfBlocks if the whole budget could not hold one
        window and one step of it.
        """
        if name in self._sequences:
            raise ValueError(f"sequence {name!r} is already open")
        layout = Layout(spec)
        pool = self._pools.get(layout.block_bytes)
        if pool is None:
            pool = self._pools[layout.block_bytes] = BlockPool(self._arena, layout.block_bytes)
        needed = spec.blocks_for(step_tokens)
        if needed > pool.capacity:
            raise OutOfBlocks(
                f"sequence {name!r} needs {needed} blocks of {layout.block_bytes:,} bytes for its "
                f"window of {spec.window} and steps of {step_tokens}, the budget of "
                f"{self._arena.nbytes:,} bytes holds {pool.capacity}: raise the budget "
                "or shorten the window"
            )
        cache = WindowCache(layout, pool, landlord=self)
        self._sequences[name] = cache
        self._names[id(cache)] = name
        return cache

    def close(self, name: str) -> None:
        """Forget a sequence and free its blocks. Raises KeyError for a name never opened."""
        cache = self._sequences.pop(name)
        del self._names[id(cache)]
        self._lost.discard(name)
        cache.surrender()

    def metrics(self) -> CacheMetrics:
        pools = tuple(self._pools.values())
        return CacheMetrics(
            budget_bytes=self._arena.nbytes,
            used_bytes=sum(pool.used * pool.block_bytes for pool in pools),
            used_blocks=sum(pool.used for pool in pools),
            sequences=len(self._sequences),
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
        )

    # --- the landlord of its caches ---------------------------------------------------------

    def used(self, cache: WindowCache) -> None:
        name = self._names.get(id(cache))
        if name is None:  # a fork: not evictable, so without a place in the order
            return
        self._sequences[name] = self._sequences.pop(name)
        if name in self._lost:
            self._lost.remove(name)
            self._misses += 1
        else:
            self._hits += 1

    def make_room(self, cache: WindowCache, blocks: int) -> None:
        pool = cache.pool
        if pool.available >= blocks:
            return
        for other in self._pools.values():
            other.trim()
        for name, victim in tuple(self._sequences.items()):
            if pool.available >= blocks:
                return
            if victim is cache or not victim.block_table:
                continue
            victim.surrender()
            self._lost.add(name)
            self._evictions += 1
            for other in self._pools.values():
                other.trim()
        if pool.available < blocks:
            raise OutOfBlocks(
                f"sequence {self._names.get(id(cache), 'a fork')!r} needs {blocks} more blocks of "
                f"{pool.block_bytes:,} bytes; {pool.available} are free of {pool.capacity} after "
                "every other sequence left: raise the budget, or shorten the window or the step"
            )
