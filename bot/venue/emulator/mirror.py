"""The synthetic market as core's events: what the venue's own matching engine sees.

Symbols that nobody trades cost nothing. Own orders do not show in the public book; core decides
what they would have got of it.
"""

from __future__ import annotations

from decimal import Decimal

from bot.core.events import BookUpdate, Event, Level, Ticker, Trade
from bot.venue.answers import parse_instruments
from bot.venue.emulator.instruments import instrument
from bot.venue.emulator.listing import Listing, plain
from bot.venue.emulator.market import Market, SymbolMarket

DEPTH = 200
"""Levels a side that the matching engine works with."""
_MS = 1_000_000
_SECOND_NS = 1_000_000_000


class Mirror:
    """The mirrored symbols. ``open`` begins one; ``events`` gives what has happened since."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._symbols: dict[str, _Mirrored] = {}

    def open(self, symbol: str) -> list[Event]:
        """Rules, ticker, last trade and a full book; nothing for one that is mirrored already.

        Raises KeyError for a symbol that is not listed.
        """
        if symbol in self._symbols:
            return []
        market = self._market.symbols[symbol]
        mirrored = self._symbols[symbol] = _Mirrored(market)
        now_ns = self._market.now_ns
        category = market.listing.category
        rules = parse_instruments(
            category, {"list": [instrument(market.listing)]}, now_ns, market.at_ns
        )
        book = mirrored.book(now_ns, snapshot=True)
        return [*rules, mirrored.ticker(now_ns), mirrored.last_trade(now_ns), book]

    def events(self) -> list[Event]:
        """What happened since the last call, per symbol: ticker, trades, then the book."""
        now_ns = self._market.now_ns
        return [event for each in self._symbols.values() for event in each.events(now_ns)]


class _Mirrored:
    """One symbol, and what was last told of it."""

    def __init__(self, market: SymbolMarket) -> None:
        self._market = market
        listing = market.listing
        self._tick = tick_e12(listing)
        self._lot = lot_e12(listing)
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._seq = 0
        self._u = 0
        self._second = 0

    def events(self, now_ns: int) -> list[Event]:
        events: list[Event] = []
        if now_ns // _SECOND_NS != self._second:
            events.append(self.ticker(now_ns))
        if self._market.seq != self._seq:
            # No print is published, and so forgotten, before it has been looked at here.
            events += [
                Trade(
                    now_ns,
                    trade.at_ns,
                    self._market.listing.symbol,
                    trade.seq,
                    "Buy" if trade.buy else "Sell",
                    trade.price * self._tick,
                    trade.lots * self._lot,
                )
                for trade in self._market.unpublished
                if trade.seq > self._seq
            ]
            events.append(self.book(now_ns, snapshot=False))
        return events

    def ticker(self, now_ns: int) -> Ticker:
        self._second = now_ns // _SECOND_NS
        market = self._market
        listing, funding = market.listing, market.funding
        last = Decimal(listing.price_plain(market.last))
        if listing.category == "spot":
            return Ticker(now_ns, now_ns, listing.symbol, last)
        return Ticker(
            now_ns,
            now_ns,
            listing.symbol,
            last,
            mark=Decimal(f"{funding.mark:.{listing.price_scale}f}"),
            index=Decimal(f"{market.index:.{listing.price_scale}f}"),
            funding_rate=Decimal(plain(funding.rate_e8, 8)),
            next_funding_ts=funding.next_ms * _MS,
        )

    def last_trade(self, now_ns: int) -> Trade:
        """The last price, which triggers are held against, as one lot that met nobody here."""
        market = self._market
        price = market.last * self._tick
        return Trade(
            now_ns, market.at_ns, market.listing.symbol, market.seq, "Buy", price, self._lot
        )

    def book(self, now_ns: int, *, snapshot: bool) -> BookUpdate:
        market = self._market
        bids, asks = market.book.bids.top(DEPTH), market.book.asks.top(DEPTH)
        old_bids, old_asks = ({}, {}) if snapshot else (self._bids, self._asks)
        self._bids, self._asks, self._seq = bids, asks, market.seq
        self._u += 1
        return BookUpdate(
            now_ns,
            market.at_ns,
            market.listing.symbol,
            DEPTH,
            self._u,
            market.seq,
            snapshot,
            self._changes(old_bids, bids),
            self._changes(old_asks, asks),
        )

    def _changes(self, old: dict[int, int], new: dict[int, int]) -> list[Level]:
        tick, lot = self._tick, self._lot
        changed = [(p * tick, lots * lot) for p, lots in new.items() if old.get(p) != lots]
        return changed + [(price * tick, 0) for price in old if price not in new]


def tick_e12(listing: Listing) -> int:
    """A tick as core counts prices."""
    return int(listing.tick * 10 ** (12 - listing.price_scale))


def lot_e12(listing: Listing) -> int:
    """A lot as core counts quantities."""
    return int(10 ** (12 - listing.qty_scale))
