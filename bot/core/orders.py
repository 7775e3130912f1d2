"""What we have at the venue for one symbol, and what the book still offers beyond what we took."""

from __future__ import annotations

from bisect import insort
from typing import TypeAlias

from msgspec import Struct

from bot.core.events import E12, Amend, BookUpdate, Cancel, Order, Side, TriggerBy
from bot.core.instrument import to_e12
from bot.core.market import Listing
from bot.core.queue import Resting
from bot.core.taken import Taken

Request: TypeAlias = Order | Amend | Cancel


class OrderIds:
    """Order ids are a counter, so that a replay gives the same ones."""

    __slots__ = ("last",)

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def next(self) -> int:
        self.last += 1
        return self.last


class Stop(Struct, eq=False):
    """A conditional order that waits until the price named by ``by`` reaches ``price``."""

    resting: Resting
    price: E12
    by: TriggerBy
    rises: bool

    def is_met(self, price: E12) -> bool:
        return price >= self.price if self.rises else 0 < price <= self.price


class SymbolOrders:
    """Requests on their way by due time, and resting orders by priority: price, then arrival.

    ``stops`` wait for their trigger; ``triggered`` ones for a book whose ``seq`` shows it.
    """

    __slots__ = ("buys", "listing", "pending", "sells", "stops", "taken_asks", "taken_bids",
                 "triggered")  # fmt: skip

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.pending: list[tuple[int, int, Request]] = []
        self.buys: list[Resting] = []
        self.sells: list[Resting] = []
        self.stops: list[Stop] = []
        self.triggered: list[tuple[int, Resting]] = []
        self.taken_bids = Taken("Buy")
        self.taken_asks = Taken("Sell")

    # --- our orders ------------------------------------------------------------------------

    def is_due(self, stamp_ns: int) -> bool:
        """Whether something happens by ``stamp_ns``: a request arrives, or funding settles."""
        pending = self.pending
        if pending and pending[0][0] <= stamp_ns:
            return True
        return 0 < self.listing.next_funding_ns <= stamp_ns

    def has(self, order_id: int) -> bool:
        """Whether an order rests or waits here."""
        return self.find(order_id) is not None or self.find_stop(order_id) is not None

    def side(self, side: Side) -> list[Resting]:
        return self.buys if side == "Buy" else self.sells

    def find(self, order_id: int) -> Resting | None:
        for resting in (*self.buys, *self.sells):
            if resting.order.id == order_id:
                return resting
        return None

    def add(self, resting: Resting) -> None:
        insort(self.side(resting.order.side), resting, key=_priority)

    def remove(self, resting: Resting) -> None:
        self.side(resting.order.side).remove(resting)

    # --- what waits for a price --------------------------------------------------------------

    def conditional(self) -> list[Resting]:
        """What waits for its trigger, then what waits for its book."""
        return [*(stop.resting for stop in self.stops), *(each for _, each in self.triggered)]

    def exits(self) -> list[Resting]:
        """The conditional orders that belong to the position."""
        if not self.stops and not self.triggered:
            return []
        return [each for each in self.conditional() if each.order.stop_type is not None]

    def find_stop(self, order_id: int) -> Resting | None:
        if not self.stops and not self.triggered:
            return None
        return next((each for each in self.conditional() if each.order.id == order_id), None)

    def waits(self, resting: Resting) -> bool:
        """Whether its trigger has not been reached."""
        return any(stop.resting is resting for stop in self.stops)

    def drop_stop(self, resting: Resting) -> None:
        self.stops = [stop for stop in self.stops if stop.resting is not resting]
        self.triggered = [each for each in self.triggered if each[1] is not resting]

    def change_stop(self, resting: Resting, order: Order) -> None:
        """Let a waiting order be ``order``."""
        resting.order = order
        resting.price = 0 if order.price is None else to_e12(order.price)
        resting.qty = resting.leaves = to_e12(order.qty)
        for stop in self.stops:
            if stop.resting is resting and order.trigger_price is not None:
                stop.price = to_e12(order.trigger_price)

    # --- what the other side offers ----------------------------------------------------------

    def available(self, side: Side, limit: E12) -> E12:
        """What the other side shows up to ``limit``, less what we have taken of it."""
        book = self.listing.book
        if book.best_ask > limit if side == "Buy" else book.best_bid < limit:
            return 0
        return sum(qty for _, qty in self.offers(side, limit))

    def offers(self, side: Side, limit: E12) -> list[tuple[E12, E12]]:
        """(price, available quantity) that ``limit`` reaches, best price first."""
        reached = self._reach(side, limit)
        if not reached:
            return []
        levels, taken = self._opposite(side)
        offered = ((price, levels[price] - taken.get(price, 0)) for price in reached)
        return [(price, qty) for price, qty in offered if qty > 0]

    def take(self, side: Side, price: E12, qty: E12) -> None:
        """Mark ``qty`` of the other side's level at ``price`` as taken by us."""
        taken = self.taken_asks if side == "Buy" else self.taken_bids
        taken.add(price, qty)

    def forget_gone(self, update: BookUpdate) -> None:
        """What is no longer displayed is no longer taken."""
        bids, asks, book = self.taken_bids, self.taken_asks, self.listing.book
        if update.snapshot:
            bids.after_snapshot(book)
            asks.after_snapshot(book)
            return
        if bids.marks and update.bids:
            bids.after_delta(book, update.bids)
        if asks.marks and update.asks:
            asks.after_delta(book, update.asks)

    def _opposite(self, side: Side) -> tuple[dict[E12, E12], dict[E12, E12]]:
        book = self.listing.book
        if side == "Buy":
            return book.asks, self.taken_asks.marks
        return book.bids, self.taken_bids.marks

    def _reach(self, side: Side, limit: E12) -> list[E12]:
        """The other side's prices that ``limit`` reaches, best first."""
        book = self.listing.book
        if side == "Buy":
            if not book.best_ask or book.best_ask > limit:
                return []
            if book.best_ask == limit:
                return [limit]
            return sorted(price for price in book.asks if price <= limit)
        if book.best_bid < limit or not book.best_bid:
            return []
        if book.best_bid == limit:
            return [limit]
        return sorted((price for price in book.bids if price >= limit), reverse=True)


def _priority(resting: Resting) -> tuple[E12, int]:
    price = resting.price
    return (-price if resting.order.side == "Buy" else price, resting.number)
