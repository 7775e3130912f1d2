"""Random lives of caches of every kind and of their forks, against plain lists of tokens."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bot.kvcache import KV_CACHE_DTYPES, CacheSpec, KVCacheManager, WindowCache, round_trip

HEADS, KV_HEADS, DIM, LAYERS, WINDOW, SINKS = 4, 2, 4, 2, 7, 4
SPECS = {
    "paged": CacheSpec(LAYERS, KV_HEADS, DIM, WINDOW, 3, "int8"),
    "paged k8v4, blocks of one": CacheSpec(LAYERS, KV_HEADS, DIM, WINDOW, 1, "k8v4"),
    "standard": CacheSpec(LAYERS, KV_HEADS, DIM, WINDOW, 3, "float64", contiguous=True),
    "standard with sinks": CacheSpec(
        LAYERS, KV_HEADS, DIM, WINDOW, 3, "int4", contiguous=True, sinks=SINKS, step_tokens=9
    ),
    "paged with sinks": CacheSpec(LAYERS, KV_HEADS, DIM, WINDOW, 3, "fp8_e4m3", sinks=SINKS),
    "prefix": CacheSpec(LAYERS, KV_HEADS, DIM, WINDOW, 3, "int8", prefix="model"),
    "prefix with sinks": CacheSpec(
        LAYERS, KV_HEADS, DIM, WINDOW, 2, "k8v4", sinks=SINKS, prefix="model"
    ),
    "selective": CacheSpec(
        LAYERS, KV_HEADS, DIM, 30, 2, "int8", sinks=SINKS, retention="hybrid", retain=10
    ),
}


def vectors(seed: int, layer: int) -> torch.Tensor:
    """One token's q and q_sink [H, D] each, k and v [Hkv, D] each, stacked: of its number alone."""
    generator = torch.Generator().manual_seed(1000 * seed + layer)
    return torch.randn(2 * HEADS + 2 * KV_HEADS, DIM, generator=generator, dtype=torch.float64)


def split(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return rows.split([HEADS, HEADS, KV_HEADS, KV_HEADS], dim=-2)


def seen_by(
    now: int, sinks: list[int], recent: list[int], layer: int, kv_cache_dtype: str
) -> torch.Tensor:
    """What token ``now`` sees [H, D] by the definition, head by head, key by key."""
    q, q_sink = split(vectors(now, layer))[:2]
    keys, values = KV_CACHE_DTYPES[kv_cache_dtype]
    out = []
    for head in range(HEADS):
        kv_head = head * KV_HEADS // HEADS
        scores, rows = [], []
        for seeds, query in ((sinks, q_sink), (recent, q)):
            for seed in seeds:
                k, v = (part[kv_head] for part in split(vectors(seed, layer))[2:])
                scores.append(query[head] @ round_trip(k, keys) / math.sqrt(DIM))
                rows.append(round_trip(v, values))
        out.append(torch.stack(scores).softmax(0) @ torch.stack(rows))
    return torch.stack(out)


class Mirror:
    """The tokens of one cache as a list of (position, seed), by the rules in the docs."""

    def __init__(self) -> None:
        self.history: list[int] = []
        self.origin = 0
        self.start = 0
        self.whole = True  # nothing but the window has taken tokens away

    def copy(self) -> Mirror:
        twin = Mirror()
        twin.__dict__.update(self.__dict__)
        twin.history = list(self.history)
        return twin

    @property
    def position(self) -> int:
        return self.origin + len(self.history)

    def visible(self, spec: CacheSpec, at: int) -> tuple[list[int], list[int]]:
        """Positions of sinks and of window tokens that the token at ``at`` sees, itself too."""
        first_recent = self.origin + spec.sinks
        sinks = range(self.origin, min(first_recent, at + 1))
        low = max(at - spec.window + 1, self.start, first_recent)
        return list(sinks), list(range(low, at + 1))

    def seeds(self, positions: list[int]) -> list[int]:
        return [self.history[position - self.origin] for position in positions]


class Lives(RuleBasedStateMachine):
    spec: ClassVar[CacheSpec]
    caches = Bundle("caches")

    def __init__(self) -> None:
        super().__init__()
        self.manager = KVCacheManager(1 << 20, slab_bytes=1 << 14)
        self.alive: dict[int, tuple[WindowCache, Mirror]] = {}
        self.next_seed = 0
        self.root = self._enter(self.manager.anonymous(self.spec), Mirror())

    def _enter(self, cache: WindowCache, mirror: Mirror) -> WindowCache:
        self.alive[id(cache)] = (cache, mirror)
        return cache

    def _feed(self, cache: WindowCache, mirror: Mirror, seeds: list[int]) -> None:
        """Append as one step, and compare what every token saw with the definition."""
        spec, first = self.spec, mirror.position
        kept = set(cache.positions)
        mirror.history += seeds
        cache.tag(torch.tensor(seeds, dtype=torch.float32).unsqueeze(1))
        for layer in range(LAYERS):
            rows = torch.stack([vectors(seed, layer) for seed in seeds])
            q, q_sink, k, v = split(rows)
            cache.append(layer, k, v)
            out, _ = cache.attend(layer, q, q_sink)
            for index in range(len(seeds)):
                sinks, recent = mirror.visible(spec, first + index)
                if spec.retention:
                    recent = [p for p in recent if p in kept or p >= first]
                want = seen_by(
                    seeds[index], mirror.seeds(sinks), mirror.seeds(recent), layer,
                    spec.kv_cache_dtype,
                )  # fmt: skip
                assert torch.allclose(out[index], want, atol=1e-10)

    @rule(target=caches)
    def the_root(self) -> WindowCache:
        return self.root

    @rule(cache=caches, count=st.integers(1, 9))
    def append(self, cache: WindowCache, count: int) -> None:
        seeds = list(range(self.next_seed, self.next_seed + count))
        self.next_seed += count
        self._feed(cache, self.alive[id(cache)][1], seeds)

    @rule(target=caches, cache=caches)
    def fork(self, cache: WindowCache) -> WindowCache:
        return self._enter(cache.fork(), self.alive[id(cache)][1].copy())

    @rule(cache=caches)
    def evict(self, cache: WindowCache) -> None:
        assert cache.evict() == 0  # steps have done it

    @rule(cache=caches, keep=st.integers(0, 9))
    def truncate(self, cache: WindowCache, keep: int) -> None:
        mirror = self.alive[id(cache)][1]
        mirror.whole &= keep >= min(len(mirror.history), self.spec.window - 1)
        mirror.start = max(mirror.start, mirror.position - keep)
        cache.truncate(keep)

    @rule(cache=caches, position=st.sampled_from([0, 1, 5, 10**9 + 1]))
    def reset(self, cache: WindowCache, position: int) -> None:
        cache.reset(position)
        mirror = self.alive[id(cache)][1]
        mirror.history, mirror.origin, mirror.start = [], position, position
        mirror.whole = True

    @rule(cache=caches, other=caches, keep=st.integers(0, 20))
    def begin_like_another(self, cache: WindowCache, other: WindowCache, keep: int) -> None:
        """Start over with the beginning of another sequence's inputs; adopt what is known."""
        history = self.alive[id(other)][1].history[:keep]
        origin = self.alive[id(other)][1].origin
        self.reset(cache, origin)
        self.next_seed += 1
        seeds = [*history, self.next_seed]
        taken = cache.adopt(torch.tensor(seeds, dtype=torch.float32).unsqueeze(1))
        mirror = self.alive[id(cache)][1]
        mirror.history += seeds[:taken]
        for start in range(taken, len(seeds), 9):
            self._feed(cache, mirror, seeds[start : start + 9])

    @precondition(lambda self: self.spec.prefix)
    @rule()
    def forget_the_prefixes(self) -> None:
        self.manager.prefixes.clear()

    @rule(cache=consumes(caches))
    def end_a_fork(self, cache: WindowCache) -> None:
        if cache is not self.root:
            del self.alive[id(cache)]
            with cache:
                pass

    @invariant()
    def references_are_conserved(self) -> None:
        held: dict[int, int] = {}
        for cache, _ in self.alive.values():
            for block in cache.block_table:
                held[block] = held.get(block, 0) + 1
        for _, block in self.manager.prefixes._entries.values():
            held[block] = held.get(block, 0) + 1
        pool = self.root.pool
        assert pool.used == len(held)
        assert all(pool.refs(block) == count for block, count in held.items())

    @invariant()
    def each_holds_what_its_next_token_can_see(self) -> None:
        for cache, mirror in self.alive.values():
            assert cache.position == mirror.position
            sinks, recent = mirror.visible(self.spec, mirror.position)
            want = [p for p in [*sinks, *recent] if p != mirror.position]
            if self.spec.retention:
                assert set(cache.positions) <= set(want)
                assert set(sinks) - {mirror.position} <= set(cache.positions)
                assert len(cache) <= self.spec.retain + SINKS + self.spec.block_size
            else:
                assert cache.positions == want
            assert len(cache) == len(cache.positions)

    @invariant()
    def no_block_is_held_longer_than_needed(self) -> None:
        spec = self.spec
        for cache, _ in self.alive.values():
            if spec.contiguous:
                assert len(cache.block_table) <= 1
            elif not spec.sinks:
                needed = {position // spec.block_size for position in cache.positions}
                assert set(cache.block_numbers) == needed
            else:
                assert len(cache.block_table) <= spec.blocks_for(1)

    def teardown(self) -> None:
        pool = self.root.pool
        for cache, _ in self.alive.values():
            cache.reset()
        self.manager.prefixes.clear()
        assert pool.used == 0


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_cache_lives_like_a_list_of_tokens(name: str) -> None:
    machine = type("LivesOfOneKind", (Lives,), {"spec": SPECS[name]})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30 if SPECS[name].prefix else 10,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
