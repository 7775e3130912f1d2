"""How old market data is when it is stamped here, watched beside a run and told as events."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bot.core.events import BookUpdate, ClockOffset, Event, Fact, Trade
from bot.core.measurements import FeedLatency

KEPT = 4_000
"""The newest messages of a category that one measurement looks at: forty of them are above the
p99, and to sort them stops the loop for less than a millisecond."""
LATENCY_EVERY_S = 10.0


class LatencyWatch:
    """Watches a run or a recording. ``last`` has the newest measurement of each category.

    ``offset_ns`` is the clock offset that was last told.
    """

    def __init__(self, offset_ns: int = 0) -> None:
        self.last: dict[str, FeedLatency] = {}
        self.offset_ns = offset_ns
        self._ages_ns: dict[str, deque[int]] = {}

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        """A run has stepped ``event``."""
        del position, facts
        self.take(event)

    def take(self, event: Event) -> None:
        """Note how old a message was; first snapshots, which may be seconds old, do not count."""
        if type(event) is Trade or (type(event) is BookUpdate and not event.snapshot):
            ages = self._ages_ns.get(event.symbol)
            if ages is None:
                category = event.symbol.partition(":")[0]
                ages = self._ages_ns.setdefault(category, deque(maxlen=KEPT))
                self._ages_ns[event.symbol] = ages
            ages.append(event.ts - event.exchange_ts)
        elif type(event) is ClockOffset:
            self.offset_ns = event.offset_ns

    def measure(self, ts: int) -> list[FeedLatency]:
        """What was seen since the last call, corrected by the clock offset known now."""
        found: list[FeedLatency] = []
        for category, ages in self._ages_ns.items():
            if ":" in category or not ages:
                continue  # a symbol's entry is its category's
            sizes, offset_ns = sorted(ages), self.offset_ns
            p50, p99 = sizes[len(sizes) // 2], sizes[len(sizes) * 99 // 100]
            ages.clear()
            latency = FeedLatency(ts, category, len(sizes), p50 - offset_ns, p99 - offset_ns)
            self.last[category] = latency
            found.append(latency)
        return found

    def figures(self) -> dict[str, dict[str, float]]:
        """The newest measurements in ms, for a summary."""
        return {
            category: {"p50": round(one.p50_ns / 1e6, 3), "p99": round(one.p99_ns / 1e6, 3)}
            for category, one in self.last.items()
        }
