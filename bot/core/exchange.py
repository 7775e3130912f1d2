"""The paper exchange: orders, amendments and cancels arrive after their latency, are judged by
Bybit's rules against the book as it then is, and rest until matched or gone.

Calls come from ``engine.step`` only. Fills are booked on the account as they are made, because
the next order's margin depends on them.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Literal

from bot.core.account import Account
from bot.core.admission import Admission
from bot.core.answers import Answers
from bot.core.arrival import Arrival
from bot.core.events import (
    Amend,
    BookUpdate,
    Cancel,
    Event,
    Fact,
    FundingRate,
    Order,
    Tick,
    Ticker,
    Trade,
)
from bot.core.instrument import to_e12
from bot.core.market import Market
from bot.core.matching import FillPolicy, Matcher
from bot.core.orders import OrderIds, Request, SymbolOrders
from bot.core.queue import Resting
from bot.core.rate_limits import REASON as TOO_OFTEN
from bot.core.rate_limits import Kind, RateLimits
from bot.core.stops import Stops

BEFORE_LIQUIDATION = "CancelAllBeforeLiq"


class Exchange:
    """What we have at the venue, per symbol. ``ids`` numbers the orders that the venue makes."""

    def __init__(self, market: Market, account: Account, policy: FillPolicy, ids: OrderIds) -> None:
        self._market = market
        self._account = account
        self._policy = policy
        self._answers = Answers(market, policy.response_latency)
        self._stops = Stops(account, self._answers, ids)
        self._matcher = Matcher(account, policy, self._answers, self._stops)
        self._symbols: dict[str, SymbolOrders] = {}
        self.orders_of = self._symbols.get
        """What we have in a symbol, or None if nothing was ever sent."""
        self.admission = Admission(
            account, self._symbols, policy.market_slippage, policy.beyond_limit
        )
        self._arrival = Arrival(
            account, policy, self.admission, self._matcher, self._stops, self._answers
        )
        self._rates = RateLimits() if policy.rate_limits else None
        self._unlimited: set[int] = set()
        self._numbers = 0

    # --- requests ------------------------------------------------------------------------

    def submit(self, request: Request, ts: int, facts: list[Fact], *, counts: bool = True) -> None:
        """Send a decision; it arrives after its latency, at once if there is none.

        One that does not count is part of a bulk request, such as cancel-all.
        """
        orders = self._symbols.get(request.symbol)
        if orders is None:
            listing = self._market.listing(request.symbol)
            orders = self._symbols[request.symbol] = SymbolOrders(listing)
        market = self._market
        latency_ns = self._policy.order_latency.draw_ns(_order_id(request), market.one_way_ns)
        due_ns = max(orders.listing.clock_ns, ts - market.offset_ns + latency_ns)
        self._numbers += 1
        if not counts and self._rates is not None:
            self._unlimited.add(self._numbers)
        heappush(orders.pending, (due_ns, self._numbers, request))
        if not latency_ns:
            self.advance(orders, due_ns, ts, facts)

    def arrive_all(self, stamp_ns: int, ts: int, facts: list[Fact]) -> None:
        """Time has passed for every symbol."""
        for orders in self._symbols.values():
            self.advance(orders, stamp_ns, ts, facts)

    def finish(self, ts: int, facts: list[Fact]) -> None:
        """The input ends: what is still on its way arrives at its due time.

        Without a trusted book only cancels can be carried out; an order ends unfilled.
        """
        for orders in self._symbols.values():
            if orders.pending:
                self.advance(orders, max(orders.pending)[0], ts, facts)
            while orders.pending:
                due_ns, _, request = heappop(orders.pending)
                facts.append(self._give_up(request, due_ns, ts))

    def _give_up(self, request: Request, due_ns: int, ts: int) -> Fact:
        reason = "NoMarketData"
        if type(request) is Order:
            qty = to_e12(request.qty)
            resting = Resting(request, 0, 0, qty, qty, due_ns, 0, None, None)
            return self._answers.cancelled(resting, due_ns, ts, reason)
        kind: Literal["amend", "cancel"] = "amend" if type(request) is Amend else "cancel"
        order_id = _order_id(request)
        return self._answers.rejected(kind, order_id, request.symbol, due_ns, ts, reason)

    # --- around an event -----------------------------------------------------------------

    def before(self, event: Event, facts: list[Fact]) -> None:
        """What is due before the market takes in ``event``."""
        if type(event) is BookUpdate or type(event) is Trade:
            orders = self._symbols.get(event.symbol)
            if orders is not None and orders.is_due(event.exchange_ts):
                self.advance(orders, event.exchange_ts, event.ts, facts)
        elif isinstance(event, Ticker):
            self.fund(event, facts)
        elif isinstance(event, Tick) and event.exchange_ts:
            self.arrive_all(event.exchange_ts, event.ts, facts)

    def after(self, event: Event, facts: list[Fact]) -> None:
        """What ``event``, which the market has taken in, does to what we have."""
        if isinstance(event, BookUpdate):
            orders = self._symbols.get(event.symbol)
            if orders is not None:
                self.match_book(orders, event, facts)
        elif isinstance(event, Trade):
            orders = self._symbols.get(event.symbol)
            if orders is not None:
                self.match_trade(orders, event, facts)
        elif isinstance(event, Ticker):
            self.mark(event, facts)
        elif isinstance(event, FundingRate):
            self.pay(event, facts)

    def match_trade(self, orders: SymbolOrders, event: Trade, facts: list[Fact]) -> None:
        """Resting orders against a trade. Block and RPI trades meet nobody."""
        if event.block or event.rpi:
            return
        if (orders.buys or orders.sells) and orders.listing.is_live:
            self._matcher.on_trade(orders, event, facts)
        if orders.stops:
            stamp_ns, ts = event.exchange_ts, event.ts
            self._stops.fire(orders, "last", event.price, event.seq, stamp_ns, ts, facts)
            self._place_triggered(orders, stamp_ns, ts, facts)

    def match_book(self, orders: SymbolOrders, event: BookUpdate, facts: list[Fact]) -> None:
        """Resting orders against the book as the event left it."""
        if not orders.listing.is_live:
            return
        if orders.taken_bids.marks or orders.taken_asks.marks:
            orders.forget_gone(event)
        if orders.buys or orders.sells:
            self._matcher.on_book(orders, event, facts)
        if orders.triggered:
            self._place_triggered(orders, event.exchange_ts, event.ts, facts)
        if event.snapshot and orders.pending:
            # What fell due while the book was unknown arrives now, and not before.
            self._arrive_until(orders, event.exchange_ts, event.ts, facts, event.exchange_ts)

    def mark(self, event: Ticker, facts: list[Fact]) -> None:
        """A ticker may end a position, or trigger what watches mark or index."""
        orders = self._symbols.get(event.symbol)
        if orders is None:
            return
        stamp_ns, ts = event.exchange_ts, event.ts
        if event.mark is not None and self._account.is_spent(orders.listing):
            self._liquidate(orders, stamp_ns, ts, facts)
        if orders.stops:
            listing = orders.listing
            if event.mark is not None:
                self._stops.fire(orders, "mark", listing.mark, 0, stamp_ns, ts, facts)
            if event.index is not None:
                self._stops.fire(orders, "index", listing.index, 0, stamp_ns, ts, facts)
            self._place_triggered(orders, max(stamp_ns, listing.clock_ns), ts, facts)

    def _place_triggered(
        self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        if orders.triggered and orders.listing.is_live:
            self._arrival.place_triggered(orders, stamp_ns, ts, facts)

    def _liquidate(self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]) -> None:
        """The symbol's orders are cancelled, then the position is taken over."""
        facts += [
            self._answers.cancelled(resting, stamp_ns, ts, BEFORE_LIQUIDATION)
            for resting in (*orders.buys, *orders.sells, *orders.conditional())
        ]
        orders.buys, orders.sells, orders.stops, orders.triggered = [], [], [], []
        facts.append(self._account.liquidate(orders.listing, ts, stamp_ns))

    # --- funding -------------------------------------------------------------------------

    def fund(self, event: Ticker, facts: list[Fact]) -> None:
        """Before a ticker, which may speak of the next settlement: pay the one that it is past.

        Who holds nothing then has settled it, too: a position of later owes nothing of it.
        """
        orders = self._symbols.get(event.symbol)
        listing = self._market.listing(event.symbol) if orders is None else orders.listing
        if 0 < listing.next_funding_ns <= event.exchange_ts:
            if orders is None:
                self._account.settle_funding(listing, event.ts)
            else:
                self._settle_funding(orders, event.ts, facts)

    def pay(self, event: FundingRate, facts: list[Fact]) -> None:
        """A settled rate from the venue's history: pay it, unless it was."""
        listing = self._market.listing(event.symbol)
        rate = to_e12(event.rate)
        mark = listing.value_price if event.mark is None else to_e12(event.mark)
        paid = self._account.pay_funding(listing, event.ts, rate, mark, event.funding_ts)
        if paid is not None:
            facts.append(paid)

    def _settle_funding(self, orders: SymbolOrders, ts: int, facts: list[Fact]) -> None:
        """Requests due before the settlement arrive before it."""
        listing = orders.listing
        self._arrive_until(orders, listing.next_funding_ns - 1, ts, facts)
        paid = self._account.settle_funding(listing, ts)
        if paid is not None:
            facts.append(paid)

    # --- time ------------------------------------------------------------------------------

    def advance(self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]) -> None:
        """What is due by ``stamp_ns`` happens in order: requests, funding, requests."""
        if 0 < orders.listing.next_funding_ns <= stamp_ns:
            self._settle_funding(orders, ts, facts)
        self._arrive_until(orders, stamp_ns, ts, facts)

    def _arrive_until(
        self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact], not_before: int = 0
    ) -> None:
        """Apply what is due, in order. While the book is unknown all but cancels waits."""
        pending = orders.pending
        if pending and not orders.listing.is_live:
            self._cancel_blindly(orders, stamp_ns, ts, facts)
            return
        while pending and pending[0][0] <= stamp_ns:
            due_ns, number, request = heappop(pending)
            self._apply(orders, number, request, max(due_ns, not_before), ts, facts)

    def _cancel_blindly(
        self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """The venue takes cancels of what is there, whether or not we see its book."""
        held: list[tuple[int, int, Request]] = []
        for waiting in sorted(orders.pending):
            due_ns, number, request = waiting
            if due_ns <= stamp_ns and type(request) is Cancel and orders.has(request.order_id):
                self._apply(orders, number, request, due_ns, ts, facts)
            else:
                held.append(waiting)
        orders.pending[:] = held  # Sorted, and so a heap.

    def _apply(
        self,
        orders: SymbolOrders,
        number: int,
        request: Request,
        due_ns: int,
        ts: int,
        facts: list[Fact],
    ) -> None:
        if self._rates is not None and self._is_too_often(number, request, due_ns, ts, facts):
            return
        if type(request) is Order:
            self._arrival.place(orders, request, due_ns, ts, facts)
        elif type(request) is Amend:
            self._arrival.amend(orders, request, due_ns, ts, facts)
        else:
            assert type(request) is Cancel
            self._arrival.cancel(orders, request, due_ns, ts, facts)

    def _is_too_often(
        self, number: int, request: Request, due_ns: int, ts: int, facts: list[Fact]
    ) -> bool:
        """Reject a request beyond the venue's rate."""
        if number in self._unlimited:
            self._unlimited.remove(number)
            return False
        assert self._rates is not None
        kind, symbol = _KINDS[type(request)], request.symbol
        if self._rates.admits(kind, symbol, due_ns):
            return False
        what: Literal["order", "amend", "cancel"] = "order" if kind == "create" else kind
        order_id = _order_id(request)
        facts.append(self._answers.rejected(what, order_id, symbol, due_ns, ts, TOO_OFTEN))
        return True


_KINDS: dict[type[Request], Kind] = {Order: "create", Amend: "amend", Cancel: "cancel"}


def _order_id(request: Request) -> int:
    return request.id if isinstance(request, Order) else request.order_id
