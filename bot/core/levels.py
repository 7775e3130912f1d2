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


def lower_marks(
    marks: dict[E12, E12], levels: dict[E12, E12], changes: list[Level], unseen: list[E12]
) -> list[E12] | None:
    """Of the levels that ``changes`` name, lower each mark to what ``levels`` shows there.

    Returns the marked prices, in order, that need another look: those not shown, and those that
    are in ``unseen``, whose marks are left as they are; None for none.
    """
    again = []
    for price, _ in changes:
        taken = marks.get(price)
        if taken is None:
            continue
        shown = levels.get(price)
        if shown is None or price in unseen:
            again.append(price)
        elif shown < taken:
            marks[price] = shown
    return again or None


hold_marks = native.hold_marks or lower_marks
apply_levels = native.apply_levels or change_levels
"""``lower_marks`` and ``change_levels``, in C where that was built: done for most messages."""
