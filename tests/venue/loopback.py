"""A WebSocket venue of a few lines, an inbox, and a wait, for the tests of the streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from ssl import SSLContext
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bot.core.events import Connected, Disconnected, Frame, Input
from bot.venue.limit import RateLimit
from bot.venue.stream import MarketStream, connect_limit

Answer = Callable[["Client", dict[str, Any]], None]


def ack(client: Client, request: dict[str, Any]) -> None:
    """Grant every request, as Bybit's linear stream does."""
    client.say(success=True, ret_msg="", conn_id="c", req_id=request["req_id"], op=request["op"])


class Client(WSListener):
    """A client as the venue sees it."""

    def __init__(self, venue: Venue) -> None:
        self.requests: list[dict[str, Any]] = []
        self.closed = False
        self.transport: WSTransport | None = None
        self._venue = venue

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self._venue.clients.append(self)
        self._venue.welcome(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()
        else:
            request = json.loads(frame.get_payload_as_bytes())
            self.requests.append(request)
            self._venue.answer(self, request)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closed = True

    def say(self, **message: Any) -> None:
        self.send(json.dumps(message).encode())

    def send(self, data: bytes) -> None:
        self.transport.send(WSMsgType.TEXT, data)

    def asked(self, op: str) -> list[dict[str, Any]]:
        return [request for request in self.requests if request["op"] == op]


class Venue:
    """Listens on 127.0.0.1; ``answer`` reacts to requests and ``welcome`` to connects."""

    def __init__(self, answer: Answer, welcome: Callable[[Client], None]) -> None:
        self.answer = answer
        self.welcome = welcome
        self.clients: list[Client] = []
        self.paths: list[str] = []
        self.url = ""

    def accept(self, request: WSUpgradeRequest) -> Client | None:
        self.paths.append(request.path.decode())
        return Client(self) if self.paths[-1].startswith("/v5/public/") else None


@asynccontextmanager
async def serving(
    answer: Answer = ack,
    welcome: Callable[[Client], None] = lambda client: None,
    ssl_context: SSLContext | None = None,
) -> AsyncIterator[Venue]:
    venue = Venue(answer, welcome)
    server = await ws_create_server(venue.accept, "127.0.0.1", 0, ssl=ssl_context)
    port = server.sockets[0].getsockname()[1]
    venue.url = f"{'wss' if ssl_context else 'ws'}://127.0.0.1:{port}/v5/public/linear"
    try:
        yield venue
    finally:
        server.close()
        for client in venue.clients:
            client.transport.disconnect(graceful=False)
        await until(lambda: all(client.closed for client in venue.clients))
        await server.wait_closed()


class Box:
    """An inbox that is full at ``limit`` items until ``take`` has made room."""

    def __init__(self, limit: int = 1_000_000, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.items: list[Input] = []
        self._clock_ns = clock_ns
        self.has_room = asyncio.Event()
        self.has_room.set()
        self._limit = limit
        self._last = 0

    def now(self) -> int:
        self._last = max(self._last, self._clock_ns())
        return self._last

    def put(self, item: Input) -> None:
        self.items.append(item)
        if len(self.items) >= self._limit:
            self.has_room.clear()

    def put_frames(self, conn: str, messages: Sequence[bytes]) -> bool:
        for data in messages:
            self.put(Frame(self.now(), conn, data))
        return self.has_room.is_set()

    def take(self) -> list[Input]:
        taken, self.items = self.items, []
        self.has_room.set()
        return taken

    def frames(self) -> list[bytes]:
        return [item.data for item in self.items if isinstance(item, Frame)]

    def connects(self) -> list[Connected]:
        return [item for item in self.items if isinstance(item, Connected)]

    def reasons(self) -> list[str]:
        return [item.reason for item in self.items if isinstance(item, Disconnected)]


class Highest(Random):
    """Draws the upper bound, so that a test sees it."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


class Naps:
    """A sleep that only notes how long it was asked for."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    async def __call__(self, delay_s: float) -> None:
        self.asked_s.append(delay_s)
        await asyncio.sleep(0.001)


def market(
    url: str,
    inbox: Box,
    topics: tuple[str, ...] = ("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"),
    *,
    connects: RateLimit | None = None,
    random: Random | None = None,
    **settings: Any,
) -> MarketStream:
    """A stream whose back-off does not wait."""
    settings.setdefault("sleep", Naps())
    return MarketStream(
        url,
        "linear.1",
        "linear",
        topics,
        inbox,
        connects=connects or connect_limit(),
        random=random or Random(1),
        **settings,
    )


@asynccontextmanager
async def running(stream: MarketStream) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(stream.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object], limit_s: float = 10.0) -> None:
    """Wait until the condition holds; fail after ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "this did not happen in time"
        await asyncio.sleep(0.002)
