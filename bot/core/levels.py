"""One side of a book: the changes that a message names, put into the levels."""

from __future__ import annotations

from bot.core import native
from bot.core.events import E12, Level


def change_levels(levels: dict[E12, E12], changes: list[Level], best: E12, is_bid: bool) -> E12:
    """Change ``levels`` (price to quantity); returns the best price, 0 while there is none.

    ``best`` was the best before, 0 for none. The best that was or came is the best of all, unless
    its level has gone.
    """
    for price, qty in changes:
        if not qty:
            levels.pop(price, None)
            continue
        levels[price] = qty
        if not best or (price > best if is_bid else price < best):
            best = price
    if best in levels:
        return best
    return max(levels, default=0) if is_bid else min(levels, default=0)


def changed_marks(marks: dict[E12, E12], changes: list[Level]) -> list[E12] | None:
    """The prices that ``changes`` name and ``marks`` hold, in order; None for none."""
    return [price for price, _ in changes if price in marks] or None


marked = native.marked or changed_marks
apply_levels = native.apply_levels or change_levels
"""``changed_marks`` and ``change_levels``, in C where that was built: done for most messages."""
