"""What a full inbox could not hold, folded so that no book goes wrong and nothing grows.

Deltas of one book are merged into one, of everything else the newest is kept, trades are counted.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from bot.core.events import BookUpdate, Event, FeedDown, Level, Trade

Key = tuple[type, str, int]
"""(event type, symbol, depth or 0)."""


class Backlog:
    """Folds events in journal order; ``events`` gives what is left of them in that order."""

    __slots__ = ("_kept", "lost")

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[Event, int]] = {}  # oldest last-touched first
        self.lost: Counter[tuple[type, str]] = Counter()

    def fold(self, event: Event, symbol: str, position: int) -> None:
        """Take in one event. ``lost`` counts, by type and symbol, those that are no more."""
        kind = type(event)
        depth = event.depth if isinstance(event, BookUpdate) else 0
        key = (kind, symbol, depth)
        if isinstance(event, Trade):
            self.lost[kind, symbol] += 1
            return
        if isinstance(event, FeedDown):
            for other in [k for k in self._kept if k[0] is BookUpdate and k[1] == symbol]:
                del self._kept[other]
                self.lost[BookUpdate, symbol] += 1
        old = self._kept.pop(key, None)
        if old is not None:
            self.lost[kind, symbol] += 1
            if isinstance(event, BookUpdate) and not event.snapshot:
                assert isinstance(old[0], BookUpdate)
                event = _merge(old[0], event)
        self._kept[key] = (event, position)

    def events(self) -> list[tuple[Event, int]]:
        return list(self._kept.values())


def _merge(old: BookUpdate, new: BookUpdate) -> BookUpdate:
    """One update with the effect of both."""
    return replace(
        new,
        snapshot=old.snapshot,
        bids=_merge_side(old.bids, new.bids, keep_deletes=not old.snapshot),
        asks=_merge_side(old.asks, new.asks, keep_deletes=not old.snapshot),
    )


def _merge_side(old: list[Level], new: list[Level], *, keep_deletes: bool) -> list[Level]:
    merged = dict(old)
    merged.update(new)
    return [(price, qty) for price, qty in merged.items() if qty or keep_deletes]
