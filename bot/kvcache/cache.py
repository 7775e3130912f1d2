"""A sequence's keys and values behind a sliding window, in blocks from a shared pool.

The cache owns the attention over what it holds, so that dequantization belongs to the read. It
knows positions as integers only: keys come already rotated at their absolute position and are
never rotated again. This is the one implementation; what kinds there are is a matter of its spec
(see ``kinds.py``).
"""

from __future__ import annotations

from typing import Protocol, Self

from torch import Tensor

from bot.kvcache.attention import attend_coded, merge_state
from bot.kvcache.errors import CacheError, NotFinite
from bot.kvcache.layout import CacheSpec, Layout, Views
from bot.kvcache.pool import BlockPool
from bot.kvcache.prefix import PrefixIndex, Sharing
from bot.kvcache.quantize import formats_named
from bot.kvcache.retention import Retention
from bot.kvcache.segments import Segment, plan, write
from bot.kvcache.table import BlockTable, Held


class Landlord(Protocol):
    """Who may be asked for room; the manager is one."""

    def used(self, cache: WindowCache) -> None:
        """``cache`` is about to take in tokens."""

    def make_room(self, cache: WindowCache, blocks: int) -> None:
        """See to it that ``cache`` can allocate ``blocks``; raises OutOfBlocks if it cannot."""


class WindowCache:
    """One sequence. A step is ``append`` then ``attend``, for each layer in order.

    T tokens may be appended at once; the result equals appending them one by one (but a selective
    cache chooses between steps). ``position`` is that of the next token. A block is given back as
    soon as its last token has left the window of the next token.
    """

    __slots__ = ("_chunk", "_formats", "_fresh", "_landlord", "_layers_done", "_prefixes",
                 "_retention", "_segments", "_sharing", "_start", "_table", "_views",
                 "evicted", "layout", "pool", "position", "spec")  # fmt: skip

    def __init__(
        self,
        layout: Layout,
        pool: BlockPool,
        *,
        landlord: Landlord | None = None,
        prefixes: PrefixIndex | None = None,
    ) -> None:
        self.spec: CacheSpec = layout.spec
        self.layout = layout
        self.position = 0
        self.evicted = False
        self.pool = pool
        self._views: Views = layout.views(pool.storage)
        self._formats = formats_named(self.spec.kv_cache_dtype)
        self._landlord = landlord
        self._prefixes = prefixes if self.spec.prefix else None
        self._table = BlockTable(self.spec, pool)
        self._retention: Retention | None
        self._sharing: Sharing | None
        self._start: int  # the oldest position that the window may show
        self._chunk: int  # tokens of the step in flight, 0 between steps
        self._layers_done: int
        self._segments: list[Segment]
        self._fresh: list[int]  # blocks that the step in flight added
        self.reset()

    # --- the step ---------------------------------------------------------------------------

    def append(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store keys (after RoPE) and values [T, Hkv, D] of the next T tokens for one layer.

        Raises CacheError out of order, NotFinite for what cannot be stored, OutOfBlocks when the
        budget is spent. After the last two the sequence is as before the step.
        """
        if layer == 0 and not self._chunk and self._sharing is not None:
            self._sharing.open(k.shape[0])
        self._check_append(layer, k, v)
        self._check_values(layer, k, v)
        if layer == 0:
            self._open_step(k.shape[0])
        write(self._views, self._formats, self._table, layer, self.position, k, v)
        self._layers_done = layer + 1

    def attend(self, layer: int, q: Tensor, q_sink: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the T tokens just appended to ``layer`` see: out [T, H, D] and lse [T, H].

        ``q`` [T, H, D] is rotated at the tokens' positions. Query t sees the keys held of the last
        ``window`` positions up to and including its own, and the sinks through ``q_sink``, the
        same queries rotated at ``sink_positions``. The last layer's attend ends the step.
        """
        if not self._chunk or layer != self._layers_done - 1:
            raise CacheError(f"attend({layer}) must follow append({layer})")
        if q.shape[0] != self._chunk:
            raise CacheError(f"attend got {q.shape[0]} queries for {self._chunk} tokens")
        if self.spec.sinks and q_sink is None:
            raise CacheError(f"a cache with {self.spec.sinks} sinks reads them through q_sink")
        result: tuple[Tensor, Tensor] | None = None
        for segment in self._segments:
            k, v = segment.read(self._views, self._formats, layer, q.dtype)
            queries = q_sink if segment.sinks and q_sink is not None else q
            out, lse, weights = attend_coded(queries, k, v, visible=segment.visible)
            if self._retention is not None and not segment.sinks:
                self._retention.observe(weights, segment)
            result = (out, lse) if result is None else merge_state(*result, out, lse)
        assert result is not None
        if layer == self.spec.layers - 1:
            self._close_step()
        return result

    def begin_step(self, tokens: int) -> tuple[dict[int, int], int, int]:
        """Make room for ``tokens`` that a kernel appends and attends to by itself, all layers of a
        cache in blocks.

        Returns the blocks by logical number, the position of the first token, and the oldest
        position held. The blocks are the cache's own, to be read only, until ``finish_step`` or
        ``abandon_step``. Raises CacheError out of order, OutOfBlocks (nothing changes then).
        """
        self._check_idle("begin_step")
        if self._sharing is not None:
            self._sharing.open(tokens)
        blocks = self._table.blocks
        block = blocks.get(self.position // self.spec.block_size) if tokens == 1 else None
        if block is None or self.pool.refs(block) > 1:
            self._reserve(tokens)
        else:  # nearly every token: its block is there and nobody else's
            if self._landlord is not None:
                self._landlord.used(self)
            self._chunk = tokens
        return blocks, self.position, self._start

    def finish_step(self) -> None:
        """The kernel has written every layer."""
        leaving = self.position + 2 - self.spec.window  # the oldest that the next token sees
        plain = self._sharing is None and self._retention is None and self._chunk == 1
        if plain and leaving % self.spec.block_size:  # nearly every token: no block leaves with it
            self._end_step()
            self.position += 1
        else:
            self._close_step()

    def abandon_step(self) -> None:
        """The kernel wrote nothing that counts; the sequence is as before the step."""
        self._table.drop(self._fresh)
        if self._retention is not None and self._segments:
            self._retention.undo()
        self._end_step()

    def sink_positions(self, tokens: int) -> list[int]:
        """Where to rotate the second copy of the next ``tokens`` queries, the one for the sinks.

        Keys stay where they were rotated; a query that is further from the sequence's start than
        sinks and window together looks at the sinks as if it were just that far, which gives the
        distances of StreamingLLM's cache positions (Xiao et al., 2024).
        """
        farthest = self._table.origin + self.spec.sinks + self.spec.window - 1
        return [min(self.position + i, farthest) for i in range(tokens)]

    # --- the sequence -----------------------------------------------------------------------

    def fork(self) -> WindowCache:
        """A second sequence with this one's past, sharing its blocks until either writes.

        Use as a context manager, or ``reset`` it when done: a fork keeps its blocks in use.
        """
        self._check_idle("fork")
        twin = WindowCache(self.layout, self.pool, landlord=self._landlord, prefixes=self._prefixes)
        twin.position, twin._start = self.position, self._start
        twin._table = self._table.fork()
        twin._sharing = self._sharing.copy() if self._sharing is not None else None
        twin._retention = self._retention.fork() if self._retention is not None else None
        return twin

    def sibling(self) -> WindowCache:
        """An empty sequence over the same pool and shared prefixes."""
        return WindowCache(self.layout, self.pool, landlord=self._landlord, prefixes=self._prefixes)

    def evict(self) -> int:
        """Give back blocks that the next token cannot see; returns how many. Steps do this."""
        self._check_idle("evict")
        if self.spec.contiguous:
            return 0
        needed = max(self._start, self.position - self.spec.window + 1)
        gone = self._table.before(needed if needed < self.position else None)
        self._table.drop(gone)
        return len(gone)

    def truncate(self, keep_last: int) -> None:
        """Forget all but the last ``keep_last`` tokens and the sinks; positions go on."""
        self._check_idle("truncate")
        if keep_last < 0:
            raise ValueError(f"keep_last must not be negative, got {keep_last}")
        if keep_last < len(self) and self._sharing is not None:
            self._sharing.end()
        self._start = max(self._start, self.position - keep_last)
        self.evict()

    def seek(self, position: int) -> None:
        """Forget all but the sinks and go on at ``position``, not before the present one.

        With the sinks and the last inputs within reach appended again, a rebuild is exact.
        """
        self._check_idle("seek")
        if position < self.position:
            raise ValueError(f"seek goes forward: {position} is before {self.position}")
        held = self.position - self._table.origin
        if held < self.spec.sinks:
            raise CacheError(f"seek with {held} of {self.spec.sinks} sinks: append them first")
        self.truncate(0)
        self._start = self.position = position
        if self._sharing is not None:
            self._sharing.end()

    def reset(self, position: int = 0) -> None:
        """Forget everything, a broken step too; the next token has ``position``."""
        if position < 0:
            raise ValueError(f"position must not be negative, got {position}")
        self._table.clear()
        self._end_step()
        self._table.origin = self._start = self.position = position
        self._retention = Retention(self.spec) if self.spec.retention else None
        index = self._prefixes
        self._sharing = Sharing(self.spec, index, position) if index is not None else None
        self.evicted = False

    def surrender(self) -> None:
        """Give every block back; unusable until ``reset``. The manager's eviction."""
        self.reset(self.position)
        self.evicted = True

    def held(self) -> Held:
        """A copy of all that the sequence holds; for saving."""
        self._check_idle("held")
        retention = self._retention.state() if self._retention is not None else ()
        return Held(
            position=self.position,
            start=self._start,
            origin=self._table.origin,
            numbers=list(self._table.blocks),
            blocks=self._table.copy_out(),
            retention=retention,
        )

    def take(self, held: Held) -> None:
        """Become what another sequence of the same spec held. Raises OutOfBlocks, empty then."""
        self.reset(held.origin)
        self._allocate(held.numbers, [])
        self._table.copy_in(held.blocks)
        self.position, self._start = held.position, held.start
        if self._retention is not None:
            self._retention.restore(*held.retention)
        if self._sharing is not None:
            self._sharing.end()

    # --- shared prefixes --------------------------------------------------------------------

    def adopt(self, inputs: Tensor) -> int:
        """Take over the blocks of a known beginning; an empty sequence's first call.

        ``inputs`` [T, F] are the sequence's first tokens. Returns how many of them need not be
        appended any more: whole blocks, and never the last token, whose answer is wanted.
        """
        self._check_idle("adopt")
        if self.position != self._table.origin:
            raise CacheError(f"adopt must come first, {self.position - self._table.origin} in")
        if self._sharing is None:
            return 0
        taken = self._sharing.adopt(self._table, inputs)
        self.position += taken
        return taken

    def tag(self, inputs: Tensor) -> None:
        """Say from which ``inputs`` [T, F] the tokens of the next step come, so that its full
        blocks can be shared. A step that is not tagged ends the sequence's sharing."""
        self._check_idle("tag")
        if self._sharing is not None:
            self._sharing.tag(inputs)

    # --- what it holds ----------------------------------------------------------------------

    def __len__(self) -> int:
        """Tokens that the next token will see beside itself."""
        if self._retention is not None:
            return len(self.positions)
        sinks_end, low = self._bounds()
        return sinks_end - self._table.origin + max(self.position - low, 0)

    @property
    def positions(self) -> list[int]:
        """Positions that the next token will see beside its own, ascending."""
        sinks_end, low = self._bounds()
        seen = list(range(self._table.origin, sinks_end))
        if self._retention is None:
            return seen + list(range(low, self.position))
        size = self.spec.block_size
        for number in self._table.blocks:
            seen += range(max(number * size, low), min((number + 1) * size, self.position))
        return seen

    @property
    def block_table(self) -> tuple[int, ...]:
        """Pool ids of the blocks held, oldest first."""
        return tuple(self._table.blocks.values())

    @property
    def block_numbers(self) -> tuple[int, ...]:
        """Logical numbers of the blocks held: block n starts at position n * block_tokens."""
        return tuple(self._table.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks in this table; a shared block counts in every table it is in."""
        return len(self._table.blocks) * self.pool.block_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset(self.position)

    def __del__(self) -> None:
        table = getattr(self, "_table", None)
        if table is not None:  # a fork that nobody ended
            table.clear()

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

    def _check_values(self, layer: int, k: Tensor, v: Tensor) -> None:
        for name, x, kind in zip(("keys", "values"), (k, v), self._formats, strict=True):
            peak = x.abs().max().item()
            if not peak <= kind.limit:  # NaN compares false
                self.abandon_step()
                raise NotFinite(name, layer, self.position, peak, kind.limit)

    def _open_step(self, tokens: int) -> None:
        self._reserve(tokens)
        self._segments = plan(
            self.spec, self._table, self._views,
            start=self._start, first=self.position, tokens=tokens,
        )  # fmt: skip
        if self._retention is not None and not self._segments[-1].sinks:
            self._retention.open(self._segments[-1].positions)

    def _reserve(self, tokens: int) -> None:
        """Make the table cover the new tokens, with blocks that nobody else reads."""
        if self._landlord is not None:
            self._landlord.used(self)
        self.evict()
        missing, shared = self._table.needs(self.position, tokens)
        self._allocate(missing, shared)
        self._fresh = missing
        self._chunk = tokens

    def _allocate(self, missing: list[int], shared: list[int]) -> None:
        needed = len(missing) + len(shared)
        if needed and self._landlord is not None:
            self._landlord.make_room(self, needed)
        self._table.allocate(missing, shared)

    def _close_step(self) -> None:
        tokens = self._chunk
        self._end_step()
        if self._sharing is not None:
            self._sharing.stored(self._table)
        self.position += tokens
        self.evict()
        if self._retention is not None:
            held = [n for n in self._table.blocks if not self._table.holds_sinks(n)]
            self._table.drop(self._retention.choose(held))

    def _end_step(self) -> None:
        self._chunk = self._layers_done = 0
        self._segments = []
        self._fresh = []

    def _bounds(self) -> tuple[int, int]:
        """Where the sinks end, and the oldest position that the window may show."""
        sinks_end = min(self._table.origin + self.spec.sinks, self.position)
        return sinks_end, max(self._start, self.position - self.spec.window + 1, sinks_end)
