"""What we have at the venue for one symbol, and what the book still offers beyond what we took."""

from __future__ import annotations

from bisect import insort
from typing import TypeAlias

from bot.core.events import E12, Amend, BookUpdate, Cancel, Order, Side
from bot.core.market import Listing
from bot.core.queue import Resting
from bot.core.taken import Taken

Request: TypeAlias = Order | Amend | Cancel


class SymbolOrders:
    """Requests on their way by due time, and resting orders by priority: price, then arrival."""

    __slots__ = ("buys", "listing", "pending", "sells", "taken_asks", "taken_bids")

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.pending: list[tuple[int, int, Request]] = []
        self.buys: list[Resting] = []
        self.sells: list[Resting] = []
        self.taken_bids = Taken("Buy")
        self.taken_asks = Taken("Sell")

    # --- our orders ------------------------------------------------------------------------

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

    # --- what the other side offers ----------------------------------------------------------

    def available(self, side: Side, limit: E12) -> E12:
        """What the other side shows up to ``limit``, less what we have taken of it."""
        return sum(qty for _, qty in self.offers(side, limit))

    def offers(self, side: Side, limit: E12) -> list[tuple[E12, E12]]:
        """(price, available quantity) that ``limit`` reaches, best price first."""
        levels, taken = self._opposite(side)
        offered = (
            (price, levels[price] - taken.get(price, 0)) for price in self._reach(side, limit)
        )
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
            return sorted(price for price in book.asks if price <= limit)
        if book.best_bid < limit or not book.best_bid:
            return []
        return sorted((price for price in book.bids if price >= limit), reverse=True)


def _priority(resting: Resting) -> tuple[E12, int]:
    price = resting.price
    return (-price if resting.order.side == "Buy" else price, resting.number)
