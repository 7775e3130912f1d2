"""A limit order book with price-time priority, in integer ticks and lots.

It holds orders and executes takers against them; who sends them, and when, is ``flow.py``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple


class Execution(NamedTuple):
    """A resting order's part in a trade: its price and the lots that left the book."""

    price: int
    lots: int


class BookSide:
    """One side. ``keys`` ascend and the best is last: bids by price, asks by minus price."""

    __slots__ = ("keys", "orders", "sign", "totals")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.totals: dict[int, int] = {}
        self.orders: dict[int, dict[int, int]] = {}

    def best(self) -> int:
        """The best price. Raises IndexError on an empty side."""
        return self.keys[-1] * self.sign

    def top(self, depth: int) -> dict[int, int]:
        """The best ``depth`` levels, price to lots, best first."""
        totals, sign = self.totals, self.sign
        return {key * sign: totals[key * sign] for key in self.keys[: -depth - 1 : -1]}

    def add(self, price: int, order_id: int, lots: int) -> None:
        assert lots > 0
        level = self.orders.get(price)
        if level is None:
            self.orders[price] = {order_id: lots}
            self.totals[price] = lots
            insort(self.keys, price * self.sign)
        else:
            level[order_id] = lots
            self.totals[price] += lots

    def remove(self, price: int, order_id: int) -> int:
        """Cancel one order; returns its lots."""
        level = self.orders[price]
        lots = level.pop(order_id)
        if level:
            self.totals[price] -= lots
        else:
            self.drop_level(price)
        return lots

    def drop_level(self, price: int) -> None:
        """Cancel every order at a price."""
        del self.orders[price], self.totals[price]
        key = price * self.sign
        if self.keys[-1] == key:
            self.keys.pop()
        else:
            del self.keys[bisect_left(self.keys, key)]

    def take(self, lots: int, limit: int) -> list[Execution]:
        """Execute a taker of ``lots``, best price and oldest order first, none beyond ``limit``."""
        executions: list[Execution] = []
        worst = limit * self.sign
        while lots and self.keys and self.keys[-1] >= worst:
            price = self.best()
            level = self.orders[price]
            for order_id, resting in list(level.items()):
                filled = min(resting, lots)
                executions.append(Execution(price, filled))
                lots -= filled
                if filled == resting:
                    self.remove(price, order_id)
                else:
                    level[order_id] = resting - filled
                    self.totals[price] -= filled
                if not lots:
                    break
        return executions


class OrderBook:
    """Two sides that never meet: ``add`` refuses a price that would cross."""

    __slots__ = ("asks", "bids", "next_order_id")

    def __init__(self) -> None:
        self.bids = BookSide(1)
        self.asks = BookSide(-1)
        self.next_order_id = 1

    def add(self, *, buy: bool, price: int, lots: int) -> bool:
        """Rest an order; False, and nothing happens, if it would trade at once."""
        own, other = (self.bids, self.asks) if buy else (self.asks, self.bids)
        if other.keys and own.sign * (price - other.best()) >= 0:
            return False
        own.add(price, self.next_order_id, lots)
        self.next_order_id += 1
        return True

    def spread(self) -> int:
        return self.asks.best() - self.bids.best()
