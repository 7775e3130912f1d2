"""How old market data is when it is stamped here, watched beside a run and told as events."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bot.core.events import BookUpdate, Event, Fact, Trade
from bot.core.market import Market
from bot.core.measurements import FeedLatency

KEPT = 20_000
"""The newest messages of a category that one measurement looks at."""


class LatencyWatch:
    """Watches a run. ``last`` has the newest measurement of each category, for whoever shows it."""

    def __init__(self, market: Market) -> None:
        self.last: dict[str, FeedLatency] = {}
        self._market = market
        self._ages_ns: dict[str, deque[int]] = {}

    def __call__(self, position: int, event: Event, facts: Sequence[Fact]) -> None:
        del position, facts
        if type(event) is Trade or (type(event) is BookUpdate and not event.snapshot):
            ages = self._ages_ns.get(event.symbol)
            if ages is None:
                category = event.symbol.partition(":")[0]
                ages = self._ages_ns.setdefault(category, deque(maxlen=KEPT))
                self._ages_ns[event.symbol] = ages
            ages.append(event.ts - event.exchange_ts)

    def measure(self, ts: int) -> list[FeedLatency]:
        """What was seen since the last call, corrected by the clock offset known now."""
        found: list[FeedLatency] = []
        for category, ages in self._ages_ns.items():
            if ":" in category or not ages:
                continue  # a symbol's entry is its category's
            sizes, offset_ns = sorted(ages), self._market.offset_ns
            p50, p99 = sizes[len(sizes) // 2], sizes[len(sizes) * 99 // 100]
            ages.clear()
            latency = FeedLatency(ts, category, len(sizes), p50 - offset_ns, p99 - offset_ns)
            self.last[category] = latency
            found.append(latency)
        return found
