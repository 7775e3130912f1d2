"""Clients of the dashboard and the metrics that behave badly, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Self

_PATHS = ("/", "/api/state", "/api/fills?limit=1000", "/api/quality?symbol=linear:BTCUSDT",
          "/api/equity", "/api/log", "/static/app.css", "/static/../../config.py")  # fmt: skip
_UPGRADE = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"


class BadBrowsers:
    """Browsers at the page on ``port`` and scrapers at ``metrics``: slow, cut off, flooding."""

    def __init__(self, port: int, metrics: int, token: str) -> None:
        self._port, self._metrics, self._token = port, metrics, token
        self.answers: Counter[int] = Counter()
        """Answers by status."""

    async def misbehave(self, chance: random.Random, seconds: float, many: int = 6) -> None:
        """So many at a time, each in one bad way after the other."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        ways: list[Callable[[random.Random], Coroutine[Any, Any, None]]] = [
            self._read_and_vanish, self._never_read, self._ask_much, self._half_a_head,
            self._knock_as_websocket, self._scrape,
        ]  # fmt: skip

        async def one() -> None:
            while loop.time() < end_s:
                with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(max(0.1, min(15.0, end_s - loop.time()))):
                        await chance.choice(ways)(chance)
                await asyncio.sleep(chance.uniform(0, 0.2))

        await asyncio.gather(*(one() for _ in range(many)))
        async with asyncio.timeout(30):  # Whoever is polite is still heard, a stranger refused.
            for token, status in ((self._token, 200), ("not-the-token", 401)):
                while not self.answers[status]:
                    async with _Line(self._port) as line:
                        await line.ask(self._request(_PATHS[0], token))
                        self.answers[await line.status()] += 1

    async def _read_and_vanish(self, chance: random.Random) -> None:
        async with _Line(self._port) as line:
            await line.ask(self._request("/api/stream?symbol=linear:BTCUSDT"))
            for _ in range(chance.randrange(1, 10)):
                await line.reader.readuntil(b"\n\n")
            self.answers[200] += 1

    async def _never_read(self, chance: random.Random) -> None:
        async with _Line(self._port) as line:
            await line.ask(self._request("/api/stream?symbol=linear:ETHUSDT"))
            await asyncio.sleep(chance.uniform(0, 15))

    async def _ask_much(self, chance: random.Random) -> None:
        for _ in range(chance.randrange(60)):
            async with _Line(self._port) as line:
                token = chance.choice((self._token, "not-the-token"))
                await line.ask(self._request(chance.choice(_PATHS), token))
                self.answers[await line.status()] += 1

    async def _half_a_head(self, chance: random.Random) -> None:
        async with _Line(self._port) as line:
            await line.ask(self._request("/")[: chance.randrange(1, 60)])
            await asyncio.sleep(chance.uniform(0, 12))

    async def _knock_as_websocket(self, chance: random.Random) -> None:
        for _ in range(chance.randrange(40)):
            async with _Line(self._port) as line:
                await line.ask(self._request("/api/stream", more=_UPGRADE))

    async def _scrape(self, chance: random.Random) -> None:
        for _ in range(chance.randrange(1, 6)):
            async with _Line(self._metrics) as line:
                await line.ask(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:1\r\n\r\n")
                self.answers[await line.status()] += 1

    def _request(self, path: str, token: str | None = None, more: str = "") -> bytes:
        return (
            f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\n{more}"
            f"authorization: Bearer {token or self._token}\r\n\r\n"
        ).encode()


class _Line:
    """One connection, ended as if the machine had died."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self.reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def ask(self, request: bytes) -> None:
        self._writer.write(request)
        await self._writer.drain()

    async def status(self) -> int:
        return int((await self.reader.readline()).split()[1])
