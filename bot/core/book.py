"""The visible order book of one symbol: what the venue last displayed, and nothing of ours."""

from __future__ import annotations

from bot.core.events import E12, BookUpdate, Level, Side
from bot.core.levels import apply_levels

_HIGHEST: E12 = 1 << 100


class Book:
    """Price to quantity, a side each, with the best prices kept at hand.

    ``depth`` is how many levels a side the venue shows (0: all). ``best_bid`` and ``best_ask``
    are 0 while a side is empty.
    """

    __slots__ = ("asks", "best_ask", "best_bid", "bids", "depth", "seq", "u")

    def __init__(self) -> None:
        self.bids: dict[E12, E12] = {}
        self.asks: dict[E12, E12] = {}
        self.best_bid: E12 = 0
        self.best_ask: E12 = 0
        self.depth = 0
        self.seq = 0
        self.u = 0

    def apply(self, update: BookUpdate) -> None:
        """Replace the book by a snapshot, or change the levels that a delta names."""
        if update.snapshot:
            self.bids.clear()
            self.asks.clear()
            self.best_bid = self.best_ask = 0
            self.depth = update.depth
        if update.bids:
            self.best_bid = apply_levels(self.bids, update.bids, self.best_bid, True)
        if update.asks:
            self.best_ask = apply_levels(self.asks, update.asks, self.best_ask, False)
        self.seq = update.seq
        self.u = update.u

    @property
    def is_crossed(self) -> bool:
        """Best bid above best ask. Equal prices are a locked book, which is legal."""
        return self.best_bid > self.best_ask > 0

    def displayed(self, side: Side, price: E12) -> E12 | None:
        """The quantity shown on ``side`` at ``price``; None where the depth does not reach.

        A price that is missing inside the visible range is 0; beyond it, it is unknown.
        """
        levels = self.bids if side == "Buy" else self.asks
        qty = levels.get(price)
        if qty is not None:
            return qty
        if price > self.best_bid if side == "Buy" else price < self.best_ask:
            return 0
        worst = self.worst_visible(side)
        return 0 if (price > worst if side == "Buy" else price < worst) else None

    def worst_visible(self, side: Side) -> E12:
        """The last price that the depth reaches; a side that is not full shows every price."""
        levels = self.bids if side == "Buy" else self.asks
        if not self.depth or len(levels) < self.depth:
            return 0 if side == "Buy" else _HIGHEST
        return min(levels) if side == "Buy" else max(levels)

    def top(self, side: Side, count: int) -> list[Level]:
        """The best ``count`` levels of a side, best first."""
        if side == "Buy":
            return sorted(self.bids.items(), reverse=True)[:count]
        return sorted(self.asks.items())[:count]
