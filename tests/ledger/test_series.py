"""A run over time, on both databases."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from bot.core.events import Candle
from bot.ledger import series
from bot.ledger.rows import RECORDED_LIVE
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import BTC, STEPS, T, fed, started

D = Decimal
MINUTE = 60 * 10**9


def candle(number, interval="1", symbol=BTC):
    prices = D("100.10"), D(101), D("99.5"), D(100) + number
    opened = T + number * MINUTE
    return Candle(T, opened + MINUTE, symbol, interval, opened, *prices, D("1.50"), D(150))


@pytest.fixture
async def engine(url):
    made = await open_ledger(url)
    await started(made)
    yield made
    await made.dispose()


async def ask(engine, question, **words):
    async with engine.connect() as connection:
        return await connection.run_sync(lambda c: question(c, "r1", **words))


async def test_closed_bars_are_kept_once_where_a_run_asks_for_it(engine):
    writer = LedgerWriter(engine, "r1", recorded=RECORDED_LIVE)
    for number in (0, 1, 1, 2):
        writer.add(number, candle(number), [])
    writer.add(3, candle(0, interval="5"), [])
    await writer.commit(None)
    rows = await ask(engine, series.candles, symbol=BTC, interval="1", limit=2)
    assert rows == [
        {"open_ts": T + n * MINUTE, "open": "100.1", "high": "101", "low": "99.5",
         "close": str(100 + n), "volume": "1.5"}
        for n in (1, 2)
    ]  # fmt: skip
    assert await ask(engine, series.intervals, symbol=BTC) == ["1", "5"]


async def test_a_run_that_did_not_ask_keeps_none(engine):
    writer = LedgerWriter(engine, "r1")
    writer.add(0, candle(0), [])
    await writer.commit(None)
    assert await ask(engine, series.candles, symbol=BTC, interval="1", limit=9) == []


async def test_equity_is_read_on_from_where_a_reader_stands(engine):
    writer = LedgerWriter(engine, "r1")
    for n in range(5):
        writer.add_equity(n, T + n, D(1000) + n, D(1000))
    await writer.commit(None)
    first = await ask(engine, series.equity_after, after_ts=0, limit=3)
    assert first == [(T, "1000"), (T + 1, "1001"), (T + 2, "1002")]
    rest = await ask(engine, series.equity_after, after_ts=first[-1][0], limit=3)
    assert [ts for ts, _ in rest] == [T + 3, T + 4]


async def test_a_models_answers_are_those_of_its_nearest_horizon_oldest_first(engine):
    (said,) = [event for _, event, _ in STEPS if getattr(event, "model", "") == "analyzer"]
    writer = fed(LedgerWriter(engine, "r1"))
    for n in (1, 2):
        writer.add(30 + n, replace(said, ts=T + n, read_ts=T + n, price=100.25 + n), [])
    await writer.commit(None)
    found = await ask(engine, series.forecasts, symbol=BTC, model="analyzer", limit=2)
    assert [(row["read_ts"], row["price"]) for row in found] == [(T + 1, 101.25), (T + 2, 102.25)]
    assert {row["horizon_ns"] for row in found} == {10**9}
    newest = await ask(engine, series.newest_forecast, symbol=BTC, model="analyzer")
    assert [(row["horizon"], row["read_ts"]) for row in newest] == [(0, T + 2), (1, T + 2)]
    assert await ask(engine, series.newest_forecast, symbol=BTC, model="nobody") == []
