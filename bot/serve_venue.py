"""The local venue as a process: up until told to end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bot.venue.emulator import DEFAULT_SYMBOLS, DEMO, Venue


async def serve(
    *,
    port: int,
    symbols: Sequence[str] | None,
    seed: int,
    events_per_s: float,
    capture: Path | None,
    secrets: Mapping[str, str] | None = None,
    until_eof: bool,
    listening: Callable[[dict[str, str]], None],
) -> None:
    """Serve until SIGINT, SIGTERM, or (``until_eof``) the end of standard input.

    Raises VenueError where the port is taken or a symbol or capture cannot be served.
    """
    venue = Venue(
        symbols or DEFAULT_SYMBOLS,
        seed=seed,
        events_per_s=events_per_s,
        capture=capture,
        secrets=secrets or DEMO,
    )
    ws, rest = await venue.start(port)
    try:
        listening({"ws": ws, "rest": rest})
        await _told_to_end(until_eof=until_eof)
    finally:
        await venue.close()


async def _told_to_end(*, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if until_eof:
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        eof = asyncio.ensure_future(reader.read())
        eof.add_done_callback(lambda _: ended.set())
    await ended.wait()
