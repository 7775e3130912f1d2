"""What a step writes, and the segments it reads: planned once, gathered for each layer."""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor

from bot.kvcache import tiles
from bot.kvcache.layout import CacheSpec, Views
from bot.kvcache.quantize import Coded, Format
from bot.kvcache.table import BlockTable

Formats = tuple[Format, Format]
KeysValues = tuple[Coded, Coded]


class Segment(Struct, frozen=True):
    """Held tokens that one attention call covers.

    The blocks in ``rows`` (one number: read in place), laid end to end, of which ``count`` tokens
    from ``first`` are meant. ``positions`` [count] are theirs. ``visible`` [T, count] says which
    query sees which, None that all see all.
    """

    rows: Tensor | int
    first: int
    count: int
    positions: Tensor
    visible: Tensor | None
    sinks: bool

    def read(self, views: Views, formats: Formats, layer: int, dtype: torch.dtype) -> KeysValues:
        """One layer's keys and values, each [Hkv, S, D]."""
        keys, values = formats
        k_codes, v_codes = self._codes(views, layer)
        k = k_codes, self._gather(views.k_params[:, layer])
        v = v_codes, self._gather(views.v_params[:, layer])
        return keys.decode(*k, dtype), values.decode(*v, dtype)

    def _codes(self, views: Views, layer: int) -> tuple[Tensor, Tensor]:
        k, v = views.k_codes[:, layer], views.v_codes[:, layer]
        if not views.tiled or isinstance(self.rows, int):
            return self._gather(k), self._gather(v)
        meant = slice(self.first, self.first + self.count)
        keys = tiles.take_keys(k.index_select(0, self.rows))
        values = tiles.take_values(v.index_select(0, self.rows))
        return keys[:, meant], values[:, meant]

    def _gather(self, view: Tensor) -> Tensor:
        if isinstance(self.rows, int):
            flat = view[self.rows]
        else:
            # [N, Hkv, block_tokens, E] -> [Hkv, N * block_tokens, E]
            flat = view.index_select(0, self.rows).transpose(0, 1).flatten(1, 2)
        return flat[:, self.first : self.first + self.count]


def write(
    views: Views, formats: Formats, table: BlockTable, layer: int, first: int, k: Tensor, v: Tensor
) -> None:
    """Encode keys and values [T, Hkv, D] of the tokens from ``first`` into the table's blocks."""
    codes, sections = [], []
    for x, kind, params_view in zip((k, v), formats, (views.k_params, views.v_params), strict=True):
        coded, params = kind.encode(x)
        codes.append(coded)
        if kind.params:
            sections.append((params_view, params))
    if not views.tiled:
        sections += zip((views.k_codes, views.v_codes), codes, strict=True)
    done = 0
    for number, offset, count in table.runs(first, k.shape[0]):
        row = views.row_of(table.blocks[number])
        if views.tiled:
            tiles.put_keys(views.k_codes[row, layer], offset, codes[0][done : done + count])
            tiles.put_values(views.v_codes[row, layer], offset, codes[1][done : done + count])
        for view, x in sections:
            # [T, Hkv, E] -> the block's [Hkv, T, E]
            part = x[done : done + count].transpose(0, 1)
            view[row, layer, :, offset : offset + count] = part
        done += count


def plan(
    spec: CacheSpec, table: BlockTable, views: Views, *, start: int, first: int, tokens: int
) -> list[Segment]:
    """Segments for the step of ``tokens`` from position ``first``, whose blocks are in the table.

    ``start`` is the oldest position that the window may show.
    """
    query = torch.arange(first, first + tokens).unsqueeze(1)
    segments = []
    after_sinks = table.origin + spec.sinks
    if spec.sinks:
        count = min(spec.sinks, first + tokens - table.origin)
        segments.append(_sinks(spec, table, views, query, count))
    low = max(start, first - spec.window + 1, after_sinks)
    if low < first + tokens:
        build = _ring if spec.contiguous else _blocks
        segments.append(build(spec, table, views, query, low))
    return segments


def _sinks(spec: CacheSpec, table: BlockTable, views: Views, query: Tensor, count: int) -> Segment:
    positions = torch.arange(table.origin, table.origin + count)
    visible = None if table.origin + count - 1 <= query[0] else positions <= query
    if spec.contiguous:
        row = views.row_of(table.blocks[0])
        return Segment(row, 0, count, positions, visible, sinks=True)
    number, offset = divmod(table.origin, spec.block_size)
    blocks = -(-(offset + count) // spec.block_size)
    rows = [views.row_of(table.blocks[number + i]) for i in range(blocks)]
    return Segment(torch.tensor(rows), offset, count, positions, visible, sinks=True)


def _blocks(spec: CacheSpec, table: BlockTable, views: Views, query: Tensor, low: int) -> Segment:
    size = spec.block_size
    numbers = [number for number in table.blocks if (number + 1) * size > low]
    rows = torch.tensor([views.row_of(table.blocks[number]) for number in numbers])
    positions = (torch.tensor(numbers).unsqueeze(1) * size + torch.arange(size)).flatten()
    skipped = max(low - numbers[0] * size, 0)
    end = int(query[-1]) + 1
    count = len(positions) - skipped - ((numbers[-1] + 1) * size - end)
    positions = positions[skipped : skipped + count]
    return Segment(rows, skipped, count, positions, _band(spec, query, positions), sinks=False)


def _ring(spec: CacheSpec, table: BlockTable, views: Views, query: Tensor, low: int) -> Segment:
    row = views.row_of(table.blocks[0])
    ring = spec.block_tokens - spec.sinks
    end = int(query[-1]) + 1
    if low % ring + end - low <= ring:
        positions = torch.arange(low, end)
        first = spec.sinks + low % ring
        visible = _band(spec, query, positions)
        return Segment(row, first, end - low, positions, visible, sinks=False)
    # wrapped: read the whole ring in place, slot s holding the newest position congruent to s
    newest = end - 1
    positions = newest - (newest - torch.arange(ring)) % ring
    visible = (positions >= low) & (positions <= query) & (positions > query - spec.window)
    return Segment(row, spec.sinks, ring, positions, visible, sinks=False)


def _band(spec: CacheSpec, query: Tensor, positions: Tensor) -> Tensor | None:
    if query.shape[0] == 1:
        return None  # the segment was cut to the one query's window
    return (positions <= query) & (positions > query - spec.window)
