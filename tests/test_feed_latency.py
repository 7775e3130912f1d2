"""How old market data is when it comes, from events alone."""

from __future__ import annotations

from bot.core.events import BookUpdate, ClockOffset, Trade
from bot.core.measurements import FeedLatency
from bot.feed_latency import LatencyWatch

MS = 10**6


def book(
    ts: int, exchange_ts: int, symbol: str = "linear:BTCUSDT", *, snapshot=False
) -> BookUpdate:
    return BookUpdate(ts, exchange_ts, symbol, 50, 1, 1, snapshot, [], [])


def test_the_latency_is_on_the_venues_clock_and_without_snapshots():
    watch = LatencyWatch()
    watch(0, ClockOffset(0, 7 * MS), [])
    for number in range(100):
        watch(number, book(1000 * MS + number * MS + 7 * MS, 1000 * MS), [])
    watch(100, book(9000 * MS, 1000 * MS, snapshot=True), [])
    trade = Trade(30 * MS, 20 * MS, "spot:BTCUSDT", 1, "Buy", 1, 1)
    watch(101, trade, [])
    assert watch.measure(5) == [
        FeedLatency(5, "linear", 100, 50 * MS, 99 * MS),
        FeedLatency(5, "spot", 1, 3 * MS, 3 * MS),
    ]
    assert watch.last["spot"].messages == 1
    assert watch.measure(6) == []
