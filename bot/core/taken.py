"""What we took of one side of the displayed book: a lot that filled us once does not do so again.

The venue knows nothing of us and goes on displaying what a paper order took.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.core.book import Book
from bot.core.events import E12, Level, Side

MARKS_MAX = 256
"""Levels on which we remember what we took; beyond, the nearest half to the touch stays."""


class Taken:
    """Price to the part of the displayed quantity that is ours, always at most what is shown.

    ``_unseen`` are marked levels that left the visible depth: they keep their mark until they
    are seen again, with a quantity or without.
    """

    __slots__ = ("_side", "_unseen", "marks")

    def __init__(self, side: Side) -> None:
        self._side: Side = side
        self.marks: dict[E12, E12] = {}
        self._unseen: set[E12] = set()

    def add(self, price: E12, qty: E12, best: E12) -> None:
        """Remember that we took ``qty`` at ``price``."""
        marks = self.marks
        marks[price] = marks.get(price, 0) + qty
        if len(marks) > MARKS_MAX:
            nearest = sorted(marks, key=lambda marked: abs(marked - best))[: MARKS_MAX // 2]
            self.marks = {kept: marks[kept] for kept in nearest}
            self._unseen &= self.marks.keys()

    def after_delta(self, book: Book, changes: list[Level]) -> None:
        """Shrink the marks of the levels that changed."""
        marks = self.marks
        for price, qty in changes:
            if price not in marks:
                continue
            if qty:
                self._unseen.discard(price)
                if qty < marks[price]:
                    marks[price] = qty
            elif book.displayed(self._side, price) is None:
                self._unseen.add(price)
            else:
                del marks[price]
        if self._unseen:
            worst = book.worst_visible(self._side)
            if self._side == "Buy":
                seen = [price for price in self._unseen if price >= worst]
            else:
                seen = [price for price in self._unseen if price <= worst]
            if seen:
                self._look_again(book, seen)

    def after_snapshot(self, book: Book) -> None:
        """Hold every mark against the new book."""
        self._look_again(book, tuple(self.marks))

    def _look_again(self, book: Book, prices: Sequence[E12]) -> None:
        for price in prices:
            displayed = book.displayed(self._side, price)
            if displayed is None:
                self._unseen.add(price)
                continue
            self._unseen.discard(price)
            if displayed:
                self.marks[price] = min(self.marks[price], displayed)
            else:
                del self.marks[price]
