"""What the server plays: the protocol of a feed, and the synthetic market as one.

``LiveFeed.advance`` moves the market and returns the frames that fell due, in the order in which
the venue would send them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Protocol

from bot.venue.emulator import frames
from bot.venue.emulator.candles import INTERVAL_MINUTES
from bot.venue.emulator.market import Market, PublicTrade, SymbolMarket
from bot.venue.emulator.streams import (
    BOOK_CADENCE_MS,
    GRID_MS,
    BookStream,
    KlineStream,
    SilentStream,
    Stream,
    TickerStream,
)

_TRADE_DELAY_NS = 1_000_000
_MS = 1_000_000
_TOPIC = re.compile(r"(orderbook|kline)\.(\w+)\.(\w+)|(publicTrade|tickers|allLiquidation)\.(\w+)")

Topic = tuple[str, str]
"""(category, topic), for example ("linear", "orderbook.50.BTCUSDT")."""
Outgoing = tuple[Topic, str]
"""A frame and the topic whose subscribers get it."""


class Feed(Protocol):
    """What a server plays: the synthetic market, or a capture."""

    def knows(self, topic: Topic) -> bool:
        """Whether the venue has such a topic."""

    def subscribe(self, topic: Topic) -> list[str]:
        """The frames that a new subscriber gets at once; the topic is live from here on."""

    def release(self, topic: Topic) -> None:
        """The topic's last subscriber has gone."""

    def restart(self, topic: Topic) -> bool:
        """Begin the topic's book again at ``u`` = 1; False where that cannot be done."""

    def advance(self, to_ns: int) -> list[Outgoing]:
        """Play up to ``to_ns`` and return what became due, in order."""


class LiveFeed:
    """The synthetic market as a feed, on a grid of 10 ms of market time.

    ``on_step`` is called after each, before the prints of the step are published and forgotten.
    """

    def __init__(self, market: Market, on_step: Callable[[], None] | None = None) -> None:
        self.market = market
        self._on_step = on_step
        self._now_ms = market.now_ns // _MS // GRID_MS * GRID_MS
        self._streams: dict[Topic, Stream] = {}
        self._released_u: dict[Topic, int] = {}

    def knows(self, topic: Topic) -> bool:
        return self._open(topic) is not None

    def subscribe(self, topic: Topic) -> list[str]:
        stream = self._streams.get(topic) or self._open(topic)
        assert stream is not None, f"subscribed to {topic}, which the venue does not know"
        self._streams[topic] = stream
        return stream.subscribed(self._now_ms)

    def release(self, topic: Topic) -> None:
        stream = self._streams.pop(topic, None)
        if isinstance(stream, BookStream):
            self._released_u[topic] = stream.u

    def restart(self, topic: Topic) -> bool:
        stream = self._streams.get(topic)
        if not isinstance(stream, BookStream):
            return False
        stream.restart()
        return True

    def advance(self, to_ns: int) -> list[Outgoing]:
        outgoing: list[Outgoing] = []
        while (self._now_ms + GRID_MS) * _MS <= to_ns:
            self._now_ms += GRID_MS
            self.market.advance(self._now_ms * _MS)
            if self._on_step is not None:
                self._on_step()
            for market in self.market.symbols.values():
                if market.unpublished:
                    outgoing += self._trades(market)
            for topic, stream in self._streams.items():
                if self._now_ms % stream.cadence_ms == stream.phase_ms:
                    outgoing += [(topic, text) for text in stream.publish(self._now_ms)]
        return outgoing

    def _trades(self, market: SymbolMarket) -> list[Outgoing]:
        """Prints leave a millisecond after they were made: some only after the book shows them."""
        due_ns = self._now_ms * _MS - _TRADE_DELAY_NS
        topic = (market.listing.category, f"publicTrade.{market.listing.name}")
        by_taker: dict[int, list[PublicTrade]] = {}
        for trade in market.unpublished:
            if trade.at_ns <= due_ns:
                by_taker.setdefault(trade.seq, []).append(trade)
        market.unpublished = [trade for trade in market.unpublished if trade.at_ns > due_ns]
        if topic not in self._streams:
            return []
        return [
            (topic, text)
            for prints in by_taker.values()
            for text in frames.trades(
                market.listing, prints, (prints[0].at_ns + _TRADE_DELAY_NS) // _MS
            )
        ]

    def _open(self, topic: Topic) -> Stream | None:
        """A fresh stream for a topic, or None where the venue has no such topic."""
        category, text = topic
        match = _TOPIC.fullmatch(text)
        if match is None:
            return None
        kind, argument, name = match[1] or match[4], match[2] or "", match[3] or match[5]
        market = self.market.symbols.get(f"{category}:{name}")
        if market is None:
            return None
        if kind == "orderbook":
            depth = int(argument) if argument.isdigit() else 0
            if depth not in BOOK_CADENCE_MS:
                return None
            return BookStream(market, depth, self._released_u.get(topic, _first_u(topic)) + 1)
        if kind == "kline":
            return KlineStream(market, argument) if argument in INTERVAL_MINUTES else None
        if kind == "tickers":
            return TickerStream(market)
        return SilentStream() if kind == "publicTrade" or category == "linear" else None


def _first_u(topic: Topic) -> int:
    """Every book counts its own updates, from anywhere; only 1 has a meaning (a restart)."""
    return zlib.crc32(":".join(topic).encode()) % 50_000_000 + 1
