"""The REST answers as functions: every path, its pages and limits, and what it refuses."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest
import zstandard

from bot.venue.emulator.market import Market
from bot.venue.emulator.rest import BadParameterError, Routes, routes

START_NS = 1_786_310_817_003_000_000
SYMBOLS = ("linear:BTCUSDT", "linear:ETHUSDT", "linear:SOLUSDT", "spot:BTCUSDT")


@pytest.fixture(scope="module")
def market() -> Market:
    market = Market(SYMBOLS, seed=5, start_ns=START_NS, history_hours=30)
    market.advance(START_NS + 150 * 1_000_000_000)
    return market


@pytest.fixture(scope="module")
def answers(market: Market) -> Routes:
    return routes(market)


def test_klines_come_newest_first_as_strings_and_hold_the_limits(market, answers):
    kline = answers["/v5/market/kline"]
    query = {"category": "linear", "symbol": "BTCUSDT", "interval": "1"}
    rows = kline(query)["list"]
    assert len(rows) == 200
    starts = [int(row[0]) for row in rows]
    assert starts == list(range(starts[0], starts[0] - 200 * 60_000, -60_000))
    assert all(isinstance(cell, str) for row in rows for cell in row)
    for _, open_, high, low, close, volume, turnover in rows:
        prices = [Decimal(open_), Decimal(close)]
        assert Decimal(low) <= min(prices) <= max(prices) <= Decimal(high)
        assert Decimal(low) <= Decimal(turnover) / Decimal(volume) <= Decimal(high)
    assert len(kline(query | {"limit": "1000"})["list"]) == 1000
    assert len(kline(query | {"limit": "5000"})["list"]) == 1000
    middle = {"start": str(starts[9]), "end": str(starts[5])}
    assert kline(query | middle)["list"] == rows[5:10]
    assert kline(query | {"start": str(starts[9]), "limit": "3"})["list"] == rows[7:10]
    assert kline(query | {"end": str(starts[9]), "limit": "3"})["list"] == rows[9:12]
    assert kline(query | {"start": "99999999999999"})["list"] == []


def test_five_minute_klines_are_made_of_the_minutes(answers):
    kline = answers["/v5/market/kline"]
    query = {"category": "spot", "symbol": "BTCUSDT", "limit": "1000"}
    minutes = {int(row[0]): row for row in kline(query | {"interval": "1"})["list"]}
    for start, open_, high, low, close, volume, turnover in kline(query | {"interval": "5"})[
        "list"
    ][1:150]:
        parts = [minutes[int(start) + n * 60_000] for n in range(5)]
        assert (open_, close) == (parts[0][1], parts[-1][4])
        assert Decimal(high) == max(Decimal(part[2]) for part in parts)
        assert Decimal(low) == min(Decimal(part[3]) for part in parts)
        assert Decimal(volume) == sum(Decimal(part[5]) for part in parts)
        assert Decimal(turnover) == sum(Decimal(part[6]) for part in parts)


def test_the_last_kline_the_ticker_and_the_newest_trade_agree(answers):
    for category in ("linear", "spot"):
        query = {"category": category, "symbol": "BTCUSDT"}
        (ticker,) = answers["/v5/market/tickers"](query)["list"]
        trade = answers["/v5/market/recent-trade"](query)["list"][0]
        bar = answers["/v5/market/kline"](query | {"interval": "1"})["list"][0]
        assert Decimal(ticker["lastPrice"]) == Decimal(trade["price"]) == Decimal(bar[4])
        book = answers["/v5/market/orderbook"](query | {"limit": "5"})
        assert [ticker["bid1Price"], ticker["bid1Size"]] == book["b"][0]
        assert [ticker["ask1Price"], ticker["ask1Size"]] == book["a"][0]
        assert Decimal(book["b"][0][0]) < Decimal(book["a"][0][0])
        assert len(book["b"]) == len(book["a"]) == 5


def test_recent_trades_are_newest_first_and_limited_by_category(answers):
    recent = answers["/v5/market/recent-trade"]
    rows = recent({"category": "linear", "symbol": "BTCUSDT", "limit": "1000"})["list"]
    times = [int(row["time"]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert len(rows) > 500
    assert len(recent({"category": "spot", "symbol": "BTCUSDT", "limit": "1000"})["list"]) == 60


def test_tickers_without_a_symbol_are_those_of_the_category(answers):
    rows = answers["/v5/market/tickers"]({"category": "linear"})["list"]
    assert [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]


def test_instruments_come_in_pages_of_linear_and_at_once_of_spot(answers):
    info = answers["/v5/market/instruments-info"]
    first = info({"category": "linear", "limit": "2"})
    assert [one["symbol"] for one in first["list"]] == ["BTCUSDT", "ETHUSDT"]
    second = info({"category": "linear", "limit": "2", "cursor": first["nextPageCursor"]})
    assert [one["symbol"] for one in second["list"]] == ["SOLUSDT"]
    assert second["nextPageCursor"] == ""
    assert "nextPageCursor" not in info({"category": "spot"})
    assert info({"category": "linear", "baseCoin": "SOL"})["list"] == second["list"]
    assert info({"category": "linear", "status": "PreLaunch"})["list"] == []


def test_instruments_have_the_keys_and_grids_of_real_ones(answers, real_capture):
    with real_capture.open("rb") as raw:
        packed = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        lines = packed.read().splitlines()
    real = {}
    for line in lines:
        entry = json.loads(line)
        if entry["t"] == "http":
            result = json.loads(entry["data"])["result"]
            real |= {(result["category"], one["symbol"]): one for one in result["list"]}
    for symbol in SYMBOLS:
        category, _, name = symbol.partition(":")
        (mine,) = answers["/v5/market/instruments-info"]({"category": category, "symbol": name})[
            "list"
        ]
        theirs = real[category, name]
        assert keys(mine) == keys(theirs)
        assert mine["priceFilter"] == theirs["priceFilter"]
        for field in ("minOrderQty", "qtyStep", "basePrecision", "minNotionalValue", "minOrderAmt"):
            assert mine["lotSizeFilter"].get(field) == theirs["lotSizeFilter"].get(field)


def keys(value: object) -> object:
    if isinstance(value, dict):
        return [(key, keys(item)) for key, item in value.items()]
    return type(value)


def test_funding_history_is_every_eight_hours_newest_first(answers):
    query = {"category": "linear", "symbol": "BTCUSDT"}
    rows = answers["/v5/market/funding/history"](query)["list"]
    times = [int(row["fundingRateTimestamp"]) for row in rows]
    assert times == list(range(times[0], times[0] - len(times) * 28_800_000, -28_800_000))
    assert times[0] <= START_NS // 1_000_000 < times[0] + 28_800_000
    assert len({row["fundingRate"] for row in rows}) > 1
    span = {"startTime": str(times[3]), "endTime": str(times[1])}
    assert answers["/v5/market/funding/history"](query | span)["list"] == rows[1:4]


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("kline", {"symbol": "BTCUSDT", "interval": "1"}, "Category is illegal"),
        ("kline", {"category": "option", "symbol": "BTCUSDT"}, "Category is illegal"),
        ("kline", {"category": "linear", "symbol": "BTCUSDT"}, "Invalid period!"),
        ("kline", {"category": "linear", "symbol": "BTCUSDT", "interval": "2"}, "Invalid period!"),
        ("kline", {"category": "linear", "interval": "1"}, "symbol is required"),
        ("kline", {"category": "linear", "symbol": "NOUSDT"}, "symbol invalid NOUSDT"),
        ("kline", {"category": "linear", "symbol": "BTCUSDT", "interval": "1", "limit": "x"},
         "limit is invalid"),
        ("kline", {"category": "linear", "symbol": "BTCUSDT", "interval": "1", "start": "-1"},
         "start is invalid"),
        ("orderbook", {"category": "linear", "symbol": "BTCUSDT", "limit": "0"},
         "limit is invalid"),
        ("instruments-info", {"category": "linear", "cursor": "?"}, "cursor is invalid"),
        ("funding/history", {"category": "spot", "symbol": "BTCUSDT"}, "Category is illegal"),
        ("funding/history", {"category": "linear", "symbol": "BTCUSDT", "startTime": "1"},
         "endTime is required"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_refused_in_bybits_manner(answers, path, query, words):
    with pytest.raises(BadParameterError, match=words):
        answers[f"/v5/market/{path}"](query)


def test_every_answer_is_plain_json(answers):
    for path, answer in answers.items():
        query = {"category": "linear", "symbol": "BTCUSDT", "interval": "60"}
        assert msgspec.json.decode(msgspec.json.encode(answer(query))), path
