"""Bybit's public frames, written as Bybit writes them, and a codec to read them with."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from bot.core.events import Connected, Event, Frame
from bot.venue.wire import Codec

CONN = "linear.1"
T0_MS = 1_786_310_817_000


def message(topic: str, data: Any, kind: str = "delta", ts: int = T0_MS, **more: Any) -> dict:
    return {"topic": topic, "type": kind, "ts": ts, "data": data, **more}


def book(
    u: int,
    bids: list[tuple[str, str]] | None = None,
    asks: list[tuple[str, str]] | None = None,
    *,
    kind: str = "delta",
    depth: int = 50,
    name: str = "BTCUSDT",
    cts: int = T0_MS - 3,
) -> dict:
    data = {"s": name, "b": bids or [], "a": asks or [], "u": u, "seq": 7000 + u}
    return message(f"orderbook.{depth}.{name}", data, kind, cts=cts)


def snapshot(u: int = 10, **more: Any) -> dict:
    bids = [("65114.20", "6.054"), ("65114.10", "0.002"), ("65113.50", "1.5")]
    asks = [("65114.30", "10.486"), ("65114.40", "0.25"), ("65115.00", "2")]
    return book(u, bids, asks, kind="snapshot", **more)


def trade(price: str = "65114.20", qty: str = "0.004", side: str = "Sell", **more: Any) -> dict:
    one = {"T": T0_MS - 1, "s": "BTCUSDT", "S": side, "v": qty, "p": price, "L": "MinusTick",
           "i": "a9188a0a-82bc", "BT": False, "RPI": False, "seq": 7011}  # fmt: skip
    return message("publicTrade.BTCUSDT", [one | more], "snapshot")


def ticker(kind: str = "delta", **fields: str) -> dict:
    return message("tickers.BTCUSDT", {"symbol": "BTCUSDT", **fields}, kind, cs=1)


def kline(*, confirm: bool, **fields: Any) -> dict:
    start = T0_MS - T0_MS % 60_000
    bar = {"start": start, "end": start + 59_999, "interval": "1", "open": "65119.9",
           "close": "65114.3", "high": "65119.9", "low": "65114.2", "volume": "1.576",
           "turnover": "102627.995", "confirm": confirm, "timestamp": T0_MS}  # fmt: skip
    return message("kline.1.BTCUSDT", [bar | fields], "snapshot")


def text_of(body: dict) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def damaged(data: bytes, random: Random) -> bytes:
    """One to three bytes of a real frame are others, gone, or too many."""
    broken = bytearray(data)
    for _ in range(random.randint(1, 3)):
        if not broken:
            break
        at = random.randrange(len(broken))
        match random.randrange(5):
            case 0:
                broken[at] = random.choice(b'0123456789.,:"[]{}-eE\x00\xff')
            case 1:
                del broken[at : at + random.randint(1, 30)]
            case 2:
                broken[at:at] = broken[max(0, at - random.randint(1, 30)) : at]
            case 3:
                del broken[at + 1 :]
            case _:
                broken[at] ^= 1 << random.randrange(8)
    return bytes(broken)


class Wire:
    """A codec with one open connection, and a clock that a frame moves on by 1 ns."""

    def __init__(self, category: str = "linear") -> None:
        self.codec = Codec()
        self.ts = T0_MS * 1_000_000
        assert self.codec.decode(Connected(self.ts, CONN, category)) == []

    def send(self, *frames: dict | bytes) -> list[Event]:
        events: list[Event] = []
        for frame in frames:
            self.ts += 1
            data = frame if isinstance(frame, bytes) else text_of(frame)
            events += self.codec.decode(Frame(self.ts, CONN, data))
        return events

    @property
    def problems(self) -> list[tuple[str, str]]:
        return [(problem.kind, problem.text) for problem in self.codec.problems]
