"""The topics of the synthetic market: what each publishes and when.

A stream exists while somebody is subscribed to it. It knows nothing of subscribers: they all
get the same frames, but for the first ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from bot.venue.emulator import frames
from bot.venue.emulator.candles import interval_end, interval_start
from bot.venue.emulator.market import SymbolMarket

BOOK_CADENCE_MS = {1: 10, 50: 20, 200: 100, 1000: 200}
"""https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook"""
GRID_MS = 10
_REPEAT_MS = 3000  # an unchanged one-level book is sent again after that long
_MS = 1_000_000


class Stream(Protocol):
    """One topic that somebody listens to."""

    cadence_ms: int
    phase_ms: int

    def subscribed(self, now_ms: int) -> list[str]:
        """A new subscriber's first frames."""

    def publish(self, now_ms: int) -> list[str]:
        """What is due now."""


class BookStream:
    """``orderbook.{depth}``: a snapshot, then the differences; one level: snapshots only."""

    phase_ms = 0

    def __init__(self, market: SymbolMarket, depth: int, u: int) -> None:
        self.cadence_ms = BOOK_CADENCE_MS[depth]
        self.u = u
        self._market = market
        self._depth = depth
        self._restarting = False
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._seq = 0
        self._cts_ms = 0
        self._sent_ms = 0

    def subscribed(self, now_ms: int) -> list[str]:
        if not self._seq:
            self._look()
            self._sent_ms = now_ms
        return [self._snapshot(now_ms)]

    def restart(self) -> None:
        self._restarting = True

    def publish(self, now_ms: int) -> list[str]:
        if self._restarting:
            self._restarting = False
            self.u = 1
            self._look()
            return [self._snapshot(now_ms)]
        if self._seq == self._market.seq:
            return self._repeat(now_ms)
        bids, asks = self._bids, self._asks
        self._look()
        changed_bids = _changes(bids, self._bids)
        changed_asks = _changes(asks, self._asks)
        if not changed_bids and not changed_asks:
            return self._repeat(now_ms)
        self.u += 1
        self._sent_ms = now_ms
        if self._depth == 1:
            return [self._snapshot(now_ms)]
        return [
            frames.book(
                self._market.listing,
                self._depth,
                kind="delta",
                ts_ms=now_ms,
                bids=sorted(changed_bids, reverse=True),
                asks=sorted(changed_asks),
                u=self.u,
                seq=self._seq,
                cts_ms=self._cts_ms,
            )
        ]

    def _repeat(self, now_ms: int) -> list[str]:
        if self._depth != 1 or now_ms - self._sent_ms < _REPEAT_MS:
            return []
        self._sent_ms = now_ms
        return [self._snapshot(now_ms)]

    def _look(self) -> None:
        book = self._market.book
        self._bids, self._asks = book.bids.top(self._depth), book.asks.top(self._depth)
        self._seq, self._cts_ms = self._market.seq, self._market.at_ns // _MS

    def _snapshot(self, now_ms: int) -> str:
        return frames.book(
            self._market.listing,
            self._depth,
            kind="snapshot",
            ts_ms=now_ms,
            bids=self._bids.items(),
            asks=self._asks.items(),
            u=self.u,
            seq=self._seq,
            cts_ms=self._cts_ms,
        )


class TickerStream:
    """``tickers``: futures a snapshot, then changed fields; spot snapshots of what changed."""

    phase_ms = 0

    def __init__(self, market: SymbolMarket) -> None:
        self._market = market
        self._linear = market.listing.category == "linear"
        self.cadence_ms = 100 if self._linear else 50
        self._sent: dict[str, str] = {}

    def subscribed(self, now_ms: int) -> list[str]:
        # Later subscribers get what the earlier ones know, so that the next delta fits both.
        if not self._sent:
            self._sent = self._fields()
        return [self._frame(self._sent, "snapshot", now_ms)]

    def publish(self, now_ms: int) -> list[str]:
        fields = self._fields()
        changed = {name for name, text in fields.items() if self._sent.get(name) != text}
        self._sent = fields
        if not changed:
            return []
        if not self._linear:
            return [self._frame(fields, "snapshot", now_ms)]
        for side in ("bid1", "ask1"):  # a price never comes without its size
            pair = {side + "Price", side + "Size"}
            if changed & pair:
                changed |= pair
        changed.add("symbol")
        delta = {name: text for name, text in fields.items() if name in changed}
        return [self._frame(delta, "delta", now_ms)]

    def _fields(self) -> dict[str, str]:
        if self._linear:
            return frames.linear_ticker_fields(self._market)
        return frames.spot_ticker_fields(self._market)

    def _frame(self, fields: dict[str, str], kind: str, now_ms: int) -> str:
        market = self._market
        return frames.ticker(market.listing, fields, kind=kind, seq=market.seq, ts_ms=now_ms)


class KlineStream:
    """``kline.{interval}``: the open bar every second that it changed, each bar once at its end."""

    cadence_ms = 1000

    def __init__(self, market: SymbolMarket, interval: str) -> None:
        self._market = market
        self._interval = interval
        name = f"{market.listing.symbol}{interval}"
        self.phase_ms = zlib.crc32(name.encode()) % 100 * GRID_MS
        self._start_ms = 0
        self._sent = ""
        self._sent_ms = 0

    def subscribed(self, now_ms: int) -> list[str]:
        if self._start_ms:  # an open bar must still be confirmed to those who came before
            start_ms = self._start_ms
        else:
            start_ms = self._start_ms = interval_start(self._interval, now_ms)
        return frames.kline(
            self._market.listing, self._interval, [self._bar(start_ms, now_ms)], now_ms
        )

    def publish(self, now_ms: int) -> list[str]:
        start_ms = interval_start(self._interval, now_ms)
        bars = list(self._closed(start_ms, now_ms))
        bar = self._market.candles.bar(self._interval, start_ms)
        state = str(bar)
        if not bars and state == self._sent and now_ms - self._sent_ms < _REPEAT_MS:
            return []
        self._sent, self._sent_ms = state, now_ms
        bars.append(self._bar(start_ms, now_ms))
        return frames.kline(self._market.listing, self._interval, bars, now_ms)

    def _closed(self, until_ms: int, now_ms: int) -> Iterator[str]:
        while self._start_ms < until_ms:
            yield self._bar(self._start_ms, now_ms, confirm=True)
            self._start_ms = interval_end(self._interval, self._start_ms) + 1

    def _bar(self, start_ms: int, now_ms: int, *, confirm: bool = False) -> str:
        bar = self._market.candles.bar(self._interval, start_ms)
        assert bar is not None, f"no bar at {start_ms} although the market has passed it"
        listing = self._market.listing
        return frames.kline_bar(listing, self._interval, bar, confirm=confirm, ts_ms=now_ms)


class SilentStream:
    """A topic that exists and never has anything to say; trades come by another way."""

    cadence_ms = 1000
    phase_ms = 0

    def subscribed(self, now_ms: int) -> list[str]:
        del now_ms
        return []

    def publish(self, now_ms: int) -> list[str]:
        del now_ms
        return []


def _changes(old: dict[int, int], new: dict[int, int]) -> list[tuple[int, int]]:
    """Levels to send, (ticks, lots): set, changed, and gone as 0."""
    changed = [(price, lots) for price, lots in new.items() if old.get(price) != lots]
    changed += [(price, 0) for price in old if price not in new]
    return changed
