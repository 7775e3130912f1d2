"""Tokens: their meaning, and that the future never changes one."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.core.events import BookUpdate, Event, FeedDown, FundingRate, Ticker, Trade
from bot.model.tokens import (
    BOOK_FEATURES,
    BOOK_TOKENS,
    CANDLE_FEATURES,
    CANDLE_TOKENS,
    Bars,
    BookTokens,
    CandleState,
    CandleTokens,
    Token,
    candle_tokens,
    interval_ns,
    mirror_of,
)
from tests.model.builders import E12, MINUTE, MS, START, SYMBOL, book_stream, candle, snapshot

FUNDING, FUNDING_KNOWN, MISSING, FIRST = 10, 11, 12, 13
PLACE, LEVEL = 15, 16
SPREAD, RETURN, MICRO, IMBALANCE, FLOW, BUYS, SELLS, TRADES, ELAPSED, GAP = (
    80, 81, 82, 83, 86, 87, 88, 89, 90, 91,
)  # fmt: skip


def read_all(reader: BookTokens | CandleTokens, events: list[Event]) -> list[Token]:
    return [token for event in events if (token := reader.read(event)) is not None]


def candles(count: int, seed: int = 0) -> list[Event]:
    return [candle(index, seed=seed) for index in range(count)]


@given(st.integers(1, 8), st.integers(0, 5), st.integers(6, 9))
def test_other_futures_leave_past_candle_tokens_alone(cut: int, one: int, other: int) -> None:
    past = candles(cut)
    first = read_all(CandleTokens(SYMBOL, "1"), past + candles(12, one)[cut:])
    second = read_all(CandleTokens(SYMBOL, "1"), past + candles(12, other)[cut:])
    assert np.array_equal(first[:cut], second[:cut])
    assert not np.array_equal(first[cut:], second[cut:])


@given(st.integers(2, 50), st.integers(1, 9), st.integers(1, 9))
def test_other_futures_leave_past_book_tokens_alone(cut: int, one: int, other: int) -> None:
    past = book_stream(cut)
    expected = read_all(BookTokens(SYMBOL, 50), past)
    for seed in (one, other):
        tokens = read_all(BookTokens(SYMBOL, 50), past + book_stream(80, seed=seed)[cut:])
        assert np.array_equal(tokens[: len(expected)], expected)


def test_candle_features_are_what_they_say() -> None:
    reader = CandleTokens(SYMBOL, "1")
    first, second = candle(0), candle(1)
    reader.read(first)
    volatility = reader.volatility
    token = reader.read(second)
    assert token is not None
    assert token.shape == (CANDLE_FEATURES,)
    for index, price in enumerate((second.open, second.high, second.low, second.close)):
        unit = math.log(float(price) / float(first.close)) / volatility
        assert math.sinh(token[index]) == pytest.approx(unit, rel=1e-4, abs=1e-6)
    assert math.sinh(token[4]) == pytest.approx(
        math.log(float(second.volume) / float(first.volume)), rel=1e-4
    )
    minute = second.exchange_ts // MINUTE % 1440
    assert token[6] == pytest.approx(math.sin(2 * math.pi * minute / 1440), abs=1e-6)
    assert token[7] == pytest.approx(math.cos(2 * math.pi * minute / 1440), abs=1e-6)
    assert token[MISSING] == token[FIRST] == 0
    assert reader.close == float(second.close)
    high, low = float(second.high), float(second.low)
    place = (2 * math.log(float(second.close)) - math.log(high * low)) / math.log(high / low)
    assert token[PLACE] == pytest.approx(place, abs=1e-5)
    assert math.exp(token[LEVEL]) == pytest.approx(reader.volatility / 5e-4, rel=1e-5)


def test_volatility_is_the_mean_of_garman_and_klass_and_the_jumps() -> None:
    reader, variance, previous = CandleTokens(SYMBOL, "1"), 5e-4**2, None
    for index in range(40):
        bar = candle(index)
        reader.read(bar)
        jump = math.log(bar.open / previous) if previous else 0.0
        range_, body = math.log(bar.high / bar.low), math.log(bar.close / bar.open)
        today = 0.5 * range_**2 - (2 * math.log(2) - 1) * body**2 + jump**2
        variance += (today - variance) / 32
        previous = bar.close
        assert reader.volatility == pytest.approx(variance**0.5, rel=1e-9)


@st.composite
def bar_columns(draw: st.DrawFn) -> Bars:
    """Bars with holes, flat and empty ones among them."""
    count = draw(st.integers(1, 40))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 7]), min_size=count, max_size=count))
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    close = 100 * np.exp(dice.normal(0, 1e-3, count).cumsum())
    opened = close * np.exp(dice.normal(0, 1e-3, count) * dice.integers(0, 2, count))
    wide = np.exp(np.abs(dice.normal(0, 1e-3, count)) * dice.integers(0, 2, count))
    return Bars(
        START + np.cumsum(steps) * MINUTE,
        opened,
        np.maximum(opened, close) * wide,
        np.minimum(opened, close) / wide,
        close,
        dice.gamma(2, 100, count) * dice.integers(0, 2, count),
        np.where(dice.random(count) < 0.5, np.nan, dice.normal(0, 1e-4, count)),
    )


@given(bar_columns())
def test_a_candles_mirror_is_the_token_of_the_market_upside_down(bars: Bars) -> None:
    turned = Bars(
        bars.open_ts, 1 / bars.open, 1 / bars.low, 1 / bars.high, 1 / bars.close,
        bars.volume, bars.funding,
    )  # fmt: skip
    tokens, volatility, _ = candle_tokens(bars, "1", CandleState())
    other, same, _ = candle_tokens(turned, "1", CandleState())
    places, signs = mirror_of(CANDLE_TOKENS)
    np.testing.assert_allclose(
        tokens[:, places] * np.array(signs, np.float32), other, rtol=0, atol=2e-4
    )
    np.testing.assert_allclose(volatility, same, rtol=1e-9)


@pytest.mark.parametrize("kind", [CANDLE_TOKENS, BOOK_TOKENS])
def test_the_mirror_of_a_mirror_is_the_token(kind: str) -> None:
    places, signs = mirror_of(kind)
    token = np.arange(1.0, len(places) + 1)
    once = token[list(places)] * signs
    assert np.array_equal(once[list(places)] * signs, token)


@given(bar_columns(), st.data())
def test_any_cut_of_the_columns_gives_the_same_tokens_to_the_bit(
    bars: Bars, data: st.DataObject
) -> None:
    whole, volatility, last = candle_tokens(bars, "1", CandleState())
    assert np.isfinite(whole).all()
    cut = data.draw(st.integers(0, len(whole)))
    state, parts, known = CandleState(), [], []
    for rows in (slice(0, cut), *(slice(i, i + 1) for i in range(cut, len(whole)))):
        columns = (getattr(bars, name)[rows] for name in Bars.__struct_fields__)
        tokens, seen, state = candle_tokens(Bars(*columns), "1", state)
        parts.append(tokens)
        known.append(seen)
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(np.concatenate(known), volatility)
    assert repr(state) == repr(last)


def test_the_first_candle_compares_with_its_own_open_and_says_so() -> None:
    token = CandleTokens(SYMBOL, "1").read(candle(0))
    assert token is not None
    assert (token[0], token[FIRST]) == (0, 1)


def test_candles_of_ten_times_the_price_and_size_give_the_same_tokens() -> None:
    def scaled(event: Event) -> Event:
        fields = ("open", "high", "low", "close", "volume")
        return replace(event, **{field: getattr(event, field) * 10 for field in fields})

    plain = read_all(CandleTokens(SYMBOL, "1"), candles(5))
    large = read_all(CandleTokens(SYMBOL, "1"), [scaled(event) for event in candles(5)])
    assert np.allclose(plain, large, atol=1e-5)


def test_missing_and_repeated_candles() -> None:
    reader = CandleTokens(SYMBOL, "1")
    reader.read(candle(0))
    assert reader.read(candle(0)) is None
    token = reader.read(candle(4))
    assert token is not None
    assert token[MISSING] == pytest.approx(0.25 * math.log1p(3))
    assert reader.read(candle(2)) is None


def test_an_empty_bar_has_no_volume_change_and_says_so() -> None:
    reader = CandleTokens(SYMBOL, "1")
    reader.read(candle(0))
    token = reader.read(replace(candle(1), volume=Decimal(0)))
    assert token is not None
    assert (token[4], token[5]) == (0, 1)


def test_other_intervals_are_other_streams() -> None:
    assert CandleTokens(SYMBOL, "1").read(replace(candle(0), interval="5")) is None


def test_funding_is_what_was_known_at_the_close() -> None:
    reader = CandleTokens(SYMBOL, "1")
    before = reader.read(candle(0))
    reader.read(Ticker(0, 0, SYMBOL, funding_rate=Decimal("0.0002")))
    reader.read(Ticker(0, 0, SYMBOL, last=Decimal(1)))
    after = reader.read(candle(1))
    reader.read(FundingRate(0, 0, SYMBOL, Decimal("-0.0001"), 0))
    settled = reader.read(candle(2))
    assert before is not None
    assert after is not None
    assert settled is not None
    assert (before[FUNDING], before[FUNDING_KNOWN]) == (0, 0)
    assert math.sinh(after[FUNDING]) == pytest.approx(2, rel=1e-5)
    assert math.sinh(settled[FUNDING]) == pytest.approx(-1, rel=1e-5)
    assert after[FUNDING_KNOWN] == 1


def test_book_features_are_what_they_say() -> None:
    reader = BookTokens(SYMBOL, 50)
    start = snapshot(count=3)
    reader.read(start)
    reader.read(Trade(START, START, SYMBOL, 1, "Buy", 100_002 * E12, 2 * E12))
    reader.read(Trade(START, START, SYMBOL, 1, "Sell", 100_000 * E12, E12))
    reader.read(Trade(START, START, SYMBOL, 1, "Sell", 100_000 * E12, 50 * E12, block=True))
    token = reader.read(
        BookUpdate(
            START + 20 * MS,
            start.exchange_ts + 20 * MS,
            SYMBOL,
            50,
            2,
            2,
            snapshot=False,
            bids=[(100_001 * E12, 4 * E12)],
            asks=[(100_002 * E12, 12 * E12)],
        )
    )
    assert token is not None
    assert token.shape == (BOOK_FEATURES,)
    bid, ask, mid = 100_001.0, 100_002.0, 100_001.5
    assert reader.mid == mid
    assert math.sinh(token[0]) == pytest.approx(math.log(mid / bid) * 1e4, rel=1e-4)
    assert math.expm1(4 * token[20]) == pytest.approx(bid * 4 / 1000, rel=1e-4)
    assert math.sinh(token[40]) == pytest.approx(math.log(ask / mid) * 1e4, rel=1e-4)
    assert math.expm1(4 * token[60]) == pytest.approx(ask * 12 / 1000, rel=1e-4)
    assert token[4] == token[24] == 0  # four bid levels: the fifth is empty
    assert token[23] > 0
    assert math.sinh(token[SPREAD]) == pytest.approx(math.log(ask / bid) * 1e4, rel=1e-4)
    assert math.sinh(token[RETURN]) == pytest.approx(math.log(mid / 100_001) * 1e4, rel=1e-4)
    micro = (bid * 12 + ask * 4) / 16
    assert math.sinh(token[MICRO]) == pytest.approx(math.log(micro / mid) * 1e4, rel=1e-3)
    assert token[IMBALANCE] == pytest.approx((4 - 12) / 16, abs=1e-4)
    # the bid rose, so its 4 coins came; the ask stood, so it gained what it had not
    flow = 4 - (12 - start.asks[0][1] / E12)
    assert math.expm1(4 * abs(token[FLOW])) == pytest.approx(abs(flow) * mid / 1000, rel=1e-4)
    assert np.sign(token[FLOW]) == np.sign(flow)
    assert math.expm1(4 * token[BUYS]) == pytest.approx(200.004, rel=1e-4)
    assert math.expm1(4 * token[SELLS]) == pytest.approx(100, rel=1e-4)
    assert math.expm1(4 * token[TRADES]) == pytest.approx(2, rel=1e-4)
    assert math.expm1(4 * token[ELAPSED]) == pytest.approx(20, rel=1e-4)
    assert token[GAP] == 0


def test_trade_flow_starts_anew_with_each_token() -> None:
    reader = BookTokens(SYMBOL, 50)
    reader.read(Trade(START, START, SYMBOL, 1, "Buy", 100_002 * E12, E12))
    first = reader.read(snapshot())
    second = reader.read(snapshot())
    assert first is not None
    assert second is not None
    assert first[BUYS] > 0
    assert (second[BUYS], second[TRADES]) == (0, 0)


def test_a_book_that_is_down_gives_no_token_and_the_next_one_says_gap() -> None:
    reader = BookTokens(SYMBOL, 50)
    stream = [event for event in book_stream(20) if isinstance(event, BookUpdate)]
    assert len(read_all(reader, list(stream))) == len(stream)
    reader.read(FeedDown(START, SYMBOL, "test"))
    assert reader.read(stream[3]) is None
    token = reader.read(snapshot())
    assert token is not None
    assert (token[GAP], token[RETURN], token[FLOW], token[ELAPSED]) == (1, 0, 0, 0)


def test_a_crossed_or_one_sided_book_gives_no_token_and_a_locked_one_does() -> None:
    reader = BookTokens(SYMBOL, 50)
    good = snapshot()
    assert reader.read(replace(good, bids=[(100_003 * E12, E12)])) is None
    assert reader.read(replace(good, asks=[])) is None
    token = reader.read(replace(good, bids=[(100_002 * E12, E12)]))
    assert token is not None
    assert (token[SPREAD], token[GAP]) == (0, 1)


def test_another_depth_is_another_stream() -> None:
    reader = BookTokens(SYMBOL, 50)
    assert reader.read(replace(snapshot(), depth=1)) is None


@pytest.mark.parametrize(("name", "minutes"), [("1", 1), ("720", 720), ("D", 1440), ("W", 10_080)])
def test_intervals_by_bybits_names(name: str, minutes: int) -> None:
    assert interval_ns(name) == minutes * MINUTE


@pytest.mark.parametrize("name", ["", "0", "1h", "-5"])
def test_an_unknown_interval_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a number of minutes"):
        interval_ns(name)
