"""Minute bars in ticks and lots, every longer interval made from them, and rolling day figures.

The venue's klines are nothing but its trades added up: ``trade`` and ``roll`` are the only ways
in, but for the history that ``seed_history`` writes before the first trade.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from random import Random

from msgspec import Struct

from bot.venue.emulator.fair import FairValue
from bot.venue.emulator.listing import Listing

MINUTE_MS = 60_000
DAY_MINUTES = 1440
INTERVAL_MINUTES = {
    "1": 1, "3": 3, "5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240,
    "360": 360, "720": 720, "D": DAY_MINUTES, "W": 7 * DAY_MINUTES, "M": 30 * DAY_MINUTES,
}  # fmt: skip
"""Bybit's interval names; a month is cut by the calendar, so its minutes are nominal."""
_THURSDAY_TO_MONDAY_MS = 4 * DAY_MINUTES * MINUTE_MS
_PATH_STEPS = 6  # points of the fair value inside a bar of history


class Bar(Struct):
    """Prices in ticks, ``lots`` traded, ``turnover`` in ticks * lots."""

    start_ms: int
    open: int
    high: int
    low: int
    close: int
    lots: int = 0
    turnover: int = 0


class Candles:
    """The bars of one symbol: contiguous minutes, oldest first, at most ``keep`` of them."""

    def __init__(self, history: list[Bar], keep: int) -> None:
        self._keep = max(keep, DAY_MINUTES + 1)
        self.minutes = history
        self.day = Day(history[-1].close)
        self._roll_day()

    @property
    def last(self) -> Bar:
        """The bar that is still open."""
        return self.minutes[-1]

    def trade(self, at_ms: int, price: int, lots: int) -> None:
        self.roll(at_ms)
        bar, day = self.minutes[-1], self.day
        bar.close = price
        bar.high = max(bar.high, price)
        bar.low = min(bar.low, price)
        bar.lots += lots
        bar.turnover += price * lots
        day.high = max(day.high, price)
        day.low = min(day.low, price)
        day.lots += lots
        day.turnover += price * lots

    def roll(self, at_ms: int) -> None:
        """Open every bar up to ``at_ms``; each opens at the close before it, as Bybit's do."""
        bar = self.minutes[-1]
        while at_ms >= bar.start_ms + MINUTE_MS:
            price = bar.close
            bar = Bar(bar.start_ms + MINUTE_MS, price, price, price, price)
            self.minutes.append(bar)
            self._roll_day()
            if len(self.minutes) > 2 * self._keep:
                del self.minutes[: -self._keep]

    def bar(self, interval: str, start_ms: int) -> Bar | None:
        """The bar of any interval that starts at ``start_ms``; None before the first minute."""
        bars = self.bars(interval, start_ms, start_ms, 1)
        return bars[0] if bars and bars[0].start_ms == start_ms else None

    def bars(self, interval: str, from_ms: int, to_ms: int, limit: int) -> list[Bar]:
        """The newest ``limit`` bars with ``from_ms <= start <= to_ms``, newest first.

        The oldest bar may lack minutes that history does not hold.
        """
        found: list[Bar] = []
        start = interval_start(interval, min(to_ms, self.last.start_ms))
        oldest = self.minutes[0].start_ms
        while len(found) < limit and start >= from_ms and interval_end(interval, start) >= oldest:
            minutes = self._between(start, interval_end(interval, start))
            if minutes:
                found.append(_merge(start, minutes))
            start = interval_start(interval, start - 1)
        return found

    def ago(self, minutes: int) -> int:
        """The close that long before the open bar, or the oldest known."""
        return self.minutes[max(0, len(self.minutes) - 1 - minutes)].close

    def _between(self, from_ms: int, to_ms: int) -> list[Bar]:
        first = self.minutes[0].start_ms
        low = max(0, -((first - from_ms) // MINUTE_MS))
        high = max(0, (to_ms - first) // MINUTE_MS + 1)
        return self.minutes[low:high]

    def _roll_day(self) -> None:
        window = self.minutes[-DAY_MINUTES:]
        self.day.high = max(bar.high for bar in window)
        self.day.low = min(bar.low for bar in window)
        self.day.lots = sum(bar.lots for bar in window)
        self.day.turnover = sum(bar.turnover for bar in window)
        self.day.previous = window[0].open
        self.day.previous_hour = self.ago(60)


class Day:
    """The last 24 hours to the minute, as the ticker shows them."""

    __slots__ = ("high", "lots", "low", "previous", "previous_hour", "turnover")

    def __init__(self, price: int) -> None:
        self.high = self.low = self.previous = self.previous_hour = price
        self.lots = self.turnover = 0


def interval_start(interval: str, at_ms: int) -> int:
    """The start of the bar that holds ``at_ms``: UTC, weeks from Monday, calendar months."""
    if interval == "M":
        day = datetime.fromtimestamp(at_ms / 1000, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1000
    length = INTERVAL_MINUTES[interval] * MINUTE_MS
    offset = _THURSDAY_TO_MONDAY_MS if interval == "W" else 0
    return (at_ms - offset) // length * length + offset


def interval_end(interval: str, start_ms: int) -> int:
    """The last millisecond of the bar."""
    if interval == "M":
        return interval_start("M", start_ms + 32 * DAY_MINUTES * MINUTE_MS) - 1
    return start_ms + INTERVAL_MINUTES[interval] * MINUTE_MS - 1


def seed_history(
    listing: Listing, fairs: list[list[float]], start_ms: int, lots_per_minute: float, rng: Random
) -> list[Bar]:
    """Bars along the fair value's path, one per inner list, the first one at ``start_ms``."""
    bars: list[Bar] = []
    close = round(fairs[0][0] / listing.tick_size)
    for index, path in enumerate(fairs):
        ticks = [round(value / listing.tick_size) for value in path]
        wick = 2 * listing.coin.vol * path[0] / listing.tick_size
        high = max(close, *ticks) + round(abs(rng.gauss(0.0, wick)))
        low = min(close, *ticks) - round(abs(rng.gauss(0.0, wick)))
        busy = 0.75 + 0.25 * (high - low) / max(1.0, 7 * wick)
        lots = max(1, round(lots_per_minute * busy * rng.gammavariate(8.0, 0.125)))
        turnover = lots * ((high + low + close + ticks[-1]) // 4)
        bars.append(Bar(start_ms + index * MINUTE_MS, close, high, low, ticks[-1], lots, turnover))
        close = ticks[-1]
    return bars


def fair_paths(
    fair: FairValue, minutes: int, sweep_vol: float, rng: Random
) -> tuple[list[list[float]], list[list[float]]]:
    """Walk the fair value through ``minutes`` minutes; where spot and linear went in each.

    ``sweep_vol`` is what sweeps would have taught it, a deviation per sqrt(s).
    """
    seconds = MINUTE_MS / 1000 / _PATH_STEPS
    swept = sweep_vol * math.sqrt(seconds)
    spot: list[list[float]] = []
    linear: list[list[float]] = []
    for _ in range(minutes):
        spot.append([])
        linear.append([])
        for _ in range(_PATH_STEPS):
            fair.step(seconds)
            fair.learn(math.exp(rng.gauss(0.0, swept)))
            spot[-1].append(fair.spot)
            linear[-1].append(fair.linear)
    return spot, linear


def _merge(start_ms: int, minutes: list[Bar]) -> Bar:
    return Bar(
        start_ms,
        minutes[0].open,
        max(bar.high for bar in minutes),
        min(bar.low for bar in minutes),
        minutes[-1].close,
        sum(bar.lots for bar in minutes),
        sum(bar.turnover for bar in minutes),
    )
