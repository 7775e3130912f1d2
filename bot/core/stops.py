"""Conditional orders: what waits at the venue for a price, and the exits of a position.

An order whose trigger a trade reached meets the first book that shows that trade, since the book
before it still displays what the trade took. A mark or index price meets the book as it is.
https://bybit-exchange.github.io/docs/v5/order/create-order, .../position/trading-stop
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from bot.core.account import Account
from bot.core.answers import Answers
from bot.core.events import E12, Fact, Order, StopType, TriggerBy
from bot.core.instrument import to_decimal, to_e12
from bot.core.market import Listing
from bot.core.orders import OrderIds, Stop, SymbolOrders
from bot.core.queue import Resting

MAX_STOPS = {"linear": 10, "spot": 30}
"""Conditional orders that may wait: per linear symbol, and for all spot symbols together."""
CLEARED = "CancelByTpSlTsClear"
"""Bybit's word for exits that go with their position."""


def price_now(listing: Listing, by: TriggerBy) -> E12:
    """The price that a trigger watches; 0 while it is not known."""
    if by == "last":
        return listing.last_price
    return listing.mark if by == "mark" else listing.index


def refuse(listing: Listing, order: Order, waiting: int) -> str | None:
    """Bybit's code for a trigger, or exits, that make no sense now; ``waiting`` are there already.

    https://bybit-exchange.github.io/docs/v5/error
    """
    rules = listing.rules
    assert rules is not None
    for price in (order.trigger_price, order.take_profit, order.stop_loss):
        if price is not None and (price <= 0 or to_e12(price) % rules.tick_size):
            return "10001" if rules.is_linear else "170134"
    if order.trigger_price is None:
        return _refuse_exits(listing, order)
    if order.stop_type is None and waiting >= MAX_STOPS["linear" if rules.is_linear else "spot"]:
        return "110009" if rules.is_linear else "170810"
    now, trigger = price_now(listing, order.trigger_by or "last"), to_e12(order.trigger_price)
    if now and order.trigger_direction == "rise" and trigger <= now:
        return "110092"
    if now and order.trigger_direction == "fall" and trigger >= now:
        return "110093"
    return _refuse_exits(listing, order)


def _refuse_exits(listing: Listing, order: Order) -> str | None:
    """A profit lies beyond the price that an order may get, a loss before it."""
    base = to_e12(order.price) if order.price is not None else listing.last_price
    for price, is_profit in ((order.take_profit, True), (order.stop_loss, False)):
        if price is None:
            continue
        if listing.symbol.startswith("spot:"):
            return "170130"  # a spot holding has no exits here: send a conditional sell
        is_above = (order.side == "Buy") == is_profit
        level = to_e12(price)
        if base and (level <= base if is_above else level >= base):
            return "10001"
    return None


class Stops:
    """Makes, fires and clears what waits, for one account."""

    def __init__(self, account: Account, answers: Answers, ids: OrderIds) -> None:
        self._account = account
        self._answers = answers
        self._ids = ids

    def wait(
        self, orders: SymbolOrders, order: Order, due_ns: int, ts: int, facts: list[Fact]
    ) -> None:
        """Take a conditional order in; an exit takes the place of the one before it."""
        if order.stop_type is not None:
            self._replace(orders, order.stop_type, due_ns, ts, facts)
        qty = to_e12(order.qty)
        price = 0 if order.price is None else to_e12(order.price)
        resting = Resting(order, 0, price, qty, qty, due_ns, 0, None, None)
        assert order.trigger_price is not None
        rises = order.trigger_direction == "rise"
        by = order.trigger_by or "last"
        orders.stops.append(Stop(resting, to_e12(order.trigger_price), by, rises))
        facts.append(self._answers.accepted(resting, due_ns, ts))

    def attach(
        self, orders: SymbolOrders, parent: Order, exchange_ts: int, ts: int, facts: list[Fact]
    ) -> None:
        """A fill of an order with exits: the position gets them, once."""
        held = self._account.qty(parent.symbol)
        if (held > 0) != (parent.side == "Buy") or not held:
            return
        wanted: tuple[tuple[StopType, Decimal | None, TriggerBy | None], ...] = (
            ("TakeProfit", parent.take_profit, parent.take_profit_by),
            ("StopLoss", parent.stop_loss, parent.stop_loss_by),
        )
        for kind, price, by in wanted:
            if price is not None and not self._has(orders, kind, to_e12(price), by or "last"):
                exit_ = self._exit(parent, kind, price, by or "last", held, ts)
                facts.append(exit_)
                self.wait(orders, exit_, exchange_ts, ts, facts)

    def fire(
        self,
        orders: SymbolOrders,
        by: TriggerBy,
        price: E12,
        seq: int,
        exchange_ts: int,
        ts: int,
        facts: list[Fact],
    ) -> None:
        """``price`` has been seen: what it triggers waits for the book that shows ``seq``.

        A trade from before an order arrived is over; a mark or index price still holds then.
        """
        fired = [stop for stop in orders.stops if stop.by == by and stop.is_met(price)]
        for stop in fired:
            resting = stop.resting
            if by == "last" and exchange_ts < resting.arrived_ns:
                continue
            orders.stops.remove(stop)
            orders.triggered.append((seq, resting))
            stamp_ns = max(exchange_ts, resting.arrived_ns)
            facts.append(self._answers.triggered(resting, stamp_ns, ts, price))

    def clear(self, orders: SymbolOrders, exchange_ts: int, ts: int, facts: list[Fact]) -> None:
        """Exits of a position that is gone, or has turned, go with it."""
        held = self._account.qty(orders.listing.symbol)
        for resting in orders.exits():
            if not (held < 0 if resting.order.side == "Buy" else held > 0):
                self._drop(orders, resting, exchange_ts, ts, facts)

    def _replace(
        self, orders: SymbolOrders, kind: StopType, exchange_ts: int, ts: int, facts: list[Fact]
    ) -> None:
        for resting in orders.exits():
            if resting.order.stop_type == kind:
                self._drop(orders, resting, exchange_ts, ts, facts)

    def _drop(
        self, orders: SymbolOrders, resting: Resting, exchange_ts: int, ts: int, facts: list[Fact]
    ) -> None:
        orders.drop_stop(resting)
        facts.append(self._answers.cancelled(resting, exchange_ts, ts, CLEARED))

    def _has(self, orders: SymbolOrders, kind: StopType, price: E12, by: TriggerBy) -> bool:
        return any(
            stop.resting.order.stop_type == kind and (stop.price, stop.by) == (price, by)
            for stop in orders.stops
        )

    def _exit(
        self, parent: Order, kind: StopType, price: Decimal, by: TriggerBy, held: E12, ts: int
    ) -> Order:
        is_rising = (held > 0) == (kind == "TakeProfit")
        direction: Literal["rise", "fall"] = "rise" if is_rising else "fall"
        return Order(
            ts,
            self._ids.next(),
            parent.strategy,
            parent.symbol,
            "Sell" if held > 0 else "Buy",
            "Market",
            "IOC",
            to_decimal(abs(held)),
            reduce_only=True,
            tag=kind,
            trigger_price=price,
            trigger_by=by,
            trigger_direction=direction,
            stop_type=kind,
        )
