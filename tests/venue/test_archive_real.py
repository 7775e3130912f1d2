"""Real archives of Bybit's, held against plain Python that shares nothing with the reader."""

from __future__ import annotations

import csv
import gzip
import json
import zipfile
from collections import defaultdict
from decimal import Decimal

import pytest

from bot.core.book import Book
from bot.core.events import BookUpdate, Candle, Trade
from bot.core.instrument import to_decimal
from bot.venue.archive_feed import Archive, ArchiveOptions
from tests.venue.real_data import real


def plain_rows(path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_the_real_ob500_file_gives_the_book_of_a_plain_dict():
    path = real("bybit_archives/xrpusdt-ob500.data.zip")
    with zipfile.ZipFile(path) as packed:
        messages = [json.loads(line) for line in packed.read(packed.namelist()[0]).splitlines()]
    updates = [one for one in Archive([path], ArchiveOptions()) if type(one) is BookUpdate]
    assert len(updates) == len(messages) == 50
    sides: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
    book = Book()
    for update, wanted in zip(updates, messages, strict=True):
        book.apply(update)
        for key, side in sides.items():
            if wanted["type"] == "snapshot":
                side.clear()
            for price, qty in wanted["data"][key]:
                side[Decimal(price)] = Decimal(qty)
                if not Decimal(qty):
                    del side[Decimal(price)]
        assert (update.u, update.exchange_ts) == (wanted["data"]["u"], wanted["cts"] * 10**6)
        got = [{to_decimal(p): to_decimal(q) for p, q in levels.items()}
               for levels in (book.bids, book.asks)]  # fmt: skip
        assert got == [sides["b"], sides["a"]]
        assert to_decimal(book.best_bid) == max(sides["b"])
        assert to_decimal(book.best_ask) == min(sides["a"])


def test_the_real_spot_trades_and_their_candles_keep_every_row():
    path = real("bybit_archives/1INCHUSDT_2025-05-19.csv.gz")
    wanted = plain_rows(path)
    events = list(Archive([path], ArchiveOptions(candles="60")))
    trades = [one for one in events if type(one) is Trade]
    assert [
        (t.exchange_ts // 10**6, to_decimal(t.price), to_decimal(t.qty), t.side.lower(), t.rpi)
        for t in trades
    ] == [
        (int(r["timestamp"]), Decimal(r["price"]), Decimal(r["volume"]), r["side"], r["rpi"] == "1")
        for r in wanted
    ]
    assert {t.symbol for t in trades} == {"spot:1INCHUSDT"}
    hours = defaultdict(list)
    for row in wanted:
        hours[int(row["timestamp"]) // 3_600_000].append(row)
    candles = [one for one in events if type(one) is Candle]
    assert len(candles) == 23  # the day's last hour is still open at its last trade
    for candle in candles:
        rows = hours[candle.open_ts // (3_600 * 10**9)]
        prices = [Decimal(row["price"]) for row in rows]
        assert (candle.open, candle.high, candle.low, candle.close, candle.volume) == (
            prices[0], max(prices), min(prices), prices[-1],
            sum(Decimal(row["volume"]) for row in rows),
        )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["linear_BTCUSDT_5m_20250915_1015", "linear_BTCUSDT_1h", "spot_BTCUSDT_5m_20250916_1016"],
)
def test_a_real_candle_file_gives_its_rows(name):
    path = real(f"bybit_candles/{name}.csv.gz")
    wanted = plain_rows(path)
    candles = list(Archive([path], ArchiveOptions()))
    assert [(c.open_ts // 10**6, c.open, c.high, c.low, c.close, c.volume) for c in candles] == [
        (int(r["ts_ms"]), *(Decimal(r[key]) for key in ("open", "high", "low", "close", "volume")))
        for r in wanted
    ]
    category, symbol, interval = name.split("_")[:3]
    assert {c.symbol for c in candles} == {f"{category}:{symbol}"}
    assert {c.interval for c in candles} == {{"5m": "5", "1h": "60"}[interval]}
