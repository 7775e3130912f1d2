"""The venue's answers as facts, with the local time at which a strategy will hear them."""

from __future__ import annotations

from typing import Literal

from bot.core.events import E12, Accepted, Cancelled, Rejected, Triggered
from bot.core.instrument import to_decimal
from bot.core.latency import Latency
from bot.core.market import Market
from bot.core.queue import Resting


class Answers:
    """Exchange time plus clock offset plus the response latency is when an answer is heard."""

    __slots__ = ("_latency", "_market")

    def __init__(self, market: Market, latency: Latency) -> None:
        self._market = market
        self._latency = latency

    def heard_ns(self, resting: Resting, exchange_ts: int) -> int:
        """One order's answers come in order, even when the clock offset is corrected between."""
        latency_ns = self._latency.draw_ns(resting.order.id, self._market.one_way_ns)
        heard_ns = exchange_ts + self._market.offset_ns + latency_ns
        if heard_ns < resting.heard_ns:
            return resting.heard_ns
        resting.heard_ns = heard_ns
        return heard_ns

    def accepted(self, resting: Resting, exchange_ts: int, ts: int) -> Accepted:
        """The order as it stands rests, or is about to take."""
        order = resting.order
        return Accepted(
            ts,
            exchange_ts,
            self.heard_ns(resting, exchange_ts),
            order.id,
            order.symbol,
            None if order.price is None else to_decimal(resting.price),
            to_decimal(resting.qty),
            None if resting.ahead is None else to_decimal(resting.ahead),
        )

    def triggered(self, resting: Resting, exchange_ts: int, ts: int, price: E12) -> Triggered:
        order, heard_ns = resting.order, self.heard_ns(resting, exchange_ts)
        return Triggered(ts, exchange_ts, heard_ns, order.id, order.symbol, to_decimal(price))

    def rejected(
        self,
        request: Literal["order", "amend", "cancel"],
        order_id: int,
        symbol: str,
        exchange_ts: int,
        ts: int,
        reason: str,
    ) -> Rejected:
        latency_ns = self._latency.draw_ns(order_id, self._market.one_way_ns)
        heard_ns = exchange_ts + self._market.offset_ns + latency_ns
        return Rejected(ts, exchange_ts, heard_ns, order_id, symbol, reason, request)

    def refused(self, resting: Resting, exchange_ts: int, ts: int, reason: str) -> Rejected:
        """An order that waited for its trigger does not go in."""
        order, heard_ns = resting.order, self.heard_ns(resting, exchange_ts)
        return Rejected(ts, exchange_ts, heard_ns, order.id, order.symbol, reason, "order")

    def cancelled(self, resting: Resting, exchange_ts: int, ts: int, reason: str) -> Cancelled:
        order = resting.order
        heard_ns = self.heard_ns(resting, exchange_ts)
        leaves = to_decimal(resting.leaves)
        return Cancelled(ts, exchange_ts, heard_ns, order.id, order.symbol, leaves, reason)
