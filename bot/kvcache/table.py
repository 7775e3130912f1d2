"""Which block of a pool holds which positions of one sequence, and who may write to it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from msgspec import Struct
from torch import Tensor

from bot.kvcache.errors import CacheError
from bot.kvcache.layout import CacheSpec
from bot.kvcache.pool import BlockPool


class Held(Struct, frozen=True):
    """All that a sequence holds, apart from any pool; ``numbers`` are logical block numbers."""

    position: int
    start: int
    origin: int
    numbers: list[int]
    blocks: Tensor  # uint8 [len(numbers), block_bytes]
    retention: tuple[Tensor, ...]


class BlockTable:
    """Logical block number to pool block, ascending, with a reference to each.

    A paged table's logical block n holds the positions from ``n * block_size``. A contiguous one
    has the single block 0, a ring behind the sinks (see ``layout.py``).
    """

    __slots__ = ("_spec", "blocks", "origin", "pool")

    def __init__(self, spec: CacheSpec, pool: BlockPool) -> None:
        self._spec = spec
        self.pool = pool
        self.origin = 0  # the position of the sequence's first token
        self.blocks: dict[int, int] = {}

    def fork(self) -> BlockTable:
        twin = BlockTable(self._spec, self.pool)
        twin.origin = self.origin
        twin.blocks = dict(self.blocks)
        for block in twin.blocks.values():
            self.pool.share(block)
        return twin

    def runs(self, first: int, tokens: int) -> Iterator[tuple[int, int, int]]:
        """(logical block, offset, count) of the pieces that hold ``tokens`` from ``first``."""
        end = first + tokens
        while first < end:
            number, offset, room = self._place(first)
            count = min(room, end - first)
            yield number, offset, count
            first += count

    def holds_sinks(self, number: int) -> bool:
        origin, size, sinks = self.origin, self._spec.block_size, self._spec.sinks
        return sinks > 0 and number * size < origin + sinks and (number + 1) * size > origin

    def before(self, position: int | None) -> list[int]:
        """Blocks without sinks that end at or before ``position``; all such for None."""
        gone = []
        for number in self.blocks:
            if position is not None and (number + 1) * self._spec.block_size > position:
                break
            if not self.holds_sinks(number):
                gone.append(number)
        return gone

    def needs(self, first: int, tokens: int) -> tuple[list[int], list[int]]:
        """Blocks to allocate, and shared blocks to copy, before these tokens may be written.

        Raises CacheError for more tokens than a contiguous block takes at once.
        """
        most = self._spec.step_tokens
        if self._spec.contiguous and tokens > most:
            raise CacheError(
                f"a contiguous cache takes {most} tokens at once, not {tokens}: "
                "append in pieces, or raise step_tokens"
            )
        touched = dict.fromkeys(number for number, _, _ in self.runs(first, tokens))
        missing = [number for number in touched if number not in self.blocks]
        shared = [
            number
            for number in touched
            if number in self.blocks and self.pool.refs(self.blocks[number]) > 1
        ]
        return missing, shared

    def allocate(self, missing: list[int], shared: list[int]) -> None:
        """Enter fresh blocks: for ``missing`` numbers, and as copies of ``shared`` ones.

        Raises OutOfBlocks; nothing has changed then.
        """
        fresh: list[int] = []
        try:
            fresh.extend(self.pool.allocate() for _ in range(len(missing) + len(shared)))
        except BaseException:
            for block in fresh:
                self.pool.free(block)
            raise
        for number, block in zip(shared + missing, fresh, strict=True):
            if number in self.blocks:
                self.pool.block(block).copy_(self.pool.block(self.blocks[number]))
            elif self._spec.contiguous:
                self.pool.block(block).zero_()  # unwritten slots are read, under a mask
            self.adopt(number, block)

    def adopt(self, number: int, block: int) -> None:
        """Enter a block on which the caller holds a reference, now the table's; a block that was
        there is freed."""
        old = self.blocks.get(number)
        self.blocks[number] = block
        if old is not None:
            self.pool.free(old)

    def drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self.pool.free(self.blocks.pop(number))

    def clear(self) -> None:
        self.drop(list(self.blocks))

    def copy_out(self) -> Tensor:
        """The blocks' bytes, uint8 [blocks, block_bytes], in order."""
        empty = self.pool.storage.new_empty((0, self.pool.block_bytes))
        return torch.cat([empty, *(self.pool.block(b)[None] for b in self.blocks.values())]).cpu()

    def copy_in(self, content: Tensor) -> None:
        """The inverse of ``copy_out`` for a table of as many blocks that nobody shares."""
        for block, row in zip(self.blocks.values(), content, strict=True):
            self.pool.block(block).copy_(row)

    def _place(self, position: int) -> tuple[int, int, int]:
        """(logical block, offset, slots up to the end of this piece)."""
        spec = self._spec
        if not spec.contiguous:
            number, offset = divmod(position, spec.block_size)
            return number, offset, spec.block_size - offset
        index = position - self.origin
        if index < spec.sinks:
            return 0, index, spec.sinks - index
        ring = spec.block_tokens - spec.sinks
        offset = position % ring
        return 0, spec.sinks + offset, ring - offset
