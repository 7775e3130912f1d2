"""The synthetic market: the same from the same seed, bounded, and with something to learn."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.venue.emulator.candles import (
    INTERVAL_MINUTES,
    MINUTE_MS,
    Bar,
    Candles,
    interval_end,
    interval_start,
)
from bot.venue.emulator.fair import FairValue
from bot.venue.emulator.feed import LiveFeed
from bot.venue.emulator.flow import REACH
from bot.venue.emulator.funding import Settlement, rate_of
from bot.venue.emulator.listing import VenueError, fixed, listing_of, listings_of, plain
from bot.venue.emulator.market import Market, generator

START_NS = 1_786_310_817_003_000_000
SECOND = 1_000_000_000


def a_market(*symbols: str, seed: int = 7, hours: int = 2, rate: float = 40.0) -> Market:
    return Market(
        symbols or ("linear:BTCUSDT",),
        seed=seed,
        start_ns=START_NS,
        events_per_s=rate,
        history_hours=hours,
    )


def digest(seed: int, steps_ns: list[int]) -> str:
    """Everything that 3 s of a two-symbol market sends and becomes, in one hash."""
    market = a_market("linear:BTCUSDT", "spot:BTCUSDT", seed=seed)
    feed = LiveFeed(market)
    for category in ("linear", "spot"):
        for kind in ("orderbook.50", "orderbook.1", "publicTrade", "tickers", "kline.1"):
            feed.subscribe((category, f"{kind}.BTCUSDT"))
    seen = hashlib.sha256()
    now_ns, end_ns = START_NS, START_NS + 3 * SECOND
    while now_ns < end_ns:
        for step_ns in steps_ns:
            now_ns = min(now_ns + step_ns, end_ns)
            for topic, text in feed.advance(now_ns):
                seen.update(f"{topic} {text}\n".encode())
    for symbol in market.symbols.values():
        seen.update(f"{symbol.book.bids.orders} {symbol.book.asks.orders}".encode())
        seen.update(f"{symbol.candles.minutes} {symbol.funding.mark}".encode())
    return seen.hexdigest()


def test_the_same_seed_gives_the_same_market_in_processes_with_other_hash_seeds():
    code = (
        "from tests.venue.emulator.test_synthetic_market import digest;"
        "print(digest(7, [10_000_000]))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert found == {digest(7, [10_000_000])}


def test_another_seed_gives_another_market():
    assert digest(7, [10_000_000]) != digest(8, [10_000_000])


@given(st.lists(st.integers(1_000_000, 700_000_000), min_size=1, max_size=8))
@settings(max_examples=8, deadline=None)
def test_the_market_does_not_depend_on_the_steps_it_is_advanced_by(steps_ns):
    assert digest(7, steps_ns) == digest(7, [10_000_000])


def test_books_stay_deep_bounded_and_uncrossed_for_ten_minutes():
    market = a_market("linear:BTCUSDT", "spot:BTCUSDT", "linear:DOGEUSDT", "linear:QQQUSDT")
    for step in range(1, 601):
        market.advance(START_NS + step * SECOND)
        for symbol in market.symbols.values():
            assert symbol.book.spread() >= 1
            for side in (symbol.book.bids, symbol.book.asks):
                assert 250 <= len(side.keys) <= 4 * REACH
                assert side.keys == sorted(set(side.keys))


def test_the_book_follows_its_coin_and_spot_and_linear_stay_together():
    market = a_market("linear:ETHUSDT", "spot:ETHUSDT")
    linear, spot = market.symbols.values()
    for step in range(1, 301):
        market.advance(START_NS + step * SECOND)
        assert abs(linear.mid() / spot.mid() - 1) < 0.003
        assert abs(spot.mid() / spot.index - 1) < 0.001


def test_imbalance_foretells_the_next_seconds():
    """The correlation of the touch's imbalance with the next 5 s return, over half an hour."""
    market = a_market("linear:ETHUSDT", seed=3)
    (symbol,) = market.symbols.values()
    mids, imbalances = [], []
    for step in range(1, 3601):
        market.advance(START_NS + step * SECOND // 2)
        bids, asks = (sum(side.top(5).values()) for side in (symbol.book.bids, symbol.book.asks))
        mids.append(symbol.mid())
        imbalances.append((bids - asks) / (bids + asks))
    returns = [after / before - 1 for before, after in zip(mids, mids[10:], strict=False)]
    assert correlation(imbalances[: len(returns)], returns) > 0.08


def correlation(xs: list[float], ys: list[float]) -> float:
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    x_square = sum((x - x_mean) ** 2 for x in xs)
    y_square = sum((y - y_mean) ** 2 for y in ys)
    return covariance / (x_square * y_square) ** 0.5


def test_history_reaches_the_open_minute_without_a_hole_and_the_market_goes_on_from_it():
    market = a_market("linear:BTCUSDT", "spot:BTCUSDT", hours=30)
    for symbol in market.symbols.values():
        bars = symbol.candles.minutes
        starts = [bar.start_ms for bar in bars]
        assert starts == list(range(starts[0], starts[-1] + 1, MINUTE_MS))
        assert starts[-1] == START_NS // 1_000_000 // MINUTE_MS * MINUTE_MS
        assert len(bars) == 30 * 60 + 1
        for before, bar in itertools.pairwise(bars):
            assert bar.open == before.close
            assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            assert bar.low * bar.lots <= bar.turnover <= bar.high * bar.lots
        last = bars[-2].close * symbol.listing.tick_size
        assert symbol.last == bars[-2].close
        assert abs(symbol.mid() / last - 1) < 0.001


def test_day_figures_are_those_of_the_last_1440_minutes():
    market = a_market(hours=30)
    (symbol,) = market.symbols.values()
    market.advance(START_NS + 200 * SECOND)
    window = symbol.candles.minutes[-1440:]
    day = symbol.candles.day
    assert day.lots == sum(bar.lots for bar in window)
    assert day.turnover == sum(bar.turnover for bar in window)
    assert day.high == max(bar.high for bar in window)
    assert day.low == min(bar.low for bar in window)
    assert day.previous == window[0].open


def test_old_minutes_are_forgotten():
    candles = Candles([Bar(0, 5, 5, 5, 5)], keep=10)
    candles.roll(5000 * MINUTE_MS)
    assert len(candles.minutes) <= 2 * 1441
    assert candles.minutes[-1].start_ms == 5000 * MINUTE_MS


@given(st.integers(0, 2_000_000_000_000), st.sampled_from(sorted(INTERVAL_MINUTES)))
def test_every_instant_lies_in_exactly_one_bar_of_every_interval(at_ms, interval):
    start = interval_start(interval, at_ms)
    assert start <= at_ms <= interval_end(interval, start)
    assert interval_start(interval, interval_end(interval, start)) == start
    assert interval_start(interval, interval_end(interval, start) + 1) > start


def test_weeks_start_on_monday_and_months_on_the_first():
    at_ms = 1_786_310_817_000  # Sunday 2026-08-09
    assert interval_start("W", at_ms) == 1_785_715_200_000  # Monday 2026-08-03
    assert interval_start("M", at_ms) == 1_785_542_400_000  # 2026-08-01


@given(
    st.lists(
        st.tuples(st.integers(1, 400_000), st.integers(50, 60), st.integers(1, 9)), max_size=80
    ),
    st.sampled_from(["1", "3", "5", "15"]),
)
def test_longer_bars_are_what_their_trades_add_up_to(steps, interval):
    candles = Candles([Bar(0, 55, 55, 55, 55)], keep=100)
    trades, at_ms = [], 0
    for step_ms, price, lots in steps:
        at_ms += step_ms
        candles.trade(at_ms, price, lots)
        trades.append((at_ms, price, lots))
    length = INTERVAL_MINUTES[interval] * MINUTE_MS
    close = 55
    expected = []
    for start in range(0, at_ms + 1, length):
        mine = [trade for trade in trades if start <= trade[0] < start + length]
        prices = [close, *(price for _, price, _ in mine)]
        lots = sum(lots for _, _, lots in mine)
        turnover = sum(price * lots for _, price, lots in mine)
        expected.append(Bar(start, close, max(prices), min(prices), prices[-1], lots, turnover))
        close = prices[-1]
    assert candles.bars(interval, 0, at_ms, 1000) == expected[::-1]


@pytest.mark.parametrize("minutes", [480, 1])
def test_funding_settles_at_its_time_and_starts_over(minutes):
    market = Market(
        ("linear:BTCUSDT",), seed=7, start_ns=START_NS, history_hours=2, funding_minutes=minutes
    )
    interval_ms = minutes * 60_000
    funding = market.symbols["linear:BTCUSDT"].funding
    due_ms = funding.next_ms
    assert due_ms % interval_ms == 0
    assert 0 < due_ms - START_NS // 1_000_000 <= interval_ms
    rate = funding.rate_e8
    funding.second(due_ms, mid=100.0, index=100.0)
    assert funding.history[-1] == Settlement(due_ms, rate)
    assert funding.next_ms == due_ms + interval_ms


@pytest.mark.parametrize(
    ("premium", "rate"),
    [
        (0.0, 10_000),  # the interest alone
        (0.0004, 10_000),  # within the clamp the interest wins
        (0.001, 50_000),  # 0.1% - 0.05%
        (-0.001, -50_000),
        (0.5, 500_000),  # the cap
        (-0.5, -500_000),
    ],
)
def test_the_funding_rate_follows_the_clamped_premium(premium, rate):
    assert rate_of(premium) == rate


@given(st.integers(-(10**15), 10**15), st.integers(0, 9))
def test_number_texts_are_exact(value, scale):
    exact = Decimal(value).scaleb(-scale)
    assert Decimal(fixed(value, scale)) == exact
    assert Decimal(plain(value, scale)) == exact
    text = plain(value, scale)
    assert "." not in text or not text.endswith("0")
    assert len(fixed(value, scale).partition(".")[2]) == scale


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        ([], "no symbols"),
        (["linear:BTCUSD"], "cannot list 'linear:BTCUSD'"),
        (["BTCUSDT"], "cannot list"),
        (["option:BTCUSDT"], "cannot list"),
        (["spot:ETHUSDT", "spot:ETHUSDT"], "listed twice"),
    ],
)
def test_a_bad_symbol_is_refused_by_name(symbols, words):
    with pytest.raises(VenueError, match=words):
        listings_of(symbols)


@pytest.mark.parametrize(("hours", "rate"), [(0, 40.0), (1, 0.0), (1, -3.0)])
def test_a_market_without_history_or_events_is_refused(hours, rate):
    with pytest.raises(VenueError, match=r"history_hours = 0|events_per_s = "):
        a_market(hours=hours, rate=rate)


def test_history_trades_about_as_much_as_the_market_that_follows():
    market = a_market("linear:BTCUSDT", "linear:ETHUSDT", hours=3)
    market.advance(START_NS + 1200 * SECOND)
    for symbol in market.symbols.values():
        lots = [bar.lots for bar in symbol.candles.minutes]
        before, after = sum(lots[:180]) / 180, sum(lots[181:-1]) / len(lots[181:-1])
        assert 0.5 < before / after < 2.0


def test_sweeps_go_further_than_other_takers_and_teach_the_fair_value():
    market = a_market("linear:BTCUSDT", seed=2)
    (symbol,) = market.symbols.values()
    market.advance(START_NS + 300 * SECOND)
    spans = defaultdict(list)
    for trade in symbol.trades:
        spans[trade.seq].append(trade.price)
    widths = sorted(max(prices) - min(prices) for prices in spans.values())
    assert widths[len(widths) // 2] <= 2
    assert widths[-1] > 25
    fair = FairValue(symbol.listing.coin, generator(1, "x"))
    before = fair.spot
    fair.learn(1.01)
    assert 1.004 < fair.spot / before < 1.006


@given(st.from_regex(r"[A-Z]{2,8}", fullmatch=True), st.sampled_from(["linear", "spot"]))
def test_any_coin_can_be_listed_with_room_for_a_whole_book(coin, category):
    listing = listing_of(f"{category}:{coin}USDT")
    assert listing.coin.price / listing.tick_size > 2 * REACH
    assert listing.lots_for(listing.coin.trade_usdt) >= 10
    assert Decimal(listing.price(12345)) == Decimal(12345 * listing.tick).scaleb(
        -listing.price_scale
    )
