"""A running venue and a plain client of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from bot.venue.emulator import Venue

LIMIT_S = 20.0


class Client:
    """A WebSocket that keeps every text it got."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[str] = []
        self.ended_with: WSMsgType | None = None

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; other frames stay in ``texts``."""
        await self.socket.send_str(json.dumps(request))
        return json.loads(await self.find(lambda text: '"op":' in text))

    async def find(self, wanted: Callable[[str], bool]) -> str:
        """Read until a text is wanted, and return it."""
        while True:
            text = await self.read()
            assert text is not None, f"the connection ended: {self.ended_with}"
            if wanted(text):
                return text

    async def read(self) -> str | None:
        """The next text; None at the end of the connection."""
        message = await self.socket.receive(LIMIT_S)
        if message.type is not WSMsgType.TEXT:
            self.ended_with = message.type
            return None
        self.texts.append(message.data)
        return str(message.data)


class Local:
    """A venue with its URLs and an HTTP session."""

    def __init__(self, venue: Venue, ws: str, rest: str, session: ClientSession) -> None:
        self.venue, self.ws, self.rest, self.session = venue, ws, rest, session

    async def connect(self, category: str = "linear") -> Client:
        return Client(await self.session.ws_connect(f"{self.ws}/v5/public/{category}"))

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        async with self.session.get(self.rest + path, params=query) as response:
            assert response.status == 200
            return await response.json()

    async def fault(self, **request: Any) -> dict[str, Any]:
        async with self.session.post(f"{self.rest}/control/fault", json=request) as response:
            answer = await response.json()
            assert response.status == (400 if "error" in answer else 200)
            return answer


@asynccontextmanager
async def running(venue: Venue | None = None) -> AsyncIterator[Local]:
    venue = venue or Venue(history_hours=2, events_per_s=100.0)
    ws, rest = await venue.start()
    try:
        async with ClientSession() as session:
            yield Local(venue, ws, rest, session)
    finally:
        await venue.close()


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        await asyncio.sleep(0.005)
