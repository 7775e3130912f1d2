"""What is known of every symbol: book, rules, ticker, clock, and if the book can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bot.core.book import Book
from bot.core.events import (
    E12,
    BookUpdate,
    Candle,
    ClockOffset,
    Event,
    FeedDown,
    FeedUp,
    Fees,
    Instrument,
    Prediction,
    Ticker,
    Trade,
)
from bot.core.instrument import UNIT, Rules, to_e12
from bot.core.margin import Tier, tiers_of
from bot.core.price_limits import Premium

CROSSED_AGAIN_NS = 1_000_000_000
"""How often a crossed book is told of, so that it is asked for again."""


class Listing:
    """One symbol. ``clock_ns`` is the largest exchange stamp seen in its books and trades.

    ``live_seq`` is the ``seq`` of the snapshot since which the book is known without a gap.
    The fee rates are None until the venue's are known.
    """

    __slots__ = ("book", "candle", "clock_ns", "crossed_ts", "funding_rate", "index", "is_live",
                 "last_price", "live_seq", "maker_rate", "mark", "next_funding_ns", "predictions",
                 "premium", "rules", "symbol", "taker_rate", "ticker", "tiers", "was_crossed",
                 )  # fmt: skip

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.book = Book()
        self.is_live = False
        self.was_crossed = False
        self.crossed_ts = 0
        self.live_seq = 0
        self.clock_ns = 0
        self.last_price: E12 = 0
        self.mark: E12 = 0
        self.index: E12 = 0
        self.premium = Premium()
        self.tiers: tuple[Tier, ...] = ()
        self.maker_rate: E12 | None = None
        self.taker_rate: E12 | None = None
        self.next_funding_ns = 0
        self.funding_rate: E12 = 0
        self.rules: Rules | None = None
        self.ticker: Ticker | None = None
        self.candle: Candle | None = None
        self.predictions: dict[str, Prediction] = {}

    def set_fees(self, fees: Fees) -> None:
        self.maker_rate, self.taker_rate = to_e12(fees.maker_rate), to_e12(fees.taker_rate)

    @property
    def mid_e12(self) -> E12:
        """The middle of the book, else the last trade, else 0."""
        book = self.book
        if self.is_live and book.best_bid and book.best_ask:
            return (book.best_bid + book.best_ask) // 2
        return self.last_price

    @property
    def value_price(self) -> E12:
        """What a position is valued at: the mark, else the mid; 0 if nothing is known."""
        return self.mark or self.mid_e12


class Market:
    """The listings, changed only by ``apply``.

    ``fees`` are by category or symbol; ``one_way_ns`` is half of the round trip last measured.
    ``notices`` are the gaps that the last step found here, books that crossed and came back, for
    the caller to record; the codec tells of all others as events.
    """

    def __init__(self) -> None:
        self.listings: dict[str, Listing] = {}
        self.offset_ns = 0
        self.one_way_ns = 0
        self.fees: dict[str, Fees] = {}
        self.notices: list[FeedDown | FeedUp] = []
        self._appliers: dict[type, Callable[[Any], object]] = {
            BookUpdate: self.apply_book,
            Trade: self.apply_trade,
            Ticker: self._ticker,
            Candle: self._candle,
            Prediction: self._prediction,
            Instrument: self._instrument,
            Fees: self._fees,
            ClockOffset: self._offset,
            FeedDown: self._down,
        }

    def listing(self, symbol: str) -> Listing:
        """The listing of ``symbol``, made when it is first spoken of."""
        found = self.listings.get(symbol)
        if found is None:
            found = self.listings[symbol] = Listing(symbol)
            for key in (symbol.partition(":")[0], symbol):
                if key in self.fees:
                    found.set_fees(self.fees[key])
        return found

    def apply(self, event: Event) -> None:
        """Take in one event."""
        applier = self._appliers.get(type(event))
        if applier is not None:
            applier(event)

    def apply_book(self, event: BookUpdate) -> bool:
        """Change a book; it is trusted from a snapshot on, until it crosses or a gap is told.

        Where a feed carries several depths of a symbol, the deepest is followed; returns whether
        this is it.
        """
        listing = self.listings.get(event.symbol) or self.listing(event.symbol)
        stamp_ns = event.exchange_ts
        if stamp_ns > listing.clock_ns:
            listing.clock_ns = stamp_ns
        book = listing.book
        depth = event.depth
        if depth != book.depth and depth and book.depth:  # noqa: SIM102 - seldom true
            if not (event.snapshot and depth > book.depth):
                return False
        if not listing.is_live and not event.snapshot:
            if listing.was_crossed and event.ts - listing.crossed_ts >= CROSSED_AGAIN_NS:
                self._crossed(listing, event)
            return True
        book.apply(event)
        if book.best_bid > book.best_ask and book.is_crossed:
            if listing.is_live:
                self._crossed(listing, event)
            elif not listing.was_crossed:
                listing.crossed_ts = event.ts
            listing.is_live, listing.was_crossed = False, True
            return True
        if not listing.is_live:
            listing.is_live, listing.live_seq = True, event.seq
        if listing.was_crossed:
            listing.was_crossed = False
            self.notices.append(FeedUp(event.ts, event.symbol, event.exchange_ts))
        return True

    def _crossed(self, listing: Listing, event: BookUpdate) -> None:
        """Tell of it; again while it lasts, since the snapshot asked for may be crossed, too."""
        listing.crossed_ts = event.ts
        reason = "best bid above best ask"
        self.notices.append(FeedDown(event.ts, event.symbol, reason, event.exchange_ts))

    def apply_trade(self, event: Trade) -> None:
        """Take in the price and time of a trade."""
        listing = self.listings.get(event.symbol) or self.listing(event.symbol)
        if event.exchange_ts > listing.clock_ns:
            listing.clock_ns = event.exchange_ts
        listing.last_price = event.price

    def _ticker(self, event: Ticker) -> None:
        listing = self.listing(event.symbol)
        listing.ticker = event
        if event.funding_rate is not None:
            listing.funding_rate = to_e12(event.funding_rate)
            if event.next_funding_ts:
                listing.next_funding_ns = event.next_funding_ts
        if event.index is not None:
            listing.index = to_e12(event.index)
        if event.mark is not None:
            listing.mark = mark = to_e12(event.mark)
            listing.premium.sample(event.exchange_ts, (listing.mid_e12 or mark) - mark)

    def _candle(self, event: Candle) -> None:
        listing = self.listing(event.symbol)
        listing.candle = event
        if not listing.last_price:
            listing.last_price = to_e12(event.close)

    def _prediction(self, event: Prediction) -> None:
        self.listing(event.symbol).predictions[event.model] = event

    def _instrument(self, event: Instrument) -> None:
        listing = self.listing(event.symbol)
        listing.rules, listing.tiers = Rules(event), tiers_of(event.tiers)

    def _fees(self, event: Fees) -> None:
        """Rates of a symbol go before those of its category."""
        self.fees[event.symbol or event.category] = event
        for listing in self.listings.values():
            is_meant = (
                listing.symbol == event.symbol
                if event.symbol
                else (
                    listing.symbol.startswith(f"{event.category}:")
                    and listing.symbol not in self.fees
                )
            )
            if is_meant:
                listing.set_fees(event)

    def _offset(self, event: ClockOffset) -> None:
        self.offset_ns = event.offset_ns
        if event.round_trip_ns:
            self.one_way_ns = event.round_trip_ns // 2

    def _down(self, event: FeedDown) -> None:
        listing = self.listing(event.symbol)
        listing.is_live = listing.was_crossed = False

    def mid(self, symbol: str) -> float | None:
        """The middle of a trusted book as a float, or None."""
        listing = self.listings.get(symbol)
        if listing is None or not listing.is_live:
            return None
        book = listing.book
        if not (book.best_bid and book.best_ask):
            return None
        return (book.best_bid + book.best_ask) / (2 * UNIT)
