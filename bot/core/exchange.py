"""The paper exchange: orders, amendments and cancels arrive after their latency, are judged by
Bybit's rules against the book as it then is, and rest until matched or gone.

Calls come from ``engine.step`` only. Fills are booked on the account as they are made, because
the next order's margin depends on them.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Literal

from msgspec.structs import replace

from bot.core.account import Account
from bot.core.admission import Admission
from bot.core.answers import Answers
from bot.core.events import (
    Amend,
    BookUpdate,
    Cancel,
    Fact,
    Order,
    Trade,
)
from bot.core.instrument import to_decimal, to_e12
from bot.core.market import Market
from bot.core.matching import FillPolicy, Matcher
from bot.core.orders import Request, SymbolOrders
from bot.core.queue import Resting


class Exchange:
    """What we have at the venue, per symbol."""

    def __init__(self, market: Market, account: Account, policy: FillPolicy) -> None:
        self._market = market
        self._account = account
        self._policy = policy
        self._answers = Answers(market, policy.response_latency)
        self._matcher = Matcher(market, account, policy, self._answers)
        self._symbols: dict[str, SymbolOrders] = {}
        self._admission = Admission(account, self._symbols, policy.market_slippage)
        self._numbers = 0

    # --- requests ------------------------------------------------------------------------

    def submit(self, request: Request, ts: int, facts: list[Fact]) -> None:
        """Send a decision; it arrives after its latency, at once if there is none."""
        orders = self._symbols.get(request.symbol)
        if orders is None:
            listing = self._market.listing(request.symbol)
            orders = self._symbols[request.symbol] = SymbolOrders(listing)
        latency_ns = self._policy.order_latency.draw_ns(_order_id(request))
        due_ns = max(orders.listing.clock_ns, ts - self._market.offset_ns + latency_ns)
        heappush(orders.pending, (due_ns, self._next_number(), request))
        if not latency_ns:
            self.advance(orders, due_ns, ts, facts)

    def orders_of(self, symbol: str) -> SymbolOrders | None:
        """What we have in ``symbol``, or None if nothing was ever sent."""
        return self._symbols.get(symbol)

    def arrive_all(self, stamp_ns: int, ts: int, facts: list[Fact]) -> None:
        """Time has passed for every symbol."""
        for orders in self._symbols.values():
            self.advance(orders, stamp_ns, ts, facts)

    def fund(self, symbol: str, stamp_ns: int, ts: int, facts: list[Fact]) -> None:
        """Before a ticker, which may speak of the next settlement: pay the one that it is past."""
        orders = self._symbols.get(symbol)
        if orders is not None and 0 < orders.listing.next_funding_ns <= stamp_ns:
            self.advance(orders, orders.listing.next_funding_ns - 1, ts, facts)
            self._settle_funding(orders, ts, facts)

    def match_trade(self, orders: SymbolOrders, event: Trade, facts: list[Fact]) -> None:
        """Resting orders against a trade. Block and RPI trades meet nobody."""
        is_met = orders.listing.is_live and not event.block and not event.rpi
        if is_met and (orders.buys or orders.sells):
            self._matcher.on_trade(orders, event, facts)

    def match_book(self, orders: SymbolOrders, event: BookUpdate, facts: list[Fact]) -> None:
        """Resting orders against the book as the event left it."""
        if not orders.listing.is_live:
            return
        if orders.taken_bids.marks or orders.taken_asks.marks:
            orders.forget_gone(event)
        if orders.buys or orders.sells:
            self._matcher.on_book(orders, event, facts)
        if event.snapshot and orders.pending:
            # What fell due while the book was unknown arrives now, and not before.
            self._arrive_until(orders, event.exchange_ts, event.ts, facts, event.exchange_ts)

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

    # --- time ------------------------------------------------------------------------------

    def advance(self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]) -> None:
        """What is due by ``stamp_ns`` happens in order: requests, funding, requests."""
        funding_ns = orders.listing.next_funding_ns
        if 0 < funding_ns <= stamp_ns:
            self._arrive_until(orders, funding_ns - 1, ts, facts)
            self._settle_funding(orders, ts, facts)
        self._arrive_until(orders, stamp_ns, ts, facts)

    def _settle_funding(self, orders: SymbolOrders, ts: int, facts: list[Fact]) -> None:
        paid = self._account.settle_funding(orders.listing, ts)
        if paid is not None:
            facts.append(paid)

    def _arrive_until(
        self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact], not_before: int = 0
    ) -> None:
        """Apply what is due, in order. While the book is unknown all but cancels waits."""
        pending = orders.pending
        if pending and not orders.listing.is_live:
            self._cancel_blindly(orders, stamp_ns, ts, facts)
            return
        while pending and pending[0][0] <= stamp_ns:
            due_ns, _, request = heappop(pending)
            self._apply(orders, request, max(due_ns, not_before), ts, facts)

    def _cancel_blindly(
        self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """The venue takes cancels of what rests there, whether or not we see its book."""
        held: list[tuple[int, int, Request]] = []
        for waiting in sorted(orders.pending):
            due_ns, _, request = waiting
            rests = type(request) is Cancel and orders.find(request.order_id) is not None
            if due_ns <= stamp_ns and rests:
                self._apply(orders, request, due_ns, ts, facts)
            else:
                held.append(waiting)
        orders.pending[:] = held  # Sorted, and so a heap.

    def _apply(
        self, orders: SymbolOrders, request: Request, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        if type(request) is Order:
            self._place(orders, request, due_ns, ts, facts)
        elif type(request) is Amend:
            self._amend(orders, request, due_ns, ts, facts)
        else:
            assert type(request) is Cancel
            self._cancel(orders, request, due_ns, ts, facts)

    # --- arrival -------------------------------------------------------------------------

    def _place(
        self, orders: SymbolOrders, order: Order, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        reason = self._admission.refuse(orders, order)
        if reason is not None:
            rejected = self._answers.rejected("order", order.id, order.symbol, due_ns, ts, reason)
            facts.append(rejected)
            return
        qty = to_e12(order.qty)
        if order.reduce_only:
            qty = min(qty, abs(self._account.qty(order.symbol)))
        price = self._admission.limit(orders, order)
        resting = Resting(order, self._next_number(), price, qty, qty, due_ns, 0, None, None)
        self._enter(orders, resting, ts, facts)

    def _enter(self, orders: SymbolOrders, resting: Resting, ts: int, facts: list[Fact]) -> None:
        """An order, new or re-priced, meets the book: take, then rest or cancel the rest."""
        order = resting.order
        due_ns = resting.arrived_ns
        resting.arrived_seq = orders.listing.book.seq
        reason = self._unwanted(orders, resting)
        if reason is not None:
            facts.append(self._answers.cancelled(resting, due_ns, ts, reason))
            return
        rests = order.order_type == "Limit" and order.tif in ("GTC", "PostOnly")
        if rests:
            displayed = orders.listing.book.displayed(order.side, resting.price)
            resting.displayed = displayed or 0
            ahead = 0 if self._policy.queue == "none" else displayed
            resting.ahead = resting.ahead_at_arrival = ahead
        facts.append(self._answers.accepted(resting, due_ns, ts))
        if order.tif != "PostOnly":
            self._matcher.take(orders, resting, ts, facts)
        if not resting.leaves:
            return
        if rests:
            orders.add(resting)
        else:
            reason = "EC_NoImmediateQtyToFill"
            facts.append(self._answers.cancelled(resting, due_ns, ts, reason))

    def _unwanted(self, orders: SymbolOrders, resting: Resting) -> str | None:
        """Why a PostOnly or FOK order does not go in, judged on what is available now."""
        order, limit = resting.order, resting.price
        if order.tif == "PostOnly" and orders.available(order.side, limit):
            return "EC_PostOnlyWillTakeLiquidity"
        if order.tif == "FOK" and orders.available(order.side, limit) < resting.leaves:
            return "EC_CancelForNoFullFill"
        return None

    def _amend(
        self, orders: SymbolOrders, amend: Amend, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """Less quantity keeps the place in the queue; anything else is a new arrival."""
        resting = orders.find(amend.order_id)
        reason = "110001" if resting is None else self._apply_amend(orders, resting, amend)
        if resting is None or reason is not None:
            assert reason is not None
            rejected = self._answers.rejected(
                "amend", amend.order_id, amend.symbol, due_ns, ts, reason
            )
            facts.append(rejected)
        elif resting in orders.side(resting.order.side):
            facts.append(self._answers.accepted(resting, due_ns, ts))
        else:
            resting.number, resting.arrived_ns = self._next_number(), due_ns
            resting.traded, resting.erased = 0, []
            self._enter(orders, resting, ts, facts)

    def _apply_amend(self, orders: SymbolOrders, resting: Resting, amend: Amend) -> str | None:
        """Change the order, taking it out of its book if it loses its place; or Bybit's code."""
        price = resting.price if amend.price is None else to_e12(amend.price)
        qty = resting.qty if amend.qty is None else to_e12(amend.qty)
        filled = resting.qty - resting.leaves
        if qty <= filled:
            return "10001"
        wanted = replace(resting.order, price=to_decimal(price), qty=to_decimal(qty))
        reason = self._admission.refuse(orders, wanted, resting)
        if reason is not None:
            return reason
        if resting.order.reduce_only:
            qty = min(qty, filled + abs(self._account.qty(resting.order.symbol)))
        if price != resting.price or qty > resting.qty:
            orders.remove(resting)
        resting.price, resting.qty, resting.leaves = price, qty, qty - filled
        return None

    def _cancel(
        self, orders: SymbolOrders, cancel: Cancel, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        resting = orders.find(cancel.order_id)
        if resting is None:
            rejected = self._answers.rejected(
                "cancel", cancel.order_id, cancel.symbol, due_ns, ts, "110001"
            )
            facts.append(rejected)
            return
        orders.remove(resting)
        facts.append(self._answers.cancelled(resting, due_ns, ts, "EC_PerCancelRequest"))

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers


def _order_id(request: Request) -> int:
    return request.id if isinstance(request, Order) else request.order_id
