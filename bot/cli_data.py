"""`bot download`, and the words with which `bot replay` reads archives."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from bot import show
from bot.cli_options import Config, Json, start_log

Also: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--also", help="Merge this archive or folder too; repeat for more."),
]
DelayMs: TypeAlias = Annotated[
    float, typer.Option(min=0.0, help="Archives: modelled time from the exchange to the bot.")
]
Repair: TypeAlias = Annotated[
    bool, typer.Option("--repair", help="Archives: go on over damage, and count it.")
]
BuildCandles: TypeAlias = Annotated[
    str, typer.Option(help="Archives: build candles of this interval from trades (1, 5, 60, D).")
]
ArchiveSymbol: TypeAlias = Annotated[
    str | None, typer.Option(help="Archives: the symbol of files that do not name it.")
]


def archive_options(delay_ms: float, candles: str, symbol: str | None, *, repair: bool) -> Any:
    """How archives are read. Raises typer.BadParameter for an unknown interval."""
    from bot.venue.answers import interval_ns
    from bot.venue.archive_feed import ArchiveOptions

    if candles:
        try:
            interval_ns(candles)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    return ArchiveOptions(round(delay_ms * 1e6), repair, candles, symbol)


download = typer.Typer(
    help="Bring history into the local store: what is there is not asked for again.",
    no_args_is_help=True,
)
Symbols: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--symbol", help="linear:BTCUSDT, ...; repeat for more (default: the config's)."),
]
From: TypeAlias = Annotated[
    str, typer.Option("--from", help="UTC: 2025-01-31, 2025-01-31T12:00, or 30d for days ago.")
]
To: TypeAlias = Annotated[str, typer.Option("--to", help="As --from; not included. 0d is now.")]
StoreFolder: TypeAlias = Annotated[Path, typer.Option("--store", help="The store's folder.")]
Venue: TypeAlias = Annotated[
    Literal["bybit", "local"], typer.Option(help="Bybit, or a market on this machine.")
]
Url: TypeAlias = Annotated[
    str | None, typer.Option(help="Another server with the same paths, http://HOST:PORT.")
]
_STORE = Path("data/store")
_REPORT = ("symbol", "series", "rows", "added", "start_ts", "end_ts", "missing", "path")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.add_typer(download, name="download")


def time_ns(text: str) -> int:
    """A time of the command line in ns. Raises typer.BadParameter."""
    if days := re.fullmatch(r"(\d+(?:\.\d+)?)d", text):
        return time.time_ns() - round(float(days[1]) * 86_400e9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time: write 2025-01-31 or 30d") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp()) * 10**9


@download.command()
def klines(
    interval: Annotated[str, typer.Option(help="Bybit's name: 1, 5, 60, D, ...")] = "1",
    symbol: Symbols = None,
    from_: From = "30d",
    to: To = "0d",
    store: StoreFolder = _STORE,
    venue: Venue = "bybit",
    url: Url = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Closed candles. Example: `bot download klines --interval 5 --from 2025-01-01`"""
    _history("klines", (symbol, from_, to, interval, store, venue, url), config, as_json=as_json)


@download.command()
def funding(
    symbol: Symbols = None,
    from_: From = "365d",
    to: To = "0d",
    store: StoreFolder = _STORE,
    venue: Venue = "bybit",
    url: Url = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Settled funding rates of perpetuals. Example: `bot download funding --from 2024-01-01`"""
    _history("funding", (symbol, from_, to, "1", store, venue, url), config, as_json=as_json)


@download.command()
def rules(
    symbol: Symbols = None,
    store: StoreFolder = _STORE,
    venue: Venue = "bybit",
    url: Url = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """The venue's rules, which a replay of archives needs. Example: `bot download rules`"""
    _history("rules", (symbol, "0d", "0d", "1", store, venue, url), config, as_json=as_json)


@download.command()
def trades(
    symbol: Symbols = None,
    from_: From = "2d",
    to: To = "1d",
    store: StoreFolder = _STORE,
    url: Url = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Bybit's daily trade files. Example: `bot download trades --from 2025-05-01`"""
    _files("trades", (symbol, from_, to, "1", store, "bybit", url), config, as_json=as_json)


@download.command()
def orderbook(
    symbol: Symbols = None,
    from_: From = "2d",
    to: To = "1d",
    store: StoreFolder = _STORE,
    url: Url = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Bybit's order-book files (large). Example: `bot download orderbook --from 2025-05-01`"""
    _files("orderbook", (symbol, from_, to, "1", store, "bybit", url), config, as_json=as_json)


def _history(kind: Any, words: tuple[Any, ...], config: Path | None, *, as_json: bool) -> None:
    from bot import download as downloading

    settings, options = _options(words, config)
    with show.progressing() as started:
        found = asyncio.run(downloading.history(settings, kind, options, started))
    _report(found, as_json=as_json)


def _files(kind: Any, words: tuple[Any, ...], config: Path | None, *, as_json: bool) -> None:
    from bot import download as downloading

    _, options = _options(words, config)
    with show.progressing() as started:
        found = asyncio.run(downloading.files(kind, options, started))
    _report(found, as_json=as_json)


def _options(words: tuple[Any, ...], config: Path | None) -> tuple[Any, Any]:
    from bot import config as settings_file
    from bot.download import DownloadOptions
    from bot.venue.answers import interval_ns

    symbols, start, end, interval, store, venue, url = words
    settings = settings_file.load(config)
    start_log(settings)
    span = time_ns(start), time_ns(end)
    if span[0] > span[1]:
        raise typer.BadParameter(f"--from {start} lies behind --to {end}")
    try:
        interval_ns(interval)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    wanted = tuple(symbols or settings.symbols)
    return settings, DownloadOptions(wanted, *span, interval, store, venue, url)


def _report(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        show.as_json(rows)
        return
    show.as_table("downloaded", rows, _REPORT)
    for row in rows:
        if gaps := row.get("gaps"):
            show.as_table(f"missing in {row['symbol']} {row['series']}", gaps,
                          ("start_ts", "end_ts", "missing"))  # fmt: skip
