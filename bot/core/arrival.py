"""What an order, an amendment or a cancel does when it has arrived at the venue."""

from __future__ import annotations

from msgspec.structs import replace

from bot.core.account import Account
from bot.core.admission import Admission
from bot.core.answers import Answers
from bot.core.events import Amend, Cancel, Fact, Order
from bot.core.instrument import to_decimal, to_e12
from bot.core.matching import FillPolicy, Matcher
from bot.core.orders import SymbolOrders
from bot.core.queue import Resting
from bot.core.stops import Stops


class Arrival:
    """Judges what arrives, lets it meet the book, and lets it rest."""

    def __init__(
        self,
        account: Account,
        policy: FillPolicy,
        admission: Admission,
        matcher: Matcher,
        stops: Stops,
        answers: Answers,
    ) -> None:
        self._account = account
        self._policy = policy
        self._admission = admission
        self._matcher = matcher
        self._stops = stops
        self._answers = answers
        self._numbers = 0

    # --- orders ----------------------------------------------------------------------------

    def place(
        self, orders: SymbolOrders, order: Order, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """Reject an order, let it wait for its trigger, or let it meet the book."""
        if order.trigger_price is not None:
            reason = self._admission.refuse_conditional(orders, order)
        else:
            order, reason = self._admission.within_limits(orders, order)
            reason = reason or self._admission.refuse(orders, order)
        if reason is not None:
            rejected = self._answers.rejected("order", order.id, order.symbol, due_ns, ts, reason)
            facts.append(rejected)
        elif order.trigger_price is not None:
            self._stops.wait(orders, order, due_ns, ts, facts)
        else:
            qty = to_e12(order.qty)
            resting = Resting(order, 0, 0, qty, qty, due_ns, 0, None, None)
            self._meet(orders, resting, ts, facts)

    def place_triggered(
        self, orders: SymbolOrders, stamp_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """Triggered orders whose book has come arrive as new ones, exits as large as the position.

        Without a trusted book they wait for one.
        """
        seen = orders.listing.book.seq
        due = [resting for seq, resting in orders.triggered if seq <= seen]
        orders.triggered = [waiting for waiting in orders.triggered if waiting[0] > seen]
        for resting in due:
            order, at_ns = resting.order, max(stamp_ns, resting.arrived_ns)
            if order.stop_type is not None:
                order = replace(order, qty=to_decimal(abs(self._account.qty(order.symbol))))
            order, reason = self._admission.within_limits(orders, order)
            reason = reason or self._admission.refuse(orders, order)
            if reason is not None:
                facts.append(self._answers.refused(resting, at_ns, ts, reason))
                continue
            resting.order, resting.arrived_ns = order, at_ns
            resting.qty = resting.leaves = to_e12(order.qty)
            self._meet(orders, resting, ts, facts)

    def _meet(self, orders: SymbolOrders, resting: Resting, ts: int, facts: list[Fact]) -> None:
        order = resting.order
        if order.reduce_only:
            held = abs(self._account.qty(order.symbol))
            resting.qty = resting.leaves = min(resting.qty, held)
        resting.number = self._next_number()
        resting.price = self._admission.limit(orders, order)
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

    # --- amendments --------------------------------------------------------------------------

    def amend(
        self, orders: SymbolOrders, amend: Amend, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """Less quantity keeps the place in the queue; anything else is a new arrival."""
        resting = orders.find(amend.order_id)
        stop = orders.find_stop(amend.order_id) if resting is None else None
        if stop is not None:
            resting = stop
            reason = self._amend_stop(orders, stop, amend)
        elif resting is not None:
            reason = self._apply_amend(orders, resting, amend)
        else:
            reason = "110001"
        if resting is None or reason is not None:
            assert reason is not None
            rejected = self._answers.rejected(
                "amend", amend.order_id, amend.symbol, due_ns, ts, reason
            )
            facts.append(rejected)
        elif stop is not None or resting in orders.side(resting.order.side):
            facts.append(self._answers.accepted(resting, due_ns, ts))
        else:
            resting.number, resting.arrived_ns = self._next_number(), due_ns
            resting.traded, resting.erased = 0, []
            self._enter(orders, resting, ts, facts)

    def _apply_amend(self, orders: SymbolOrders, resting: Resting, amend: Amend) -> str | None:
        """Change the order, taking it out of its book if it loses its place; or Bybit's code."""
        qty = resting.qty if amend.qty is None else to_e12(amend.qty)
        filled = resting.qty - resting.leaves
        if qty <= filled or amend.trigger_price is not None:
            return "10001"
        price = to_decimal(resting.price) if amend.price is None else amend.price
        wanted = replace(resting.order, price=price, qty=to_decimal(qty))
        reason = None
        if amend.price is not None:
            wanted, reason = self._admission.within_limits(orders, wanted)
        reason = reason or self._admission.refuse(orders, wanted, resting)
        if reason is not None:
            return reason
        assert wanted.price is not None
        new_price = to_e12(wanted.price)
        if resting.order.reduce_only:
            qty = min(qty, filled + abs(self._account.qty(resting.order.symbol)))
        if new_price != resting.price or qty > resting.qty:
            orders.remove(resting)
        resting.price, resting.qty, resting.leaves = new_price, qty, qty - filled
        return None

    def _amend_stop(self, orders: SymbolOrders, resting: Resting, amend: Amend) -> str | None:
        """Change an order that still waits for its trigger; or Bybit's code."""
        order = resting.order
        wanted = replace(
            order,
            price=order.price if amend.price is None else amend.price,
            qty=order.qty if amend.qty is None else amend.qty,
            trigger_price=amend.trigger_price or order.trigger_price,
        )
        if (order.price is None and amend.price is not None) or not orders.waits(resting):
            return "10001"  # a market order has no price, a triggered one only its own life
        reason = self._admission.refuse_conditional(orders, wanted, is_new=False)
        if reason is None:
            orders.change_stop(resting, wanted)
        return reason

    # --- cancels -----------------------------------------------------------------------------

    def cancel(
        self, orders: SymbolOrders, cancel: Cancel, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        resting = orders.find(cancel.order_id)
        stop = orders.find_stop(cancel.order_id) if resting is None else None
        if resting is not None:
            orders.remove(resting)
        elif stop is not None:
            orders.drop_stop(stop)
            resting = stop
        else:
            rejected = self._answers.rejected(
                "cancel", cancel.order_id, cancel.symbol, due_ns, ts, "110001"
            )
            facts.append(rejected)
            return
        facts.append(self._answers.cancelled(resting, due_ns, ts, "EC_PerCancelRequest"))

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers
