from __future__ import annotations

import copy
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.events import Candle, Instrument
from bot.venue.answers import (
    MalformedAnswer,
    interval_ns,
    parse_candles,
    parse_instruments,
    parse_server_ns,
)

LINEAR = {
    "symbol": "BTCUSDT", "contractType": "LinearPerpetual", "status": "Trading",
    "baseCoin": "BTC", "quoteCoin": "USDT", "launchTime": "1584230400000", "priceScale": "2",
    "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {"maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001",
                      "postOnlyMaxOrderQty": "1190.000", "maxMktOrderQty": "500.000",
                      "minNotionalValue": "5"},
    "fundingInterval": 480, "settleCoin": "USDT",
    "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
}  # fmt: skip
SPOT = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading",
    "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.0000001",
                      "minOrderQty": "0.000001", "maxOrderQty": "17000000", "minOrderAmt": "5",
                      "maxOrderAmt": "1", "maxLimitOrderQty": "83", "maxMarketOrderQty": "41.5"},
    "priceFilter": {"tickSize": "0.1"},
    "riskParameters": {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"},
}  # fmt: skip
T0_MS = 1_786_310_820_000
MINUTE_MS = 60_000


def test_a_linear_instrument():
    assert parse_instruments("linear", {"list": [LINEAR]}, 7, 8) == [
        Instrument(
            7, 8, "linear:BTCUSDT", "BTC", "USDT",
            tick_size=Decimal("0.1"), qty_step=Decimal("0.001"), min_qty=Decimal("0.001"),
            min_notional=Decimal(5), max_limit_qty=Decimal(1190), max_market_qty=Decimal(500),
            max_leverage=Decimal(100), price_limit_x=Decimal("0.01"),
            price_limit_y=Decimal("0.02"), funding_interval_min=480,
        )
    ]  # fmt: skip


def test_a_spot_instrument():
    assert parse_instruments("spot", {"list": [SPOT]}, 7) == [
        Instrument(
            7, 0, "spot:BTCUSDT", "BTC", "USDT",
            tick_size=Decimal("0.1"), qty_step=Decimal("0.000001"), min_qty=Decimal("0.000001"),
            min_notional=Decimal(5), max_limit_qty=Decimal(83), max_market_qty=Decimal("41.5"),
            price_limit_x=Decimal("0.005"), price_limit_y=Decimal("0.01"),
        )
    ]  # fmt: skip


def test_numbers_keep_their_text():
    (instrument,) = parse_instruments("linear", {"list": [LINEAR]}, 7)
    assert str(instrument.tick_size) == "0.10"
    assert str(instrument.max_market_qty) == "500.000"


def test_entries_that_are_not_wanted_are_not_read():
    strange = {"symbol": "NEWUSDT", "lotSizeFilter": "to be announced"}
    answer = {"list": [strange, LINEAR]}
    (instrument,) = parse_instruments("linear", answer, 7, wanted=["linear:BTCUSDT"])
    assert instrument.symbol == "linear:BTCUSDT"
    with pytest.raises(MalformedAnswer, match="no baseCoin"):
        parse_instruments("linear", answer, 7)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("priceFilter", "tickSize"), None),
        (("priceFilter", "tickSize"), "abc"),
        (("lotSizeFilter", "qtyStep"), "NaN"),
        (("lotSizeFilter", "minOrderQty"), "Infinity"),
        (("lotSizeFilter", "maxOrderQty"), [1]),
        (("lotSizeFilter", "qtyStep"), 0.001),
    ],
)
def test_a_number_that_is_none_is_an_error_that_names_it(path, value):
    entry = copy.deepcopy(LINEAR)
    entry[path[0]][path[1]] = value
    with pytest.raises(MalformedAnswer, match=rf"BTCUSDT: {path[0]}\.{path[1]} is "):
        parse_instruments("linear", {"list": [entry]}, 7)


@pytest.mark.parametrize("result", [{}, {"list": None}, {"list": [7]}, [], None])
def test_an_answer_without_its_list_is_an_error(result):
    with pytest.raises(MalformedAnswer):
        parse_instruments("linear", result, 7)


def test_other_categories_are_an_error():
    with pytest.raises(MalformedAnswer, match="category 'option'"):
        parse_instruments("option", {"list": []}, 7)


def row(open_ms: int, close: str = "2.5") -> list[str]:
    return [str(open_ms), "2.1", "3.0", "2.0", close, "10.5", "26.25"]


def test_bars_come_oldest_first_and_closed():
    result = {"list": [row(T0_MS + 2 * MINUTE_MS), row(T0_MS + MINUTE_MS), row(T0_MS)]}
    now_ns = (T0_MS + 2 * MINUTE_MS) * 1_000_000
    first, second = parse_candles("linear:BTCUSDT", "1", result, 9, now_ns)
    assert second.open_ts == first.exchange_ts == (T0_MS + MINUTE_MS) * 1_000_000
    assert first == Candle(
        9, first.exchange_ts, "linear:BTCUSDT", "1", T0_MS * 1_000_000, Decimal("2.1"),
        Decimal("3.0"), Decimal("2.0"), Decimal("2.5"), Decimal("10.5"), Decimal("26.25"),
    )  # fmt: skip


@given(
    st.sampled_from(["1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W"]),
    st.integers(0, 30),
    st.integers(0, 40 * 24 * 3_600_000),
)
def test_a_bar_is_closed_when_the_venues_clock_has_reached_its_end(interval, bars, elapsed_ms):
    length_ms = interval_ns(interval) // 1_000_000
    opens = [T0_MS + n * length_ms for n in range(bars)]
    result = {"list": [row(open_ms) for open_ms in reversed(opens)]}
    now_ms = T0_MS + elapsed_ms
    candles = parse_candles("spot:X", interval, result, 1, now_ms * 1_000_000)
    assert [candle.open_ts // 1_000_000 for candle in candles] == [
        open_ms for open_ms in opens if open_ms + length_ms <= now_ms
    ]


@pytest.mark.parametrize(
    "bad",
    [
        ["x"] * 7,
        ["1", "2"],
        None,
        7,
        ["1", "2", "3", "4", "5", None, "6"],
        ["1", "2", "3", "NaN", "5", "6", "7"],
        ["1", "2", "3", "4", "0", "6", "7"],
        ["1", "1e-20", "3", "4", "5", "6", "7"],
    ],
)
def test_a_bar_that_cannot_be_read_is_an_error(bad):
    with pytest.raises(MalformedAnswer, match="kline of spot:X: cannot read the bar"):
        parse_candles("spot:X", "1", {"list": [bad]}, 1, 1)


def test_months_have_no_fixed_length():
    with pytest.raises(ValueError, match="interval 'M': want one of 1, 3,"):
        interval_ns("M")


def test_the_venues_clock():
    assert parse_server_ns({"timeSecond": "1", "timeNano": "1688639403423213947"}) == (
        1_688_639_403_423_213_947
    )
    with pytest.raises(MalformedAnswer, match="timeNano"):
        parse_server_ns({"timeSecond": "1"})
