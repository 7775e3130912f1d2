"""The synthetic market: every listed symbol, driven by one deterministic schedule.

``Market.advance`` is a pure function of (symbols, seed, start, rate) and of how far it is told to
go; how many steps it is told to take on the way makes no difference. No clock, no I/O.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from bot.venue.emulator.candles import MINUTE_MS, Candles, fair_paths, seed_history
from bot.venue.emulator.fair import FairValue
from bot.venue.emulator.flow import OrderFlow, sweep_vol, taker_lots_per_s
from bot.venue.emulator.funding import Funding
from bot.venue.emulator.listing import Listing, VenueError, listings_of
from bot.venue.emulator.orderbook import Execution, OrderBook

TickDirection = Literal["PlusTick", "ZeroPlusTick", "MinusTick", "ZeroMinusTick"]
RECENT_TRADES = 1000
_FAIR_STEP_NS = 100_000_000
_SECOND_NS = 1_000_000_000
_MS = 1_000_000


class PublicTrade(Struct, frozen=True, gc=False):
    """One execution as the venue prints it; those of one taker share ``seq`` and ``at_ns``."""

    at_ns: int
    seq: int
    buy: bool
    price: int
    lots: int
    direction: TickDirection
    id: str


class SymbolMarket:
    """A symbol's book, its prints and everything the ticker shows of it."""

    def __init__(
        self, listing: Listing, candles: Candles, events_per_s: float, rng: Random
    ) -> None:
        self.listing = listing
        self.candles = candles
        self.book = OrderBook()
        self.flow = OrderFlow(listing, self.book, rng, events_per_s)
        self.last = candles.last.close
        self.direction: TickDirection = "ZeroPlusTick"
        self.trades: deque[PublicTrade] = deque(maxlen=RECENT_TRADES)
        self.unpublished: list[PublicTrade] = []
        self.seq = rng.randrange(10**11, 8 * 10**11)
        self.events = 0
        self.at_ns = 0
        self.index = 0.0
        self.funding = Funding(listing, rng)
        self._rng = rng
        self._next_trade_id = rng.randrange(10**8, 10**9)

    def event(self, at_ns: int, fair: FairValue) -> None:
        """One matching-engine event."""
        self.seq += 1 + int(self._rng.expovariate(0.03))
        self.events += 1
        self.at_ns = at_ns
        took = self.flow.act(self.fair_ticks(fair), fair.signal)
        if took is None:
            return
        before = self.last
        for execution in took.executions:
            self._print(at_ns, execution, buy=took.buy)
        if took.sweep:
            fair.learn(self.last / before)

    def fair_ticks(self, fair: FairValue) -> float:
        price = fair.linear if self.listing.category == "linear" else fair.spot
        return price / self.listing.tick_size

    def mid(self) -> float:
        """The middle of the touch, USDT."""
        return (self.book.bids.best() + self.book.asks.best()) / 2 * self.listing.tick_size

    def second(self, at_ns: int, fair: FairValue) -> None:
        """What the venue recomputes every second: bars, index, mark, funding."""
        self.candles.roll(at_ns // _MS)
        self.index = fair.spot
        self.flow.trim(self.fair_ticks(fair))
        self.funding.second(at_ns // _MS, self.mid(), self.index)

    def _print(self, at_ns: int, execution: Execution, *, buy: bool) -> None:
        price, lots = execution
        if price != self.last:
            self.direction = "PlusTick" if price > self.last else "MinusTick"
        elif not self.direction.startswith("Zero"):
            self.direction = "ZeroPlusTick" if self.direction == "PlusTick" else "ZeroMinusTick"
        self.last = price
        self.candles.trade(at_ns // _MS, price, lots)
        self.funding.trade(lots)
        trade = PublicTrade(at_ns, self.seq, buy, price, lots, self.direction, self._trade_id())
        self.trades.append(trade)
        self.unpublished.append(trade)

    def _trade_id(self) -> str:
        """Futures number their trades by UUID, spot by a counter behind a fixed prefix."""
        if self.listing.category == "spot":
            self._next_trade_id += 1
            return f"22900000{self._next_trade_id:011d}"
        digits = f"{self._rng.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Market:
    """All symbols; those of one coin share its fair value, so spot and linear stay together.

    Raises VenueError for symbols, a rate or a history that cannot be had.
    """

    def __init__(
        self,
        symbols: Iterable[str],
        *,
        seed: int,
        start_ns: int,
        events_per_s: float = 40.0,
        history_hours: int = 168,
        funding_minutes: int = 480,
    ) -> None:
        if history_hours < 1:
            raise VenueError(f"history_hours = {history_hours}: at least 1")
        if events_per_s <= 0:
            raise VenueError(f"events_per_s = {events_per_s}: more than 0")
        self.now_ns = start_ns
        self.symbols: dict[str, SymbolMarket] = {}
        self._schedule: list[tuple[int, int, Callable[[int], int]]] = []
        listings = [replace(each, funding_minutes=funding_minutes) for each in listings_of(symbols)]
        for base in dict.fromkeys(listing.base for listing in listings):
            of_base = [listing for listing in listings if listing.base == base]
            self._open_coin(of_base, seed, events_per_s, history_hours)

    def advance(self, to_ns: int) -> None:
        """Play everything up to and including ``to_ns``."""
        schedule = self._schedule
        while schedule[0][0] <= to_ns:
            at_ns, order, act = schedule[0]
            heapq.heapreplace(schedule, (act(at_ns), order, act))
        self.now_ns = max(self.now_ns, to_ns)

    def _open_coin(
        self, listings: list[Listing], seed: int, events_per_s: float, history_hours: int
    ) -> None:
        rng = generator(seed, listings[0].base)
        fair = FairValue(listings[0].coin, rng)
        minutes = history_hours * 60
        swept = sweep_vol(listings[0], events_per_s * len(listings))
        spot, linear = fair_paths(fair, minutes, swept, rng)
        open_minute_ms = self.now_ns // (MINUTE_MS * _MS) * MINUTE_MS
        self._plan(self.now_ns, _FAIR_STEP_NS, lambda at_ns: _stepped(fair, at_ns))
        for listing in listings:
            rng = generator(seed, listing.symbol)
            history = seed_history(
                listing,
                linear if listing.category == "linear" else spot,
                open_minute_ms - minutes * MINUTE_MS,
                60 * taker_lots_per_s(listing, events_per_s),
                rng,
            )
            candles = Candles(history, keep=minutes)
            candles.roll(open_minute_ms)
            self._open_symbol(SymbolMarket(listing, candles, events_per_s, rng), fair)

    def _open_symbol(self, market: SymbolMarket, fair: FairValue) -> None:
        market.flow.open_book(market.fair_ticks(fair))
        market.at_ns = self.now_ns
        market.funding.seed_history(self.now_ns // _MS)
        market.second(self.now_ns, fair)
        self.symbols[market.listing.symbol] = market

        def event(at_ns: int) -> int:
            market.event(at_ns, fair)
            return at_ns + market.flow.delay_ns()

        def second(at_ns: int) -> int:
            market.second(at_ns, fair)
            return at_ns + _SECOND_NS

        self._plan(self.now_ns, _SECOND_NS, second)
        self._plan(self.now_ns, 1, event)

    def _plan(self, now_ns: int, grid_ns: int, act: Callable[[int], int]) -> None:
        first_ns = (now_ns // grid_ns + 1) * grid_ns
        heapq.heappush(self._schedule, (first_ns, len(self._schedule), act))


def generator(seed: int, name: str) -> Random:
    """A stream of draws that depends on its name, not on Python's hash of it."""
    return Random(f"{seed}:{name}")  # noqa: S311  a market, not a secret


def _stepped(fair: FairValue, at_ns: int) -> int:
    fair.step(_FAIR_STEP_NS / 1e9)
    return at_ns + _FAIR_STEP_NS
