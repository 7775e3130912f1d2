"""Fills: resting orders against trades and books, takers against what is displayed.

The rules are the paper exchange's whole claim to honesty; ``bot scenarios`` shows each of them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from bot.core.account import Account, Settlement
from bot.core.answers import Answers
from bot.core.book import Book
from bot.core.events import E12, BookUpdate, Fact, Fill, Trade
from bot.core.instrument import UNIT, amount, to_decimal
from bot.core.latency import Latency
from bot.core.orders import SymbolOrders
from bot.core.queue import QueuePolicy, Resting, after_book, after_trade
from bot.core.stops import Stops

Cause: TypeAlias = Literal["take", "queue", "through", "cross"]


class FillPolicy(Struct, frozen=True):
    """Which of the honest ways to guess what the public data does not say."""

    queue: QueuePolicy = "conservative"
    through: Literal["traded", "full"] = "traded"
    queue_power: int = 3
    order_latency: Latency = Latency()
    response_latency: Latency = Latency()
    market_slippage: E12 = UNIT // 20
    beyond_limit: Literal["move", "reject"] = "move"
    rate_limits: bool = False


class Happening(Struct, frozen=True, gc=False):
    """What causes fills: the causing event's ``seq``, exchange time, and the step's local time."""

    cause: Cause
    seq: int
    exchange_ts: int
    ts: int


class Matcher:
    """Turns market events and arriving orders into fills, and books them on the account."""

    def __init__(
        self, account: Account, policy: FillPolicy, answers: Answers, stops: Stops
    ) -> None:
        self._account = account
        self._policy = policy
        self._answers = answers
        self._stops = stops
        self._fills = 0

    def on_trade(self, orders: SymbolOrders, event: Trade, facts: list[Fact]) -> None:
        """Price first, then arrival. A lot that fills one order is gone for the next."""
        remaining = event.qty
        listing, seq = orders.listing, event.seq
        if 0 < seq <= listing.live_seq:
            return  # It happened while the book was unknown.
        book_seq = listing.book.seq
        conserved = self._policy.through == "traded"
        for resting in tuple(orders.buys if event.side == "Sell" else orders.sells):
            if 0 < seq <= resting.arrived_seq:
                continue  # The order met a book that showed it already.
            if resting.price == event.price:
                cause: Cause = "queue"
                qty = after_trade(resting, remaining, seq, book_seq)
            elif (resting.price > event.price) == (event.side == "Sell"):
                cause = "through"
                qty = remaining if conserved else resting.leaves
            else:
                break
            if event.exchange_ts < resting.arrived_ns:
                continue  # It happened before the order was there.
            if cause == "through":
                resting.ahead = 0
            happening = Happening(cause, seq, event.exchange_ts, event.ts)
            filled = self._fill(orders, resting, resting.price, qty, happening, facts)
            if conserved or cause == "queue":
                remaining -= filled

    def on_book(self, orders: SymbolOrders, event: BookUpdate, facts: list[Fact]) -> None:
        """Update the queues, then fill what the book meets or crosses."""
        book = orders.listing.book
        if orders.buys:
            self._update_queues(orders.buys, book, book.bids, event)
        if orders.sells:
            self._update_queues(orders.sells, book, book.asks, event)
        if orders.buys and book.best_ask and orders.buys[0].price >= book.best_ask:
            self._cross(orders, orders.buys, event, facts)
        if orders.sells and book.best_bid and orders.sells[0].price <= book.best_bid:
            self._cross(orders, orders.sells, event, facts)

    def _update_queues(
        self, side: list[Resting], book: Book, levels: dict[E12, E12], event: BookUpdate
    ) -> None:
        """Where the quantity shown has changed, or is to be seen for the first time."""
        policy = self._policy
        # What went before a snapshot is not known well enough to spread.
        queue: QueuePolicy = "conservative" if event.snapshot else policy.queue
        for resting in side:
            displayed = levels.get(resting.price)
            if displayed is None:
                displayed = book.displayed(resting.order.side, resting.price)
                if displayed is None:
                    continue
            if displayed != resting.displayed or resting.traded or resting.ahead is None:
                after_book(resting, displayed, event.seq, queue, policy.queue_power)

    def take(self, orders: SymbolOrders, resting: Resting, ts: int, facts: list[Fact]) -> None:
        """Walk the other side, best price first, through what is available."""
        order = resting.order
        happening = Happening("take", orders.listing.book.seq, resting.arrived_ns, ts)
        for price, qty in orders.offers(order.side, resting.price):
            filled = self._fill(orders, resting, price, qty, happening, facts)
            orders.take(order.side, price, filled)
            if not resting.leaves:
                return

    def _cross(
        self, orders: SymbolOrders, side: list[Resting], event: BookUpdate, facts: list[Fact]
    ) -> None:
        """Displayed lots that meet our price fill us once, at our price."""
        happening = Happening("cross", event.seq, event.exchange_ts, event.ts)
        for resting in tuple(side):
            if event.exchange_ts < resting.arrived_ns:
                continue
            taker = resting.order.side
            offers = orders.offers(taker, resting.price)
            if not offers:
                continue
            qty = sum(offered for _, offered in offers)
            filled = self._fill(orders, resting, resting.price, qty, happening, facts)
            for price, offered in offers:
                if not filled:
                    break
                part = min(filled, offered)
                orders.take(taker, price, part)
                filled -= part

    def _fill(
        self,
        orders: SymbolOrders,
        resting: Resting,
        price: E12,
        qty: E12,
        happening: Happening,
        facts: list[Fact],
    ) -> E12:
        """Execute up to ``qty``; returns what was filled. A filled order leaves its book."""
        order = resting.order
        qty = min(qty, resting.leaves)
        if order.reduce_only:
            held = self._account.qty(order.symbol)
            qty = min(qty, max(0, -held if order.side == "Buy" else held))
        if qty <= 0:
            return 0
        maker = happening.cause != "take"
        rate = orders.listing.maker_rate if maker else orders.listing.taker_rate
        assert rate is not None, f"no fees are known for {order.symbol}"
        settled = self._account.settle(
            orders.listing, order.side, price, qty, rate, happening.exchange_ts
        )
        resting.leaves -= qty
        self._fills += 1
        facts.append(self._told(resting, price, qty, happening, settled))
        if maker and not resting.leaves:
            orders.remove(resting)
        self._drop_reduce_only(orders, happening, facts)
        if orders.stops or orders.triggered:
            self._stops.clear(orders, happening.exchange_ts, happening.ts, facts)
        if order.take_profit is not None or order.stop_loss is not None:
            self._stops.attach(orders, order, happening.exchange_ts, happening.ts, facts)
        return qty

    def _told(
        self, resting: Resting, price: E12, qty: E12, happening: Happening, settled: Settlement
    ) -> Fill:
        order, ahead = resting.order, resting.ahead_at_arrival
        return Fill(
            ts=happening.ts,
            exchange_ts=happening.exchange_ts,
            answer_ts=self._answers.heard_ns(resting, happening.exchange_ts),
            id=self._fills,
            order_id=order.id,
            strategy=order.strategy,
            symbol=order.symbol,
            side=order.side,
            price=to_decimal(price),
            qty=to_decimal(qty),
            maker=happening.cause != "take",
            fee=amount(settled.fee),
            fee_coin=settled.fee_coin,
            cause=happening.cause,
            cause_seq=happening.seq,
            ahead_at_arrival=None if ahead is None else to_decimal(ahead),
            leaves=to_decimal(resting.leaves),
            policy=self._policy.queue,
            realized_pnl=amount(settled.realized),
            position=to_decimal(settled.position),
        )

    def _drop_reduce_only(
        self, orders: SymbolOrders, happening: Happening, facts: list[Fact]
    ) -> None:
        """A reduce-only order with nothing left to reduce is cancelled by the venue."""
        held = self._account.qty(orders.listing.symbol)
        for resting in (*orders.buys, *orders.sells):
            reduces = held < 0 if resting.order.side == "Buy" else held > 0
            if resting.order.reduce_only and not reduces:
                orders.remove(resting)
                reason = "CancelByReduceOnly"
                cancelled = self._answers.cancelled(
                    resting, happening.exchange_ts, happening.ts, reason
                )
                facts.append(cancelled)
