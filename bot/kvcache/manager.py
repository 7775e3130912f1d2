"""One byte budget for every sequence of every model.

When it is spent, shared prefixes that nobody uses go first, then the least recently used sequence
goes whole. Its owner finds ``evicted`` set at the next use, resets it and appends the inputs that
it kept. Single-threaded, like the caches; ``metrics`` only reads counters and may be called from
another thread.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bot.kvcache.cache import WindowCache
from bot.kvcache.layout import CacheSpec, Layout
from bot.kvcache.pool import Arena, BlockPool, OutOfBlocks
from bot.kvcache.prefix import PrefixIndex


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
    refusals: int
    """Steps that found no room."""
    prefix_lookups: int
    """Full blocks that beginning sequences asked for."""
    prefix_hits: int
    """Of these, blocks that did not have to be computed again."""
    prefix_blocks: int
    """Blocks that are known by their inputs now."""


class KVCacheManager:
    """Opens sequences by name and decides which one leaves when room is short."""

    def __init__(
        self,
        budget_bytes: int,
        *,
        slab_bytes: int = 1 << 20,
        device: str = "cpu",
        when_full: Literal["evict", "refuse"] = "evict",
    ) -> None:
        """``when_full``: whether another sequence leaves for a step, or the step is refused."""
        if when_full not in ("evict", "refuse"):
            raise ValueError(f"when_full {when_full!r} is not one of evict, refuse")
        self._arena = Arena(budget_bytes, slab_bytes=slab_bytes, device=device)
        self._when_full = when_full
        self._pools: dict[int, BlockPool] = {}  # by block_bytes
        self._prefixes = PrefixIndex()
        self._sequences: dict[str, WindowCache] = {}  # least recently used first
        self._names: dict[int, str] = {}  # by id of the cache
        self._lost: set[str] = set()
        self._hits = self._misses = self._evictions = self._refusals = 0

    def open(self, name: str, spec: CacheSpec, *, step_tokens: int = 1) -> WindowCache:
        """A new, empty sequence, to which at most ``step_tokens`` are appended at once.

        Raises ValueError if the name is open, OutOfBlocks if the whole budget could not hold one
        window and one step of it.
        """
        if name in self._sequences:
            raise ValueError(f"sequence {name!r} is already open")
        cache = self.anonymous(spec)
        pool = cache.pool
        needed = spec.blocks_for(step_tokens)
        if needed > pool.capacity:
            raise OutOfBlocks(
                f"sequence {name!r} needs {needed} blocks of {pool.block_bytes:,} bytes for its "
                f"window of {spec.window} and steps of {step_tokens}, the budget of "
                f"{self._arena.nbytes:,} bytes holds {pool.capacity}: raise the budget "
                "or shorten the window"
            )
        self._sequences[name] = cache
        self._names[id(cache)] = name
        return cache

    def anonymous(self, spec: CacheSpec) -> WindowCache:
        """A new, empty sequence without a name: like a fork it is never evicted, and gives its
        blocks back when it is reset or forgotten."""
        layout = Layout(spec)
        return WindowCache(layout, self.pool(layout), landlord=self, prefixes=self._prefixes)

    def pool(self, layout: Layout) -> BlockPool:
        """The pool of blocks of this size. Raises OutOfBlocks if the budget holds not one."""
        pool = self._pools.get(layout.block_bytes)
        if pool is None:
            pool = self._pools[layout.block_bytes] = BlockPool(self._arena, layout.block_bytes)
        return pool

    @property
    def prefixes(self) -> PrefixIndex:
        """What sequences share by their inputs; ``clear`` it to give the blocks back."""
        return self._prefixes

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
            refusals=self._refusals,
            prefix_lookups=self._prefixes.lookups,
            prefix_hits=self._prefixes.hits,
            prefix_blocks=len(self._prefixes),
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
        self._trim()
        self._prefixes.make_room(pool, blocks)
        if self._when_full == "evict":
            self._evict_for(cache, blocks)
        if pool.available < blocks:
            self._refusals += 1
            left = (
                "every other sequence left"
                if self._when_full == "evict"
                else "unused prefixes left"
            )
            raise OutOfBlocks(
                f"sequence {self._names.get(id(cache), 'a fork')!r} needs {blocks} more blocks of "
                f"{pool.block_bytes:,} bytes; {pool.available} are free of {pool.capacity} after "
                f"{left}: raise the budget, or shorten the window or the step"
            )

    def _evict_for(self, cache: WindowCache, blocks: int) -> None:
        for name, victim in tuple(self._sequences.items()):
            if cache.pool.available >= blocks:
                return
            if victim is cache or not victim.block_table:
                continue
            victim.surrender()
            self._lost.add(name)
            self._evictions += 1
            self._trim()
            # blocks that only the index still holds are of no use to anyone now
            self._prefixes.make_room(cache.pool, blocks)

    def _trim(self) -> None:
        for pool in self._pools.values():
            pool.trim()
