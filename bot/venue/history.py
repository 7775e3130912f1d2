"""Candles and funding rates from Bybit's REST into the store, from where an earlier time stopped.

What is already stored is not asked for again; holes in it are.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from bot.core.errors import PlainError
from bot.core.events import Candle, FundingRate
from bot.venue.answers import MINUTE_NS, interval_ns, next_open
from bot.venue.payloads import MS
from bot.venue.rest import PAGE_MAX, Rest
from bot.venue.store import Span, Store, Table, candle_row, funding_row

Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, total) after every step."""

SAVE_EVERY_ROWS = 20_000
FUNDING_STEP_MAX_NS = 480 * MINUTE_NS
"""Bybit's longest funding interval: https://bybit-exchange.github.io/docs/v5/market/instrument ."""
_FUNDING_WINDOW_NS = 50 * 1_440 * MINUTE_NS


class StoreError(PlainError):
    """The store cannot be written; what it held before is untouched."""


class Fetched(Struct, frozen=True):
    """What a download did. Times are in ns; ``gaps`` is what the venue did not have either."""

    symbol: str
    series: str
    path: Path
    rows: int
    added: int
    start_ts: int
    end_ts: int
    gaps: list[Span]


async def fetch_candles(
    rest: Rest,
    store: Store,
    symbol: str,
    interval: str,
    start_ts: int,
    end_ts: int,
    progress: Progress,
) -> Fetched:
    """Bring the closed bars that open in [start, end) into the store.

    Raises what ``Rest`` raises, StoreError and ArchiveError; what was fetched by then is stored.
    """
    table = store.candle_table(symbol, interval)
    before = len(table)
    step_ns = interval_ns(interval)
    start_ts = next_open(max(start_ts, await rest.listed_since(symbol)), interval)
    last_closed_ns = next_open(await rest.server_ns() + 1, interval) - step_ns
    end_ts = min(end_ts, last_closed_ns)
    pages = [
        page for hole in table.holes(start_ts, end_ts, step_ns) for page in _pages(hole, step_ns)
    ]
    bars: list[Candle] = []
    async with _saved(table, lambda: [candle_row(bar) for bar in bars]):
        for number, (first, end) in enumerate(pages, 1):
            bars += await rest.candles_between(symbol, interval, first, end)
            if len(bars) >= SAVE_EVERY_ROWS:
                await _save(table, [candle_row(bar) for bar in bars])
                bars.clear()
            progress(number, len(pages))
    return Fetched(
        symbol,
        interval,
        table.path,
        len(table),
        len(table) - before,
        start_ts,
        end_ts,
        table.holes(start_ts, end_ts, step_ns),
    )


async def fetch_funding(
    rest: Rest, store: Store, symbol: str, start_ts: int, end_ts: int, progress: Progress
) -> Fetched:
    """Bring the rates settled in [start, end) into the store. Raises as ``fetch_candles``.

    The interval changes with time, so a gap is only where more than eight hours lie between two.
    """
    table = store.funding_table(symbol)
    before = len(table)
    start_ts = max(start_ts, await rest.listed_since(symbol))
    end_ts = min(end_ts, await rest.server_ns())
    windows = [
        (first, min(first + _FUNDING_WINDOW_NS, span.end_ts))
        for span in _unknown(table, start_ts, end_ts)
        for first in range(span.start_ts, span.end_ts, _FUNDING_WINDOW_NS)
    ]
    rates: list[FundingRate] = []
    async with _saved(table, lambda: [funding_row(rate) for rate in rates]):
        for number, (first, end) in enumerate(windows, 1):
            rates += await rest.funding_between(symbol, first, end)
            progress(number, len(windows))
    gaps = _funding_gaps(table, start_ts, end_ts)
    added = len(table) - before
    return Fetched(symbol, "funding", table.path, len(table), added, start_ts, end_ts, gaps)


def _pages(hole: Span, step_ns: int) -> list[tuple[int, int]]:
    length_ns = PAGE_MAX * step_ns
    return [
        (first, min(first + length_ns, hole.end_ts))
        for first in range(hole.start_ts, hole.end_ts, length_ns)
    ]


def _unknown(table: Table, start_ts: int, end_ts: int) -> list[Span]:
    """Where rates may be missing: before, behind, and between two that are far apart."""
    known = _known(table, start_ts, end_ts)
    if not known:
        return [Span(start_ts, end_ts)]
    holes = [
        Span(before + MS, after)
        for before, after in itertools.pairwise(known)
        if after - before > FUNDING_STEP_MAX_NS
    ]
    spans = [Span(start_ts, known[0]), *holes, Span(known[-1] + MS, end_ts)]
    return [span for span in spans if span.start_ts < span.end_ts]


def _funding_gaps(table: Table, start_ts: int, end_ts: int) -> list[Span]:
    """Where more time passed than the longest interval, with the least number of missing rates."""
    edges = [start_ts, *_known(table, start_ts, end_ts), end_ts]
    return [
        Span(before, after, (after - before - 1) // FUNDING_STEP_MAX_NS)
        for before, after in itertools.pairwise(edges)
        if after - before > FUNDING_STEP_MAX_NS
    ]


def _known(table: Table, start_ts: int, end_ts: int) -> list[int]:
    return [stamp * MS for stamp in table.stamps if start_ts <= stamp * MS < end_ts]


@asynccontextmanager
async def _saved(table: Table, rows: Callable[[], list[tuple[int, str]]]) -> AsyncIterator[None]:
    """Save what was fetched, also when the fetching fails or is cancelled."""
    try:
        yield
    finally:
        await _save(table, rows())


async def _save(table: Table, rows: list[tuple[int, str]]) -> None:
    try:
        await asyncio.to_thread(table.add, rows)
    except OSError as error:
        raise StoreError(f"{table.path}: cannot be written: {error.strerror or error}") from error
