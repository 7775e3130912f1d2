"""A sequence's keys and values behind a sliding window, in blocks from a shared pool.

The cache owns the attention over what it holds, so that dequantization belongs to the read. It
knows positions as int64 counters only: keys come already rotated at their absolute position and
are never rotated again.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

import torch
from torch import Tensor

from bot.kvcache.attention import attend
from bot.kvcache.layout import CacheSpec, Layout, Views
from bot.kvcache.pool import BlockPool
from bot.kvcache.quantize import format_named


class CacheError(RuntimeError):
    """The cache was used out of order; the text says what it expected."""


class Landlord(Protocol):
    """Who may be asked for room; the manager is one."""

    def used(self, cache: WindowCache) -> None:
        """``cache`` is about to take in tokens."""

    def make_room(self, cache: WindowCache, blocks: int) -> None:
        """See to it that ``cache`` can allocate ``blocks``; raises OutOfBlocks if it cannot."""


class WindowCache:
    """One sequence. A step is ``append`` then ``attend``, for each layer in order.

    T tokens may be appended at once; the result equals appending them one by one. ``position``
    is that of the next token. A block is given back as soon as its last token has left the
    window of the next token.
    """

    __slots__ = ("_chunk", "_first_block", "_format", "_landlord", "_layers_done", "_rows",
                 "_start", "_table", "_views", "_visible", "evicted", "pool", "position",
                 "spec")  # fmt: skip

    def __init__(
        self, layout: Layout, pool: BlockPool, *, landlord: Landlord | None = None
    ) -> None:
        self.spec: CacheSpec = layout.spec
        self.position = 0
        self.evicted = False
        self.pool = pool
        self._views: Views = layout.views(pool.storage)
        self._format = format_named(self.spec.kv_cache_dtype)
        self._landlord = landlord
        self._start = 0  # no token before this one is held
        self._first_block = 0  # the logical index of _table[0]
        self._table: list[int] = []
        self._chunk = 0  # tokens of the step in flight, 0 between steps
        self._layers_done = 0
        self._rows: tuple[Tensor, Tensor] | None = None
        self._visible: Tensor | None = None

    # --- the step ---------------------------------------------------------------------------

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store keys (after RoPE) and values [T, Hkv, D] of the next T tokens for one layer.

        Raises CacheError out of order, OutOfBlocks when the budget is spent (nothing changes).
        """
        tokens = k.shape[0]
        self._check_append(layer, k, v)
        if layer == 0:
            self._open_step(tokens)
            self._plan_reads()
        size = self.spec.block_size
        first = self.position
        k_codes, k_params = self._format.encode(k)
        v_codes, v_params = self._format.encode(v)
        views = self._views
        done = 0
        while done < tokens:
            block, offset = divmod(first + done, size)
            count = min(size - offset, tokens - done)
            slab, row = divmod(self._table[block - self._first_block], self.pool.per_slab)
            # [T, Hkv, E] -> the block's [Hkv, T, E]
            part, place = slice(done, done + count), slice(offset, offset + count)
            views.k_codes[slab, row, layer, :, place] = k_codes[part].transpose(0, 1)
            views.v_codes[slab, row, layer, :, place] = v_codes[part].transpose(0, 1)
            views.k_params[slab, row, layer, :, place] = k_params[part].transpose(0, 1)
            views.v_params[slab, row, layer, :, place] = v_params[part].transpose(0, 1)
            done += count
        self._layers_done = layer + 1

    def attend(self, layer: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """What the T tokens just appended to ``layer`` see: out [T, H, D] and lse [T, H].

        ``q`` [T, H, D] is rotated at the tokens' positions. Query t sees the keys of the last
        ``window`` positions up to and including its own. The last layer's attend ends the step.
        """
        if not self._chunk or layer != self._layers_done - 1:
            raise CacheError(f"attend({layer}) must follow append({layer})")
        if q.shape[0] != self._chunk:
            raise CacheError(f"attend got {q.shape[0]} queries for {self._chunk} tokens")
        views = self._views
        k = self._read(views.k_codes[:, :, layer], views.k_params[:, :, layer], q.dtype)
        v = self._read(views.v_codes[:, :, layer], views.v_params[:, :, layer], q.dtype)
        result = attend(q, k, v, visible=self._visible)
        if layer == self.spec.layers - 1:
            self._close_step()
        return result

    # --- the step, for kernels that append and attend by themselves --------------------------

    def begin_step(self, tokens: int) -> tuple[list[int], int, int, int]:
        """Make room for ``tokens`` that a kernel will write: table, first block, position, start.

        The table is the cache's own, to be read only and until ``finish_step`` or ``abandon_step``.
        Raises CacheError out of order, OutOfBlocks when the budget is spent (nothing changes).
        """
        self._check_idle("begin_step")
        self._open_step(tokens)
        return self._table, self._first_block, self.position, self._start

    def finish_step(self) -> None:
        """The kernel has written every layer."""
        self._close_step()

    def abandon_step(self) -> None:
        """The kernel has written nothing that counts; the next token keeps its position."""
        self._chunk = 0

    # --- the sequence -----------------------------------------------------------------------

    def fork(self) -> WindowCache:
        """A second sequence with this one's past, sharing its blocks until either writes.

        Use as a context manager, or ``reset`` it when done: a fork keeps its blocks in use.
        """
        self._check_idle("fork")
        twin = object.__new__(WindowCache)
        for name in WindowCache.__slots__:
            setattr(twin, name, getattr(self, name))
        twin._table = list(self._table)
        for block in twin._table:
            self.pool.share(block)
        return twin

    def evict(self) -> int:
        """Give back blocks that the next token cannot see; returns how many. Steps do this."""
        self._check_idle("evict")
        needed = max(self._start, self.position - self.spec.window + 1)
        if needed >= self.position:
            gone = len(self._table)
        else:
            gone = needed // self.spec.block_size - self._first_block
        for block in self._table[:gone]:
            self.pool.free(block)
        del self._table[:gone]
        self._first_block += gone
        return gone

    def truncate(self, keep_last: int) -> None:
        """Forget all but the last ``keep_last`` tokens; positions go on."""
        self._check_idle("truncate")
        if keep_last < 0:
            raise ValueError(f"keep_last must not be negative, got {keep_last}")
        self._start = max(self._start, self.position - keep_last)
        self.evict()

    def reset(self, position: int = 0) -> None:
        """Forget everything, a broken step too; the next token has ``position``."""
        if position < 0:
            raise ValueError(f"position must not be negative, got {position}")
        for block in self._table:
            self.pool.free(block)
        self._table = []
        self._chunk = self._layers_done = 0
        self._rows = self._visible = None
        self._start = self.position = position
        self._first_block = position // self.spec.block_size
        self.evicted = False

    def surrender(self) -> None:
        """Give every block back; unusable until ``reset``. The manager's eviction."""
        self.reset(self.position)
        self.evicted = True

    def __len__(self) -> int:
        """Tokens that the next token will see beside itself."""
        return self.position - max(self._start, self.position - self.spec.window + 1)

    @property
    def block_table(self) -> tuple[int, ...]:
        """Pool ids of the blocks held, oldest first."""
        return tuple(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks in this table; a shared block counts in every table it is in."""
        return len(self._table) * self.pool.block_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self.reset(self.position)

    # --- inside -----------------------------------------------------------------------------

    def _check_idle(self, verb: str) -> None:
        if self._chunk:
            raise CacheError(
                f"{verb} inside a step: {self._layers_done} of {self.spec.layers} layers appended"
            )
        if self.evicted:
            raise CacheError(f"{verb} of an evicted sequence: reset it and append its past again")

    def _check_append(self, layer: int, k: Tensor, v: Tensor) -> None:
        spec = self.spec
        if layer == 0:
            self._check_idle("append(0)")
        elif not self._chunk or layer != self._layers_done or layer >= spec.layers:
            raise CacheError(f"append({layer}) but layer {self._layers_done} is next")
        shape = (self._chunk or k.shape[0], spec.kv_heads, spec.head_dim)
        if tuple(k.shape) != shape or tuple(v.shape) != shape or not shape[0]:
            raise CacheError(
                f"k {tuple(k.shape)} and v {tuple(v.shape)} must be {shape}, at least one token"
            )

    def _open_step(self, tokens: int) -> None:
        """Make the table cover the new tokens, with blocks that nobody else reads."""
        size = self.spec.block_size
        if self._landlord is not None:
            self._landlord.used(self)
        self.evict()
        last_block = (self.position + tokens - 1) // size
        if not self._table:
            self._first_block = self.position // size
        missing = last_block + 1 - self._first_block - len(self._table)
        # only the open block is ever written: nothing else needs a copy
        copied = bool(self._table and self.position % size and self.pool.refs(self._table[-1]) > 1)
        if self._landlord is not None:
            self._landlord.make_room(self, missing + copied)
        fresh: list[int] = []
        try:
            fresh.extend(self.pool.allocate() for _ in range(missing + copied))
        except BaseException:
            for block in fresh:
                self.pool.free(block)
            raise
        if copied:
            mine = fresh.pop()
            self._copy(self._table[-1], mine)
            self.pool.free(self._table[-1])
            self._table[-1] = mine
        self._table += fresh
        self._chunk = tokens
        self._layers_done = 0

    def _close_step(self) -> None:
        self.position += self._chunk
        self._chunk = self._layers_done = 0
        self._rows = self._visible = None
        self.evict()

    def _readable(self) -> tuple[int, int]:
        """Positions that some token of the step sees: [low, high)."""
        low = max(self._start, self.position - self.spec.window + 1)
        return low, self.position + self._chunk

    def _plan_reads(self) -> None:
        """Once per step: where the readable blocks lie, and who sees what."""
        low, high = self._readable()
        skip = low // self.spec.block_size - self._first_block
        blocks = torch.tensor(self._table[skip:])
        self._rows = (blocks // self.pool.per_slab, blocks % self.pool.per_slab)
        if self._chunk == 1:
            self._visible = None
            return
        query = torch.arange(self.position, high).unsqueeze(1)
        key = torch.arange(low, high)
        self._visible = (key <= query) & (key > query - self.spec.window)

    def _read(self, codes: Tensor, params: Tensor, dtype: torch.dtype) -> Tensor:
        """The readable keys or values of one layer's views, dequantized: [Hkv, S, D]."""
        assert self._rows is not None
        slabs, rows = self._rows
        low, high = self._readable()
        # [N, Hkv, block_size, D] -> [Hkv, N * block_size, D]
        whole = self._format.decode(codes[slabs, rows], params[slabs, rows], dtype)
        flat = whole.transpose(0, 1).flatten(1, 2)
        skipped = low % self.spec.block_size
        return flat[:, skipped : skipped + high - low]

    def _copy(self, source: int, target: int) -> None:
        storage, per_slab = self.pool.storage, self.pool.per_slab
        storage[divmod(target, per_slab)] = storage[divmod(source, per_slab)]
