"""History through REST into the store, against a real HTTP server that pages as Bybit does."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from bot.venue.archive_feed import Archive, ArchiveOptions
from bot.venue.history import fetch_candles, fetch_funding
from bot.venue.rest import Rest, VenueRefused
from bot.venue.store import Span, Store
from tests.venue.archive_files import T0, T0_MS
from tests.venue.test_rest import ok, serving

MINUTE = 60 * 10**9
HOUR = 60 * MINUTE
SYMBOL = "linear:BTCUSDT"


class Bybit:
    """The history of one symbol. ``absent`` minutes were never traded; ``asked`` is what came."""

    def __init__(self, minutes: int, funding_hours: list[int], absent: set[int] = frozenset()):
        self.minutes, self.funding_hours, self.absent = minutes, funding_hours, absent
        self.asked: list[dict[str, str]] = []
        self.fails_at: int | None = None

    def __call__(self, path: str, query: dict[str, str]) -> object:
        now_ms = T0_MS + self.minutes * 60_000 + 30_000
        if path.endswith("/time"):
            return ok({"timeNano": str(now_ms * 10**6)}, now_ms)
        if path.endswith("/kline"):
            if query["interval"] == "W":
                return ok({"list": [self.row(0)]}, now_ms)
            self.asked.append(query)
            if self.fails_at == len(self.asked):
                return {"retCode": 10006, "retMsg": "Too many visits!", "result": {}, "time": 1}
            first, last = int(query["start"]), int(query["end"])
            rows = [self.row(n) for n in range(self.minutes + 1) if n not in self.absent
                    and first <= T0_MS + n * 60_000 <= last]  # fmt: skip
            return ok({"list": rows[: -int(query["limit"]) - 1 : -1]}, now_ms)
        assert path.endswith("/funding/history")
        self.asked.append(query)
        first, last = int(query["startTime"]), int(query["endTime"])
        stamps = [T0_MS + hour * 3_600_000 for hour in self.funding_hours]
        found = [stamp for stamp in stamps if first <= stamp <= last]
        rows = [{"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(stamp)}
                for stamp in found]  # fmt: skip
        return ok({"list": rows[: -int(query["limit"]) - 1 : -1]}, now_ms)

    @staticmethod
    def row(number: int) -> list[str]:
        return [str(T0_MS + number * 60_000), "2", "3", "1", "2", str(number), "7"]


@asynccontextmanager
async def rest_of(bybit: Bybit):
    async with serving(bybit) as url:
        rest = Rest(url)
        try:
            yield rest
        finally:
            await rest.close()


def ignore(done: int, total: int) -> None:
    """Progress, unseen."""


async def test_candles_come_in_pages_up_to_the_last_closed_bar(tmp_path):
    bybit = Bybit(2_500, [])
    told = []
    async with rest_of(bybit) as rest:
        got = await fetch_candles(
            rest, Store(tmp_path), SYMBOL, "1", 0, T0 + 10**18, lambda *at: told.append(at)
        )
    assert (got.rows, got.added, got.gaps) == (2_500, 2_500, [])
    assert (got.start_ts, got.end_ts) == (T0, T0 + 2_500 * MINUTE)
    assert told == [(1, 3), (2, 3), (3, 3)]
    bars = list(Store(tmp_path).candles(SYMBOL, "1"))
    assert [bar.volume for bar in bars] == list(range(2_500)), "and not the bar that is open"


async def test_a_second_download_asks_only_for_what_is_new_and_for_holes(tmp_path):
    bybit = Bybit(2_500, [], absent={700, 701, 2_000})
    store = Store(tmp_path)
    async with rest_of(bybit) as rest:
        span = (T0 + 500 * MINUTE, T0 + 2_400 * MINUTE)
        first = await fetch_candles(rest, store, SYMBOL, "1", *span, ignore)
        assert first.gaps == [
            Span(T0 + 700 * MINUTE, T0 + 702 * MINUTE, 2),
            Span(T0 + 2_000 * MINUTE, T0 + 2_001 * MINUTE, 1),
        ]
        bybit.absent = {2_000}
        bybit.asked.clear()
        second = await fetch_candles(rest, store, SYMBOL, "1", 0, T0 + 2_500 * MINUTE, ignore)
    assert (second.rows, second.added) == (2_499, 500 + 2 + 100)
    asked = [((int(q["start"]) - T0_MS) // 60_000, (int(q["end"]) + 1 - T0_MS) // 60_000)
             for q in bybit.asked]  # fmt: skip
    assert asked == [(0, 500), (700, 702), (2_000, 2_001), (2_400, 2_500)]


async def test_an_interrupted_download_keeps_what_it_had_and_goes_on(tmp_path):
    bybit = Bybit(3_000, [])
    store = Store(tmp_path)
    async with rest_of(bybit) as rest:
        bybit.fails_at = 3
        with pytest.raises(VenueRefused, match="Too many visits"):
            await fetch_candles(rest, store, SYMBOL, "1", 0, T0 + 10**18, ignore)
        assert len(store.candle_table(SYMBOL, "1")) == 2_000
        bybit.fails_at = None
        got = await fetch_candles(rest, store, SYMBOL, "1", 0, T0 + 10**18, ignore)
    assert (got.rows, got.added, got.gaps) == (3_000, 1_000, [])
    (event, *_) = Archive([tmp_path], ArchiveOptions())
    assert event.open_ts == T0


async def test_funding_rates_are_paged_backwards_within_windows(tmp_path):
    hours = [*range(0, 24 * 60, 4), *range(24 * 60, 24 * 80 + 1, 8)]
    bybit = Bybit(80 * 1_440, hours)
    store = Store(tmp_path)
    async with rest_of(bybit) as rest:
        got = await fetch_funding(rest, store, SYMBOL, T0, T0 + 10**18, ignore)
        assert [rate.funding_ts for rate in store.funding(SYMBOL)] == [T0 + h * HOUR for h in hours]
        assert (got.rows, got.gaps) == (len(hours), [])
        assert len(bybit.asked) > 2
        bybit.asked.clear()
        again = await fetch_funding(rest, store, SYMBOL, T0, T0 + 10**18, ignore)
    assert again.added == 0
    assert len(bybit.asked) == 1, "only for what came since the last rate"


async def test_a_hole_between_rates_is_asked_for_again_and_told(tmp_path):
    bybit = Bybit(1_440, [0, 4, 24])
    store = Store(tmp_path)
    async with rest_of(bybit) as rest:
        first = await fetch_funding(rest, store, SYMBOL, T0, T0 + 25 * HOUR, ignore)
        assert first.gaps == [Span(T0 + 4 * HOUR, T0 + 24 * HOUR, 2)]
        bybit.funding_hours = [0, 4, 8, 16, 24]
        second = await fetch_funding(rest, store, SYMBOL, T0, T0 + 25 * HOUR, ignore)
    assert (second.rows, second.gaps) == (5, [])
