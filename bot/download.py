"""`bot download`: which venue, which store, which symbols, and one report a series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, TypeAlias

import structlog
from msgspec import Struct

from bot import local_venue
from bot.config import Settings
from bot.venue.address import rest_url
from bot.venue.daily_files import FileKind, fetch_files
from bot.venue.history import Fetched, Progress, fetch_candles, fetch_funding
from bot.venue.rest import Rest, VenueRefused
from bot.venue.store import DEFAULT_FOLDER, Store

log = structlog.get_logger()

RestKind: TypeAlias = Literal["klines", "funding", "rules"]
Started: TypeAlias = Callable[[str], Progress]
"""Told what begins; gives what is told how far it is."""


class DownloadOptions(Struct, frozen=True):
    """What, of which symbols, from when to when (ns). ``url`` is another base than Bybit's.

    ``venue`` is "bybit" or "local"; the daily files are only at Bybit's, or at ``url``.
    """

    symbols: tuple[str, ...]
    start_ts: int
    end_ts: int
    interval: str = "1"
    store: Path = DEFAULT_FOLDER
    venue: str = "bybit"
    url: str | None = None


async def history(
    settings: Settings, kind: RestKind, options: DownloadOptions, started: Started
) -> list[dict[str, Any]]:
    """Candles, funding rates or rules through REST; a report a symbol.

    Raises what ``fetch_candles`` and ``Rest`` raise; what was fetched by then is stored.
    """
    async with AsyncExitStack() as stack:
        base = options.url or settings.network
        if options.venue == "local" and options.url is None:
            wanted = settings.model_copy(update={"symbols": options.symbols})
            base = (await stack.enter_async_context(local_venue.started(wanted))).urls.rest
        rest = Rest(rest_url(base), timeout_s=settings.feed.connect_timeout_s)
        stack.push_async_callback(rest.close)
        store = Store(options.store)
        reports: list[dict[str, Any]] = []
        for symbol in options.symbols:
            store.folder_of(symbol)
            path = await _rules(rest, store, symbol, is_wanted=kind == "rules")
            if kind == "rules":
                reports.append({"symbol": symbol, "series": "rules", "path": str(path)})
                continue
            progress = started(f"{symbol} {kind}")
            span = (options.start_ts, options.end_ts)
            if kind == "klines":
                fetched = await fetch_candles(
                    rest, store, symbol, options.interval, *span, progress
                )
            elif symbol.startswith("linear:"):
                fetched = await fetch_funding(rest, store, symbol, *span, progress)
            else:
                log.warning("no funding: not a perpetual", symbol=symbol)
                continue
            reports.append(report(fetched))
        return reports


async def files(kind: FileKind, options: DownloadOptions, started: Started) -> list[dict[str, Any]]:
    """Bybit's daily files; a report a symbol. Raises what ``fetch_files`` raises."""
    store = Store(options.store)
    return [
        report(
            await fetch_files(
                store,
                kind,
                symbol,
                options.start_ts,
                options.end_ts,
                started(f"{symbol} {kind}"),
                base=options.url,
            )
        )
        for symbol in options.symbols
    ]


def report(fetched: Fetched) -> dict[str, Any]:
    """What a person and a tool want to know of one download."""
    gaps: Sequence[Any] = fetched.gaps
    return {
        "symbol": fetched.symbol,
        "series": fetched.series,
        "rows": fetched.rows,
        "added": fetched.added,
        "start_ts": fetched.start_ts,
        "end_ts": fetched.end_ts,
        "missing": sum(gap.missing for gap in gaps),
        "gaps": [
            {"start_ts": gap.start_ts, "end_ts": gap.end_ts, "missing": gap.missing} for gap in gaps
        ],
        "path": str(fetched.path),
    }


async def _rules(rest: Rest, store: Store, symbol: str, *, is_wanted: bool) -> Path | None:
    """Keep the symbol's rules; one that is no longer listed has none."""
    try:
        (rules,) = await rest.instruments([symbol])
    except VenueRefused as error:
        if is_wanted:
            raise
        log.warning("no rules", symbol=symbol, cause=str(error))
        return None
    return store.save_rules(rules)
