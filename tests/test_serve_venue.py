"""The local venue as a process: it ends when told, and when its market has."""

from __future__ import annotations

import asyncio

import pytest

from bot import serve_venue
from bot.venue import emulator


async def test_a_market_that_breaks_ends_the_venue_with_its_error(monkeypatch):
    def advance(self: object, now_ns: int) -> list[object]:
        raise ZeroDivisionError("a broken market")

    monkeypatch.setattr("bot.venue.emulator.feed.LiveFeed.advance", advance)
    said: list[dict[str, str]] = []
    with pytest.raises(ZeroDivisionError, match="a broken market"):
        await asyncio.wait_for(
            serve_venue.serve(port=0, symbols=["linear:BTCUSDT"], seed=1, events_per_s=1.0,
                              capture=None, until_eof=False, listening=said.append), 30,
        )  # fmt: skip
    assert len(said) == 1


async def test_a_venue_that_cannot_listen_says_nothing_and_raises(tmp_path):
    taken = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        said: list[dict[str, str]] = []
        with pytest.raises(emulator.VenueError, match="already in use"):
            await serve_venue.serve(port=port, symbols=["linear:BTCUSDT"], seed=1, capture=None,
                                    events_per_s=1.0, until_eof=False,
                                    listening=said.append)  # fmt: skip
    assert said == []
