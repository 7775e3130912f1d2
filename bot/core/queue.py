"""Where a resting order stands in its level, judged from trades and from what is displayed.

``ahead`` is the venue's quantity in front of us; our own other orders never count. It is None
while the level lies beyond the visible depth and has never been seen.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bot.core.events import E12, Order

QueuePolicy = Literal["conservative", "probabilistic", "none"]

_ERASURES_KEPT = 16


class Resting(Struct, eq=False, gc=False):
    """An order in the venue's book.

    ``erased`` remembers (book seq, quantity) of shrinks in front of us that no trade explained:
    a trade print that comes after the book that already shows it uses them up first.
    ``arrived_seq`` is that of the book which the order met: that book's trades were before us.
    ``heard_ns`` is when the last answer about the order will be heard.
    """

    order: Order
    number: int
    price: E12
    qty: E12
    leaves: E12
    arrived_ns: int
    arrived_seq: int
    ahead: E12 | None
    ahead_at_arrival: E12 | None
    heard_ns: int = 0
    displayed: E12 = 0
    traded: E12 = 0
    erased: list[tuple[int, E12]] = []


def after_trade(resting: Resting, qty: E12, seq: int, book_seq: int) -> E12:
    """A trade of ``qty`` at our price: take it off ``ahead``; returns the excess that reaches us.

    A trade whose ``seq`` is not above the last book's is already in that book.
    """
    if seq > book_seq:
        resting.traded += qty
    elif resting.erased:
        qty -= _explain(resting, qty, seq)
    if resting.ahead is None:
        return 0
    passed = min(resting.ahead, qty)
    resting.ahead -= passed
    return qty - passed


def _explain(resting: Resting, qty: E12, seq: int) -> E12:
    """Use up what books at or past ``seq`` erased; returns how much of ``qty`` they explain."""
    explained = 0
    kept: list[tuple[int, E12]] = []
    for book_seq, erased in resting.erased:
        used = min(erased, qty - explained) if book_seq >= seq else 0
        explained += used
        if erased > used:
            kept.append((book_seq, erased - used))
    resting.erased = kept
    return explained


def after_book(resting: Resting, displayed: E12, seq: int, policy: QueuePolicy, power: int) -> None:
    """The level now shows ``displayed``: growth is behind us, a shrink is judged by policy."""
    before = resting.ahead
    if before is None:
        resting.ahead = resting.ahead_at_arrival = displayed
    elif before:
        ahead = before
        if policy == "probabilistic":
            ahead = _probable_ahead(resting, before, displayed, power)
        elif displayed < before:
            ahead = displayed
        if ahead < before:
            resting.ahead = ahead
            erased = resting.erased
            erased.append((seq, before - ahead))
            if len(erased) > _ERASURES_KEPT:
                del erased[:-_ERASURES_KEPT]
    resting.displayed = displayed
    resting.traded = 0


def _probable_ahead(resting: Resting, front: E12, new: E12, power: int) -> E12:
    """Spread an unexplained shrink over both sides of us.

    With back = previous - front and p = back^n / (back^n + front^n), p of the shrink is behind us
    (hftbacktest's power queue model, https://hftbacktest.readthedocs.io/en/latest/order_fill.html).
    """
    change = resting.displayed - new - resting.traded
    if change <= 0:
        return min(front, new)
    back = max(resting.displayed - front, 0)
    weight_back: int = back**power
    total: int = weight_back + front**power
    behind = change * weight_back // total
    estimate = front - (change - behind) + min(back - behind, 0)
    return max(0, min(estimate, new))
