"""The best levels of one book, kept from snapshots and deltas for reading in order."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

from bot.core.events import E12, BookUpdate, Level


class BookSide:
    """One side, best level first. Keys are prices, negated for bids so that best sorts first."""

    __slots__ = ("_keys", "_qty", "_sign")

    def __init__(self, *, bids: bool) -> None:
        self._sign = -1 if bids else 1
        self._keys: list[E12] = []
        self._qty: dict[E12, E12] = {}

    def clear(self) -> None:
        self._keys.clear()
        self._qty.clear()

    def update(self, levels: Iterable[Level], depth: int) -> None:
        """Apply levels; with ``depth`` > 0, forget what lies deeper than that."""
        keys, qty = self._keys, self._qty
        for price, size in levels:
            key = self._sign * price
            if size:
                if key not in qty:
                    insort(keys, key)
                qty[key] = size
            elif qty.pop(key, 0):
                del keys[bisect_left(keys, key)]
        if depth and len(keys) > depth:
            for key in keys[depth:]:
                del qty[key]
            del keys[depth:]

    def best(self, count: int) -> list[Level]:
        """Up to ``count`` best levels."""
        sign, qty = self._sign, self._qty
        return [(sign * key, qty[key]) for key in self._keys[:count]]


class Levels:
    """Both sides of one symbol's book. ``known`` is False until a snapshot came."""

    __slots__ = ("asks", "bids", "known")

    def __init__(self) -> None:
        self.bids = BookSide(bids=True)
        self.asks = BookSide(bids=False)
        self.known = False

    def forget(self) -> None:
        """Mark the book as unknown until the next snapshot."""
        self.bids.clear()
        self.asks.clear()
        self.known = False

    def apply(self, update: BookUpdate) -> None:
        """Apply a snapshot, or a delta of a known book; a delta of an unknown one is ignored."""
        if update.snapshot:
            self.forget()
            self.known = True
        if self.known:
            self.bids.update(update.bids, update.depth)
            self.asks.update(update.asks, update.depth)
