"""A reference of the paper exchange that is slow, naive, and written from the rules alone.

It keeps exact fractions, holds every level and every mark against the whole book after each
event, and computes the money from the list of all fills. Nothing of it comes from the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.builders import MAKER, TAKER

DEPOSIT = 1_000_000


@dataclass
class Standing:
    """One of our orders at the venue."""

    id: int
    side: str
    tif: str
    price: Fraction
    qty: Fraction
    leaves: Fraction
    reduce_only: bool
    arrived: int
    arrived_seq: int
    place: int
    ahead: Fraction | None = None
    erased: list[list[Any]] = field(default_factory=list)


class Reference:
    """The rules of the paper exchange for one symbol and one policy."""

    def __init__(self, queue: str, through: str, latency: int, depth: int) -> None:
        self.queue, self.through, self.latency, self.depth = queue, through, latency, depth
        self.levels: dict[str, dict[Fraction, Fraction]] = {"Buy": {}, "Sell": {}}
        self.taken: dict[str, dict[Fraction, Fraction]] = {"Buy": {}, "Sell": {}}
        self.live = False
        self.clock = self.book_seq = self.live_seq = 0
        self.orders: list[Standing] = []
        self.pending: list[tuple[int, int, tuple[Any, ...]]] = []
        self.places = 0
        self.fills: list[tuple[Any, ...]] = []
        self.ends: list[tuple[Any, ...]] = []

    # --- the book ---------------------------------------------------------------------------

    def best(self, side: str) -> Fraction | None:
        prices = list(self.levels[side])
        return None if not prices else max(prices) if side == "Buy" else min(prices)

    def displayed(self, side: str, price: Fraction) -> Fraction | None:
        levels = self.levels[side]
        if price in levels:
            return levels[price]
        if not self.depth or len(levels) < self.depth:
            return Fraction(0)
        beyond = price < min(levels) if side == "Buy" else price > max(levels)
        return None if beyond else Fraction(0)

    def offers(self, side: str, limit: Fraction) -> list[tuple[Fraction, Fraction]]:
        other = "Sell" if side == "Buy" else "Buy"
        reached = [
            (price, qty - self.taken[other].get(price, 0))
            for price, qty in self.levels[other].items()
            if (price <= limit if side == "Buy" else price >= limit)
        ]
        reached.sort(reverse=side == "Sell")
        return [(price, qty) for price, qty in reached if qty > 0]

    def take(self, side: str, price: Fraction, qty: Fraction) -> None:
        marks = self.taken["Sell" if side == "Buy" else "Buy"]
        marks[price] = marks.get(price, Fraction(0)) + qty

    # --- the account, from all fills ------------------------------------------------------------

    def position(self) -> Fraction:
        return sum(
            (qty if side == "Buy" else -qty for _, _, side, _, qty, *_ in self.fills), Fraction(0)
        )

    def money(self) -> tuple[Fraction, Fraction, Fraction]:
        """(realized, fees, wallet), in 1e-8 coins."""
        size = cost = realized = fees = Fraction(0)
        for _, _, side, price, qty, cause, _ in self.fills:
            rate = TAKER if cause == "take" else MAKER
            fees += round(price * qty * Fraction(rate) * 10**8)
            signed = qty if side == "Buy" else -qty
            if size * signed < 0:
                closed = min(abs(size), qty)
                share = round(cost * closed / abs(size))
                value = round(price * closed * 10**8)
                realized += value - share if size > 0 else share - value
                cost -= share
                opened = qty - closed
            else:
                opened = qty
            cost += round(price * opened * 10**8)
            size += signed
        return realized, fees, DEPOSIT * 10**8 + realized - fees

    # --- requests --------------------------------------------------------------------------------

    def submit(self, now: int, request: tuple[Any, ...]) -> None:
        self.places += 1
        due = max(self.clock, now + self.latency)
        self.pending.append((due, self.places, request))
        if not self.latency:
            self.arrive(due)

    def arrive(self, stamp: int, not_before: int = 0) -> None:
        for entry in sorted(self.pending):
            due, _, request = entry
            rests = any(order.id == request[1] for order in self.orders)
            if due <= stamp and (self.live or (request[0] == "cancel" and rests)):
                self.pending.remove(entry)
                self.apply(max(due, not_before), request)

    def apply(self, due: int, request: tuple[Any, ...]) -> None:
        kind, order_id, *rest = request
        found = next((order for order in self.orders if order.id == order_id), None)
        if kind == "place":
            self.place(due, order_id, *rest)
        elif found is None:
            self.ends.append(("Rejected", due, order_id, "110001"))
        elif kind == "cancel":
            self.orders.remove(found)
            self.ends.append(("Cancelled", due, order_id, "EC_PerCancelRequest"))
        else:
            self.amend(due, found, *rest)

    def place(
        self, due: int, order_id: int, side: str, tif: str, price: Any, qty: Any, reduce_only: bool
    ) -> None:
        position = self.position()
        if reduce_only:
            against = -position if side == "Buy" else position
            if against <= 0:
                self.ends.append(("Rejected", due, order_id, "110017"))
                return
            qty = min(qty, against)
        if price is None:
            best = self.best("Sell" if side == "Buy" else "Buy")
            slip = Fraction(105, 100) if side == "Buy" else Fraction(95, 100)
            price = Fraction(0) if best is None else best * slip
        self.places += 1
        order = Standing(
            order_id, side, tif, price, qty, qty, reduce_only, due, 0, self.places
        )  # fmt: skip
        self.enter(due, order)

    def amend(self, due: int, order: Standing, price: Any, qty: Any) -> None:
        price, qty = price or order.price, qty or order.qty
        filled = order.qty - order.leaves
        if qty <= filled:
            self.ends.append(("Rejected", due, order.id, "10001"))
            return
        if order.reduce_only:
            qty = min(qty, filled + abs(self.position()))
        keeps = price == order.price and qty <= order.qty
        order.price, order.qty, order.leaves = price, qty, qty - filled
        if not keeps:
            self.places += 1
            self.orders.remove(order)
            order.arrived, order.place, order.erased = due, self.places, []
            self.enter(due, order)

    def enter(self, due: int, order: Standing) -> None:
        order.arrived_seq = self.book_seq
        offers = self.offers(order.side, order.price)
        available = sum(qty for _, qty in offers)
        if order.tif == "PostOnly" and available:
            self.ends.append(("Cancelled", due, order.id, "EC_PostOnlyWillTakeLiquidity"))
            return
        if order.tif == "FOK" and available < order.leaves:
            self.ends.append(("Cancelled", due, order.id, "EC_CancelForNoFullFill"))
            return
        order.ahead = (
            Fraction(0) if self.queue == "none" else self.displayed(order.side, order.price)
        )
        for price, qty in offers:
            if order.leaves:
                filled = self.fill(due, order, price, qty, "take")
                self.take(order.side, price, filled)
        if order.leaves and order.tif in ("GTC", "PostOnly"):
            self.orders.append(order)
        elif order.leaves:
            self.ends.append(("Cancelled", due, order.id, "EC_NoImmediateQtyToFill"))

    # --- what happens ------------------------------------------------------------------------

    def gap(self) -> None:
        self.live = False

    def book(self, stamp: int, seq: int, snapshot: bool, changes: dict[str, Any]) -> None:
        self.arrive(stamp)
        self.clock = max(self.clock, stamp)
        if not self.live and not snapshot:
            return
        for side, levels in changes.items():
            if snapshot:
                self.levels[side] = {}
            for price, qty in levels:
                self.levels[side].pop(price, None)
                if qty:
                    self.levels[side][price] = qty
        self.book_seq = seq
        bid, ask = self.best("Buy"), self.best("Sell")
        if bid is not None and ask is not None and bid > ask:
            self.live = False
            return
        if not self.live:
            self.live, self.live_seq = True, seq
        self.look(seq)
        for side in ("Buy", "Sell"):
            for order in self.ours(side):
                self.cross(stamp, order)
        if snapshot:
            self.arrive(stamp, stamp)

    def look(self, seq: int) -> None:
        """Hold every mark and every queue against the whole book."""
        for side, marks in self.taken.items():
            for price in list(marks):
                shown = self.displayed(side, price)
                if shown is not None:
                    marks[price] = min(marks[price], shown)
        for order in self.orders:
            shown = self.displayed(order.side, order.price)
            if shown is None:
                continue
            if order.ahead is None:
                order.ahead = shown
            elif shown < order.ahead:
                order.erased.append([seq, order.ahead - shown])
                order.ahead = shown

    def cross(self, stamp: int, order: Standing) -> None:
        offers = self.offers(order.side, order.price)
        filled = self.fill(stamp, order, order.price, sum(q for _, q in offers), "cross")
        for price, qty in offers:
            part = min(filled, qty)
            self.take(order.side, price, part)
            filled -= part

    def trade(self, stamp: int, seq: int, side: str, price: Fraction, qty: Fraction) -> None:
        self.arrive(stamp)
        self.clock = max(self.clock, stamp)
        if not self.live or seq <= self.live_seq:
            return
        for order in self.ours("Sell" if side == "Buy" else "Buy"):
            if seq <= order.arrived_seq:
                continue
            if order.price == price:
                lot, cause = self.past_queue(order, qty, seq), "queue"
            elif (order.price > price) == (side == "Sell"):
                lot, cause = qty if self.through == "traded" else order.leaves, "through"
            else:
                continue
            if stamp < order.arrived:
                continue
            if cause == "through":
                order.ahead = Fraction(0)
            filled = self.fill(stamp, order, order.price, lot, cause)
            if cause == "queue" or self.through == "traded":
                qty -= filled

    def past_queue(self, order: Standing, qty: Fraction, seq: int) -> Fraction:
        """What of a trade at our price comes past the queue ahead of us."""
        if seq <= self.book_seq:
            for erasure in order.erased:
                if erasure[0] >= seq:
                    used = min(qty, erasure[1])
                    erasure[1] -= used
                    qty -= used
        if order.ahead is None:
            return Fraction(0)
        passed = min(order.ahead, qty)
        order.ahead -= passed
        return qty - passed

    def ours(self, side: str) -> list[Standing]:
        sign = -1 if side == "Buy" else 1
        return sorted(
            (order for order in self.orders if order.side == side),
            key=lambda order: (order.price * sign, order.place),
        )

    def fill(self, stamp: int, order: Standing, price: Fraction, most: Any, cause: str) -> Fraction:
        qty = min(Fraction(most), order.leaves)
        if order.reduce_only:
            position = self.position()
            qty = min(qty, -position if order.side == "Buy" else position)
        if qty <= 0:
            return Fraction(0)
        order.leaves -= qty
        self.fills.append((stamp, order.id, order.side, price, qty, cause, order.leaves))
        if not order.leaves and order in self.orders:
            self.orders.remove(order)
        position = self.position()
        for other in [*self.ours("Buy"), *self.ours("Sell")]:
            if other.reduce_only and (-position if other.side == "Buy" else position) <= 0:
                self.orders.remove(other)
                self.ends.append(("Cancelled", stamp, other.id, "CancelByReduceOnly"))
        return qty
