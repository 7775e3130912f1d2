"""`bot record` and `bot doctor`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import show
from bot.cli_data import Symbols, Venue
from bot.cli_options import Config, Db, Json, seconds, start_log


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(record)
    app.command()(doctor)


def record(
    out: Annotated[
        Path, typer.Option(help="A folder of its own; a later recording goes on in it.")
    ] = Path("data/recordings/feed"),
    symbol: Symbols = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="orderbook.50, publicTrade, tickers, kline.1, ...; repeat for more."),
    ] = None,
    venue: Venue = "bybit",
    for_: Annotated[
        str | None, typer.Option("--for", help="Stop after this time: 90s, 10m, 2h, 7d.")
    ] = None,
    segment_mb: Annotated[float, typer.Option(min=0.01, help="A new segment at this size.")] = 64.0,
    segment_every: Annotated[str, typer.Option(help="A new segment after this time.")] = "1h",
    keep_mb: Annotated[
        float, typer.Option(min=0.0, help="Beyond, the oldest segments go; 0 keeps all.")
    ] = 0.0,
    keep: Annotated[
        str | None, typer.Option(help="Segments older than this go, for example 30d.")
    ] = None,
    min_free_mb: Annotated[
        float, typer.Option(min=0.0, help="Stop before the disk has less room than this.")
    ] = 256.0,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Record the feed to segments that `bot replay` reads, until the time is up or Ctrl-C.

    Examples: `bot record --symbol linear:BTCUSDT --topic orderbook.200 --topic publicTrade` ·
    `bot record --venue local --for 1m --out rec` · `bot record --keep-mb 50000`
    """
    limits = (
        round(segment_mb * 1e6),
        seconds(segment_every) or 3600.0,
        round(keep_mb * 1e6),
        seconds(keep) or 0.0,
        round(min_free_mb * 1e6),
    )
    summary = _recorded(config, out, (symbol, topic), venue, seconds(for_), limits)
    if as_json:
        show.as_json(summary)
    else:
        show.as_summary(f"recording {out}", summary.items())
    if not summary["clean"]:
        raise typer.Exit(1)


def _recorded(
    config: Path | None,
    out: Path,
    chosen: tuple[list[str] | None, list[str] | None],
    venue: str,
    for_s: float | None,
    limits: tuple[int, float, int, float, int],
) -> dict[str, Any]:
    from bot import config as settings_file
    from bot import feeds
    from bot import record as recording
    from bot.venue.topics import plan

    settings = settings_file.load(config)
    start_log(settings)
    symbols = tuple(chosen[0] or settings.symbols)
    topics = tuple(chosen[1] or feeds.usual_topics(settings.feed))
    try:
        plan(symbols, topics)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    options = recording.RecordOptions(out, symbols, topics, venue, for_s, *limits)
    return asyncio.run(recording.record(settings, options))


def doctor(
    venue: Venue = "bybit",
    config: Config = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Check all that a run needs: versions, database, disk, models, network, clock.

    One line each; exit code 1 if something is not well. Example: `bot doctor --venue local`
    """
    from bot import config as settings_file
    from bot import doctor as checking

    settings = settings_file.load(config, db=db)
    start_log(settings)

    async def examined() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async for check in checking.examine(settings, venue):
            rows.append({"check": check.name, "ok": check.ok, "detail": check.detail})
            if not as_json:
                show.as_check(check.name, check.detail, ok=check.ok)
        return rows

    rows = asyncio.run(examined())
    if as_json:
        show.as_json(rows)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)
