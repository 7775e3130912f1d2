"""One preallocated run of bytes, cut into slabs, and pools that cut slabs into equal blocks.

Blocks are counted here and addressed by id; what their bytes mean is ``layout.py``'s business.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class OutOfBlocks(RuntimeError):
    """No block is free and none could be freed."""


class Arena:
    """The whole byte budget, allocated once and lent to pools in aligned runs of slabs."""

    __slots__ = ("_free", "slab_bytes", "slabs", "storage")

    def __init__(
        self, budget_bytes: int, *, slab_bytes: int = 1 << 20, device: str = "cpu"
    ) -> None:
        if slab_bytes <= 0 or slab_bytes % 64:
            raise ValueError(f"slab_bytes must be a positive multiple of 64, got {slab_bytes}")
        self.slabs = budget_bytes // slab_bytes
        if self.slabs < 1:
            raise ValueError(
                f"a budget of {budget_bytes:,} bytes holds no slab of {slab_bytes:,} bytes"
            )
        self.slab_bytes = slab_bytes
        # [slabs, slab_bytes]; zeroed pages cost nothing until they are first written
        self.storage = torch.zeros((self.slabs, slab_bytes), dtype=torch.uint8, device=device)
        self._free = set(range(self.slabs))

    @property
    def nbytes(self) -> int:
        return self.slabs * self.slab_bytes

    def free_runs(self, span: int) -> int:
        """How many aligned runs of ``span`` slabs could be taken."""
        return len(self._free) if span == 1 else sum(1 for _ in self._runs(span))

    def take(self, span: int) -> int | None:
        """The number of a run of ``span`` slabs, now the caller's, or None. Run r starts at slab
        ``r * span``; long runs come from the low end and single slabs from the high end."""
        run = max(self._free, default=None) if span == 1 else next(self._runs(span), None)
        if run is not None:
            self._free.difference_update(range(run * span, (run + 1) * span))
        return run

    def give_back(self, run: int, span: int) -> None:
        self._free.update(range(run * span, (run + 1) * span))

    def _runs(self, span: int) -> Iterator[int]:
        for run in range(self.slabs // span):
            if all(slab in self._free for slab in range(run * span, (run + 1) * span)):
                yield run


class BlockPool:
    """Blocks of one size over an arena: a free list and a reference count per block.

    A block's id is ``slab * per_slab + index``. A pool takes slabs as it needs them and gives
    wholly free ones back on ``trim``, so pools of different block sizes share one budget. A block
    longer than a slab gets an aligned run of slabs, which this pool counts as one slab of its own.
    """

    __slots__ = ("_arena", "_free", "_owned", "_refs", "_slabs", "_span", "_used_in",
                 "block_bytes", "per_slab")  # fmt: skip

    def __init__(self, arena: Arena, block_bytes: int) -> None:
        self._span = -(-block_bytes // arena.slab_bytes)
        self._slabs = arena.slabs // self._span
        if not self._slabs:
            raise OutOfBlocks(
                f"a block of {block_bytes:,} bytes does not fit the whole budget of "
                f"{arena.nbytes:,} bytes: raise the budget, or use smaller blocks"
            )
        self.per_slab = self._span * arena.slab_bytes // block_bytes
        self.block_bytes = block_bytes
        self._arena = arena
        self._free: list[int] = []
        self._refs = [0] * (self._slabs * self.per_slab)
        self._used_in = [0] * self._slabs
        self._owned: set[int] = set()

    @property
    def storage(self) -> Tensor:
        """Every block's bytes, uint8 [slabs, per_slab, block_bytes], a view of the arena."""
        runs = self._arena.storage[: self._slabs * self._span].view(self._slabs, -1)
        used = runs[:, : self.per_slab * self.block_bytes]
        return used.view(self._slabs, self.per_slab, self.block_bytes)

    def block(self, block: int) -> Tensor:
        """One block's bytes, uint8 [block_bytes], to read and write."""
        slab, index = divmod(block, self.per_slab)
        run = self._arena.storage[slab * self._span : (slab + 1) * self._span].view(-1)
        return run[index * self.block_bytes : (index + 1) * self.block_bytes]

    @property
    def used(self) -> int:
        """Blocks with at least one reference."""
        return len(self._owned) * self.per_slab - len(self._free)

    @property
    def available(self) -> int:
        """Blocks that ``allocate`` could give now, without anyone freeing anything."""
        return len(self._free) + self._arena.free_runs(self._span) * self.per_slab

    @property
    def capacity(self) -> int:
        """Blocks if this pool had the whole arena."""
        return len(self._refs)

    def allocate(self) -> int:
        """A block with one reference. Its bytes are whatever they were. Raises OutOfBlocks."""
        if not self._free:
            self._grow()
        block = self._free.pop()
        self._refs[block] = 1
        self._used_in[block // self.per_slab] += 1
        return block

    def share(self, block: int) -> None:
        """One more reference to a block in use."""
        self._check_in_use(block)
        self._refs[block] += 1

    def free(self, block: int) -> None:
        """One reference less; with the last one the block returns to the free list."""
        self._check_in_use(block)
        self._refs[block] -= 1
        if not self._refs[block]:
            self._used_in[block // self.per_slab] -= 1
            self._free.append(block)

    def refs(self, block: int) -> int:
        return self._refs[block]

    def trim(self) -> int:
        """Give wholly free slabs back to the arena; returns how many."""
        empty = {slab for slab in self._owned if not self._used_in[slab]}
        if empty:
            self._free = [block for block in self._free if block // self.per_slab not in empty]
            self._owned -= empty
            for slab in sorted(empty, reverse=True):
                self._arena.give_back(slab, self._span)
        return len(empty)

    def _grow(self) -> None:
        slab = self._arena.take(self._span)
        if slab is None:
            raise OutOfBlocks(
                f"all {self.used} blocks of {self.block_bytes:,} bytes are in use and the arena "
                f"of {self._arena.nbytes:,} bytes has no free slab: raise the budget, shorten "
                "the windows, or keep fewer sequences"
            )
        self._owned.add(slab)
        first = slab * self.per_slab
        self._free.extend(range(first + self.per_slab - 1, first - 1, -1))

    def _check_in_use(self, block: int) -> None:
        if not 0 <= block < len(self._refs) or not self._refs[block]:
            raise ValueError(f"block {block} is not in use")
