"""What we took of one side of the displayed book: a lot that filled us once does not do so again.

The venue knows nothing of us and goes on displaying what a paper order took.
"""

from __future__ import annotations

from bisect import insort

from bot.core.book import Book
from bot.core.events import E12, Level, Side
from bot.core.levels import hold_marks

UNSEEN_MAX = 32
"""Marked levels beyond the visible depth that are remembered; of more, the nearest half stays."""


class Taken:
    """Price to the part of the displayed quantity that is ours, always at most what is shown.

    ``_unseen`` are marked levels that left the visible depth, in ascending order: they keep their
    mark until they are seen again, with a quantity or without.
    """

    __slots__ = ("_side", "_unseen", "marks")

    def __init__(self, side: Side) -> None:
        self._side: Side = side
        self.marks: dict[E12, E12] = {}
        self._unseen: list[E12] = []

    def add(self, price: E12, qty: E12) -> None:
        """Remember that we took ``qty`` at ``price``."""
        self.marks[price] = self.marks.get(price, 0) + qty

    def after_delta(self, book: Book, changes: list[Level]) -> None:
        """Hold the marks of the levels that changed, or came into view, against the book."""
        unseen = self._unseen
        levels = book.bids if self._side == "Buy" else book.asks
        again = hold_marks(self.marks, levels, changes, unseen)
        if again is not None:
            for price in again:
                self._look_again(book, price)
        if unseen and self._may_show(book, changes):
            worst = book.worst_visible(self._side)
            is_bid = self._side == "Buy"
            for price in tuple(unseen):
                if price >= worst if is_bid else price <= worst:
                    self._look_again(book, price)

    def _may_show(self, book: Book, changes: list[Level]) -> bool:
        """Whether the depth may reach an unseen level now, which it did not before ``changes``.

        Only a level that came beyond it can have moved the edge there, or a side that is not full.
        """
        if self._side == "Buy":
            return len(book.bids) < book.depth or min(changes)[0] <= self._unseen[-1]
        return len(book.asks) < book.depth or max(changes)[0] >= self._unseen[0]

    def after_snapshot(self, book: Book) -> None:
        """Hold every mark against the new book."""
        for price in tuple(self.marks):
            self._look_again(book, price)

    def _look_again(self, book: Book, price: E12) -> None:
        marks = self.marks
        taken = marks.get(price)
        if taken is None:
            return  # forgotten meanwhile
        displayed = book.displayed(self._side, price)
        if displayed is None:
            self._leave_view(price)
            return
        if price in self._unseen:
            self._unseen.remove(price)
        if not displayed:
            del marks[price]
        elif displayed < taken:
            marks[price] = displayed

    def _leave_view(self, price: E12) -> None:
        """Keep the mark; but as the market wanders, the farthest are forgotten."""
        unseen = self._unseen
        if price not in unseen:
            insort(unseen, price)
        if len(unseen) > UNSEEN_MAX:
            half = UNSEEN_MAX // 2
            farthest = slice(None, half) if self._side == "Buy" else slice(-half, None)
            for forgotten in unseen[farthest]:
                del self.marks[forgotten]
            del unseen[farthest]
