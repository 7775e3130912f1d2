"""Three readers of the same socket, each to a callback: ours, the plainest fast one, pybit's."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec
import picows
import pybit.unified_trading
from msgspec import Struct

from bot.core.engine import Engine
from bot.core.events import Input
from bot.core.strategy import Seen, View
from bot.inbox import Inbox
from bot.run import Memory, Run
from bot.venue.stream import MarketStream, connect_limit

TOPICS = ("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT")
_BATCH = 200
"""Inputs taken before the loop looks at its other tasks, as in a live run."""
_ENDS_AFTER_S = 120.0


class Read(Struct, frozen=True):
    """What one reader did: seconds from the first message to the last, and of them on the CPU."""

    wall_s: float
    cpu_s: float


class Span:
    """Counts messages to the last one. ``stamps`` has the time of each if it is kept."""

    def __init__(self, messages: int, ended: Callable[[], None]) -> None:
        self.stamps: list[int] = []
        self._left = messages
        self._ended = ended
        self._first = (0.0, 0.0)
        self._last = (0.0, 0.0)

    def count(self) -> None:
        """One message has reached the callback."""
        left = self._left = self._left - 1
        if left <= 0:
            self._last = time.perf_counter(), time.process_time()
            self._ended()
        elif not self._first[0]:
            self._first = time.perf_counter(), time.process_time()

    def stamp(self) -> None:
        """One message has reached the callback, at this time."""
        self.stamps.append(time.monotonic_ns())
        self.count()

    def read(self) -> Read:
        (began_s, began_cpu_s), (ended_s, ended_cpu_s) = self._first, self._last
        return Read(ended_s - began_s, ended_cpu_s - began_cpu_s)


# --- ours -------------------------------------------------------------------------------------


class Told:
    """A strategy that tells a span of every trade and book."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.state = None
        self._told = told
        self._is_open = False

    def on_event(self, event: Seen, view: View) -> None:
        del view
        # The fields that only market data of a socket has: nothing else may be counted.
        if hasattr(event, "seq"):
            self._told()


async def ours(
    url: str,
    engine_of: Callable[[Told], Engine],
    opening: Sequence[Input],
    messages: int,
    *,
    stamped: bool = False,
) -> tuple[Read, list[int]]:
    """Stream, inbox, codec, engine, strategy: a live run without journal and ledger."""
    done = asyncio.Event()
    span = Span(messages, done.set)
    run = Run(engine_of(Told(span.stamp if stamped else span.count)), Memory())
    for item in opening:
        run.take(item)
    inbox = Inbox(20_000)
    stream = MarketStream(
        url,
        "linear.1",
        "linear",
        TOPICS,
        inbox,
        connects=connect_limit(),
        random=Random(1),  # noqa: S311
    )

    async def pump() -> None:
        take = run.take
        while True:
            for item in await inbox.take(_BATCH):
                take(item)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(stream.run()), asyncio.create_task(pump())]
    try:
        async with asyncio.timeout(_ENDS_AFTER_S):
            await done.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return span.read(), span.stamps


# --- picows, msgspec and two dicts ---------------------------------------------------------------


class _Book(Struct, gc=False):
    b: list[tuple[float, float]]
    a: list[tuple[float, float]]
    u: int
    seq: int


class _TextBook(Struct, gc=False):
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    u: int
    seq: int


class _Trade(Struct, gc=False):
    T: int
    S: str
    v: float
    p: float
    seq: int


class _BookMessage(Struct, gc=False):
    type: str
    ts: int
    cts: int
    data: _Book


class _TextBookMessage(Struct, gc=False):
    type: str
    ts: int
    cts: int
    data: _TextBook


class _TradeMessage(Struct, gc=False):
    type: str
    ts: int
    data: list[_Trade]


class _Plain(picows.WSListener):
    """Typed decode, a dict a side, the best of each, a callback. Checks nothing."""

    def __init__(self, told: Callable[[], None], *, is_exact: bool) -> None:
        """``is_exact`` keys the book by Bybit's texts, else by floats, which round."""
        self._told = told
        self._bids: dict[Any, Any] = {}
        self._asks: dict[Any, Any] = {}
        self.best: tuple[Any, Any] = (0.0, 0.0)
        kind = _TextBookMessage if is_exact else _BookMessage
        self._book: Callable[[bytes], Any] = msgspec.json.Decoder(kind, strict=False).decode
        self._trades = msgspec.json.Decoder(_TradeMessage, strict=False).decode
        self._gone: Any = "0" if is_exact else 0.0
        self._key = float if is_exact else None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        request = {"op": "subscribe", "req_id": "1", "args": TOPICS}
        transport.send(picows.WSMsgType.TEXT, msgspec.json.encode(request))

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        del transport
        data = frame.get_payload_as_bytes()
        if data.startswith(b'{"topic":"orderbook'):
            self._apply(self._book(data))
        elif data.startswith(b'{"topic":"publicTrade'):
            self._trades(data)
        else:
            return
        self._told()

    def _apply(self, message: Any) -> None:
        bids, asks, gone = self._bids, self._asks, self._gone
        if message.type == "snapshot":
            bids.clear()
            asks.clear()
        for price, qty in message.data.b:
            if qty != gone:
                bids[price] = qty
            else:
                bids.pop(price, None)
        for price, qty in message.data.a:
            if qty != gone:
                asks[price] = qty
            else:
                asks.pop(price, None)
        self.best = max(bids, key=self._key), min(asks, key=self._key)


async def plain(url: str, messages: int, *, is_exact: bool) -> Read:
    """picows, msgspec and a plain dict book in one callback."""
    done = asyncio.Event()
    span = Span(messages, done.set)
    transport, _ = await picows.ws_connect(
        lambda: _Plain(span.count, is_exact=is_exact), url, use_aiofastnet=False
    )
    async with asyncio.timeout(_ENDS_AFTER_S):
        await done.wait()
    transport.send_close(picows.WSCloseCode.OK)
    transport.disconnect(graceful=False)
    return span.read()


# --- pybit ----------------------------------------------------------------------------------------


def pybits(url: str, messages: int) -> Read:
    """pybit's WebSocket with a raw callback: decoded, and no book."""
    done = threading.Event()
    span = Span(messages, done.set)

    def on_message(message: dict[str, Any]) -> None:
        if "topic" in message:
            span.count()

    logging.getLogger("pybit").addHandler(logging.NullHandler())
    constant = pybit.unified_trading.PUBLIC_WSS
    pybit.unified_trading.PUBLIC_WSS = url  # it has no other way to be pointed at a venue
    try:
        client = pybit.unified_trading.WebSocket(
            channel_type="linear", testnet=False, callback_function=on_message
        )
    finally:
        pybit.unified_trading.PUBLIC_WSS = constant
    try:
        client.orderbook_stream(50, "BTCUSDT", on_message)
        if not done.wait(_ENDS_AFTER_S):
            raise TimeoutError("pybit did not hear every message")
    finally:
        client.exit()
    return span.read()
