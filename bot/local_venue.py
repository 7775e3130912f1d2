"""A local venue in a child process, for a run that needs no network."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import structlog
from msgspec import Struct

from bot.config import Settings
from bot.venue.address import VenueUnreachable

log = structlog.get_logger()

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 5.0


class Urls(Struct, frozen=True):
    """Base URLs of a venue, or a network's name twice."""

    ws: str
    rest: str


class LocalVenue:
    """The child and where it listens. It ends with its standard input, so it outlives nobody."""

    def __init__(self, process: asyncio.subprocess.Process, urls: Urls) -> None:
        self.urls = urls
        self._process = process

    async def wait(self) -> int:
        """Wait for the child to end; returns its exit code."""
        return await self._process.wait()


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[LocalVenue]:
    """Start ``bot venue`` as the settings say. Raises VenueUnreachable if it does not come up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bot", "venue", "--json", "--until-eof"),
        *_arguments(settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C goes to the whole foreground group; the venue must stay until orders are cancelled.
        start_new_session=True,
    )
    try:
        yield LocalVenue(process, await _first_line(process))
    finally:
        await _end(process)


def _arguments(settings: Settings) -> list[str]:
    venue = settings.local_venue
    arguments = ["--port", str(venue.port), "--seed", str(venue.seed)]
    arguments += ["--events-per-s", str(venue.events_per_s)]
    arguments += ["--funding-minutes", str(venue.funding_minutes)]
    if venue.capture is not None:
        arguments += ["--capture", str(venue.capture)]
    for symbol in settings.symbols:
        arguments += ["--symbol", symbol]
    return arguments


async def _first_line(process: asyncio.subprocess.Process) -> Urls:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
        return msgspec.json.decode(line, type=Urls)
    except (TimeoutError, msgspec.MsgspecError) as error:
        raise VenueUnreachable("the local venue", "it did not start (see above)") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_TIMEOUT_S)
        except TimeoutError:
            log.warning("the local venue did not end by itself", pid=process.pid)
            process.kill()
            await process.wait()
