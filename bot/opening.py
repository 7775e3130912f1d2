"""What the market is at this moment, as inputs: where a reader may begin a recording.

Every segment of a recording carries it, so that the segments before may go.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from bot.core.book import Book
from bot.core.events import (
    E12,
    BookUpdate,
    ClockOffset,
    Connected,
    Disconnected,
    Event,
    FeedDown,
    Frame,
    Input,
    Instrument,
    Ticker,
)
from bot.core.instrument import to_decimal
from bot.venue.payloads import MS
from bot.venue.wire import Codec


class _Shown(Struct):
    """One book as a connection last gave it."""

    book: Book
    exchange_ts: int = 0


class Opening:
    """Reads a recording's inputs as they are written.

    ``inputs`` gives the connections, the rules and every live book and ticker; a codec that takes
    them stands where this one stands. ``gaps`` counts the books that were lost.
    """

    def __init__(self) -> None:
        self.codec = Codec()
        self.gaps = 0
        self._ts = 0
        self._connections: dict[str, str] = {}
        self._rules: dict[str, Instrument] = {}
        self._offset: ClockOffset | None = None
        self._books: dict[tuple[str, str, int], _Shown] = {}
        self._tickers: dict[tuple[str, str], Ticker] = {}

    def take(self, item: Input) -> list[Event]:
        """Take the next input; returns its events."""
        self._ts = item.ts
        conn = ""
        match item:
            case Frame():
                conn = item.conn
            case Connected():
                self._forget(item.conn)
                self._connections[item.conn] = item.category
            case Disconnected():
                self._forget(item.conn)
                self._connections.pop(item.conn, None)
            case Instrument():
                self._rules[item.symbol] = item
            case ClockOffset():
                self._offset = item
        events = self.codec.decode(item)
        for event in events:
            self._apply(conn, event)
        return events

    def inputs(self) -> list[Input]:
        """The state, stamped with the time of the last input."""
        made: list[Input] = [*self._rules.values()]
        if self._offset is not None:
            made.append(self._offset)
        made.sort(key=attrgetter("ts"))
        made += [Connected(self._ts, *each) for each in self._connections.items()]
        made += self._frames()
        return made

    def _apply(self, conn: str, event: Event) -> None:
        match event:
            case BookUpdate():
                key = (conn, event.symbol, event.depth)
                shown = self._books.get(key)
                if shown is None:
                    shown = self._books[key] = _Shown(Book())
                shown.book.apply(event)
                shown.exchange_ts = event.exchange_ts
            case Ticker():
                self._tickers[conn, event.symbol] = event
            case FeedDown():
                self.gaps += 1
                for key in [key for key in self._books if key[1] == event.symbol]:
                    del self._books[key]

    def _forget(self, conn: str) -> None:
        for key in [key for key in self._books if key[0] == conn]:
            del self._books[key]
        for pair in [pair for pair in self._tickers if pair[0] == conn]:
            del self._tickers[pair]

    def _frames(self) -> Iterator[Frame]:
        for (conn, symbol, depth), shown in self._books.items():
            yield Frame(self._ts, conn, _book_message(symbol, depth, shown))
        for (conn, _), ticker in self._tickers.items():
            yield Frame(self._ts, conn, _ticker_message(ticker))


def _book_message(symbol: str, depth: int, shown: _Shown) -> bytes:
    name, book, stamp_ms = symbol.partition(":")[2], shown.book, shown.exchange_ts // MS
    data = {
        "s": name,
        "b": [_level(price, book.bids[price]) for price in sorted(book.bids, reverse=True)],
        "a": [_level(price, book.asks[price]) for price in sorted(book.asks)],
        "u": book.u,
        "seq": book.seq,
    }
    return _message(f"orderbook.{depth}.{name}", stamp_ms, data, cts=stamp_ms)


def _level(price: E12, qty: E12) -> tuple[str, str]:
    return f"{to_decimal(price):f}", f"{to_decimal(qty):f}"


def _ticker_message(ticker: Ticker) -> bytes:
    name = ticker.symbol.partition(":")[2]
    numbers = {
        "lastPrice": ticker.last,
        "markPrice": ticker.mark,
        "indexPrice": ticker.index,
        "fundingRate": ticker.funding_rate,
        "openInterest": ticker.open_interest,
    }
    data = {key: f"{number:f}" for key, number in numbers.items() if number is not None}
    if ticker.next_funding_ts is not None:
        data["nextFundingTime"] = str(ticker.next_funding_ts // MS)
    return _message(f"tickers.{name}", ticker.exchange_ts // MS, {"symbol": name, **data})


def _message(topic: str, stamp_ms: int, data: dict[str, Any], **more: int) -> bytes:
    message = {"topic": topic, "type": "snapshot", "ts": stamp_ms, "data": data, **more}
    return msgspec.json.encode(message)
