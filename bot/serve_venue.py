"""The local venue as a process: up until told to end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bot.signals import ending
from bot.venue import emulator


async def serve(
    *,
    port: int,
    symbols: Sequence[str] | None,
    seed: int,
    events_per_s: float,
    funding_minutes: int = 480,
    capture: Path | None,
    secrets: Mapping[str, str] | None = None,
    until_eof: bool,
    listening: Callable[[dict[str, str]], None],
) -> None:
    """Serve until SIGINT, SIGTERM, or (``until_eof``) the end of standard input.

    Raises VenueError where the port is taken or a symbol or capture cannot be served, and
    whatever stops the market.
    """
    venue = emulator.Venue(
        symbols or emulator.DEFAULT_SYMBOLS,
        seed=seed,
        events_per_s=events_per_s,
        funding_minutes=funding_minutes,
        capture=capture,
        secrets=secrets or emulator.DEMO,
    )
    serving = asyncio.ensure_future(
        emulator.serve(venue, port, lambda ws, rest: listening({"ws": ws, "rest": rest}))
    )
    told = asyncio.ensure_future(_told_to_end(until_eof=until_eof))
    await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
    told.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def _told_to_end(*, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    if until_eof:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        eof = asyncio.ensure_future(reader.read())
        eof.add_done_callback(lambda _: ended.set())
    with ending(lambda _: ended.set()):
        await ended.wait()
