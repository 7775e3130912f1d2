"""Full blocks found again by what they were computed from.

A block's key is a hash over everything its keys and values depend on: the model, the geometry,
the position of the sequence's first token, and every input up to the block's end. So two
sequences that began alike share the blocks of their common beginning, and no two that differ ever
do. (Kwon et al., vLLM, 2023, "automatic prefix caching".)
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import msgspec
import torch
from torch import Tensor

from bot.kvcache.layout import CacheSpec
from bot.kvcache.pool import BlockPool
from bot.kvcache.table import BlockTable


class Chain:
    """The running hash of one sequence's inputs; its value at a block's end is the block's key."""

    __slots__ = ("_hash", "_position", "_size")

    def __init__(self, spec: CacheSpec, origin: int) -> None:
        root = msgspec.json.encode((spec, origin))
        self._hash = hashlib.sha256(root)
        self._position = origin
        self._size = spec.block_size

    def copy(self) -> Chain:
        twin = object.__new__(Chain)
        twin._hash = self._hash.copy()
        twin._position, twin._size = self._position, self._size
        return twin

    def push(self, inputs: Tensor) -> list[tuple[int, bytes]]:
        """Take in inputs [T, F]; (logical block, key) of every block that they complete."""
        keys = []
        rows = inputs.detach().to("cpu").contiguous().view(torch.uint8)
        for row in rows.numpy():
            self._hash.update(row.tobytes())
            self._position += 1
            if not self._position % self._size:
                keys.append((self._position // self._size - 1, self._hash.digest()))
        return keys


class PrefixIndex:
    """Blocks by key, each kept alive by a reference of its own, least recently used first."""

    __slots__ = ("_entries", "hits", "lookups")

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, tuple[BlockPool, int]] = OrderedDict()
        self.lookups = 0
        """Full blocks asked for by sequences that began."""
        self.hits = 0
        """Of these, blocks of a beginning that was taken over instead of computed, evicted
        ones behind the window included."""

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: bytes) -> int | None:
        """The block under ``key``, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def publish(self, key: bytes, pool: BlockPool, block: int) -> None:
        """Offer a full block that will not be written again. The first under a key stays."""
        if key not in self._entries:
            pool.share(block)
            self._entries[key] = (pool, block)

    def make_room(self, pool: BlockPool, blocks: int) -> int:
        """Forget entries that no sequence uses until ``pool`` has ``blocks``; returns how many."""
        gone = []
        for key, (owner, block) in self._entries.items():
            if pool.available >= blocks:
                break
            if owner.refs(block) > 1:
                continue
            owner.free(block)
            gone.append(key)
            if owner is not pool:
                owner.trim()
        for key in gone:
            del self._entries[key]
        return len(gone)

    def clear(self) -> None:
        """Forget everything."""
        for pool, block in self._entries.values():
            pool.free(block)
        self._entries.clear()


class Sharing:
    """One sequence's part in an index: what it takes over at its start, what it offers later."""

    __slots__ = ("_chain", "_index", "_spec", "_step", "_tagged")

    def __init__(self, spec: CacheSpec, index: PrefixIndex, origin: int) -> None:
        self._spec = spec
        self._index = index
        self._chain: Chain | None = Chain(spec, origin)
        self._tagged: Tensor | None = None
        self._step: Tensor | None = None

    def copy(self) -> Sharing:
        twin = object.__new__(Sharing)
        twin._spec, twin._index = self._spec, self._index
        twin._tagged = twin._step = None
        twin._chain = self._chain.copy() if self._chain is not None else None
        return twin

    def end(self) -> None:
        """Offer nothing from here on: what follows depends on more than the inputs."""
        self._chain = None

    def adopt(self, table: BlockTable, inputs: Tensor) -> int:
        """Enter the blocks of a known beginning into an empty ``table``; the tokens they hold."""
        assert self._chain is not None
        keys = self._chain.copy().push(inputs[:-1])
        found = [(number, self._index.find(key)) for number, key in keys]
        position, blocks = longest_start(self._spec, table.origin, found)
        self._index.lookups += len(keys)
        self._index.hits += sum(
            (number + 1) * self._spec.block_size <= position for number, _ in keys
        )
        for number, block in blocks.items():
            table.pool.share(block)
            table.adopt(number, block)
        taken = position - table.origin
        if taken:
            self._chain.push(inputs[:taken])
        return taken

    def tag(self, inputs: Tensor) -> None:
        """Say from which inputs [T, F] the tokens of the next step come."""
        self._tagged = inputs

    def open(self, tokens: int) -> None:
        """A step of ``tokens`` begins; the tag, if it is of so many, is this step's alone."""
        tagged, self._tagged = self._tagged, None
        self._step = tagged if tagged is not None and len(tagged) == tokens else None

    def stored(self, table: BlockTable) -> None:
        """The step is in the table: offer the blocks that it filled."""
        if self._chain is None:
            return
        if self._step is None:
            self._chain = None
            return
        for number, key in self._chain.push(self._step):
            self._index.publish(key, table.pool, table.blocks[number])


def longest_start(
    spec: CacheSpec, origin: int, found: list[tuple[int, int | None]]
) -> tuple[int, dict[int, int]]:
    """The longest beginning that the found blocks can stand for.

    ``found`` is (logical block, pool block or None) for each full block in order. A sequence that
    goes on at position p needs the blocks of its sinks and those that reach into p's window, not
    the others. Returns p (``origin`` if there is no such beginning) and the blocks needed.
    """
    blocks = dict(found)
    size = spec.block_size
    sinks = set(range(origin // size, -(-(origin + spec.sinks) // size))) if spec.sinks else set()
    for number, block in reversed(found):
        if block is None:
            continue
        position = (number + 1) * size
        oldest = max(position - spec.window + 1, origin)
        needed = sorted({n for n in sinks if n <= number} | set(range(oldest // size, number + 1)))
        have = {n: block for n in needed if (block := blocks.get(n)) is not None}
        if len(have) == len(needed):
            return position, have
    return origin, {}
