"""The views: the same columns and values on both databases, and right by hand."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from sqlalchemy import inspect, text

from bot.ledger.connect import with_connection
from bot.ledger.rows import QUOTE_COLUMNS
from bot.ledger.schema import open_ledger, upgrade
from bot.ledger.tables import quotes
from bot.ledger.views import VIEWS
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import BTC, T, fed, started


@pytest.fixture
async def ledger(url):
    """The sample run with quotes and equity."""
    engine = await open_ledger(url)
    await started(engine)
    writer = fed(LedgerWriter(engine, "r1"))
    assert QUOTE_COLUMNS == ("run_id", "n", "position", "symbol", "bid", "ask", "mark")
    writer.add_rows(24, [(quotes, ("r1", 1, 3, BTC, "100.3", "100.5", None))])
    writer.add_equity(24, T + 5, Decimal("10000.10"), Decimal("1E+4"))
    await writer.commit(None)
    await engine.dispose()
    return url


def rows(url, statement):
    def work(connection):
        return [dict(row) for row in connection.execute(text(statement)).mappings()]

    return [
        {name: float(v) if isinstance(v, Decimal) else v for name, v in row.items()}
        for row in with_connection(url, work)
    ]


def test_every_view_can_be_asked_and_goes_with_the_schema(url):
    upgrade(url)
    assert set(with_connection(url, lambda c: inspect(c).get_view_names())) == set(VIEWS)
    for name in VIEWS:
        assert rows(url, f"SELECT * FROM {name}") == []
    upgrade(url, "base")
    assert with_connection(url, lambda c: inspect(c).get_view_names()) == []


def test_fills_and_slippage_against_the_mid_at_the_order(ledger):
    found = rows(ledger, "SELECT * FROM v_fills ORDER BY n")
    assert [(f["price"], f["qty"], f["position_qty"]) for f in found] == [
        (100.5, 0.04, 0.04), (100.5, 0.06, 0.1), (101.0, 0.02, 0.08), (3000.0, 1.0, 0.999),
    ]  # fmt: skip
    assert found[0]["time"] == "2023-11-14 22:13:20.000"
    slips = rows(ledger, "SELECT * FROM v_slippage ORDER BY n")
    assert [s["mid_at_order"] for s in slips] == pytest.approx([100.4, 100.4])
    assert slips[0]["slippage_bps"] == pytest.approx(0.1 / 100.4 * 1e4)


def test_daily_profit_is_exact(ledger):
    found = {row["asset"]: row for row in rows(ledger, "SELECT * FROM v_pnl_daily")}
    usdt = found["USDT"]
    assert (usdt["realized_pnl"], usdt["fees"]) == (0.01, 0.018)
    assert (usdt["funding"], usdt["liquidations"]) == (0.000808, 4.04)
    assert found["ETH"]["fees"] == 0.001
    assert usdt["day"] == "2023-11-14"


def test_equity_and_funding(ledger):
    (equity,) = rows(ledger, "SELECT * FROM v_equity")
    assert (equity["equity"], equity["wallet"]) == (10000.1, 10000)
    assert equity["open_pnl"] == pytest.approx(0.1)
    (paid,) = rows(ledger, "SELECT * FROM v_funding")
    assert (paid["rate"], paid["mark"], paid["paid"]) == (0.0001, 101, 0.000808)
    assert (paid["venue_rate"], paid["venue_mark"], paid["differs"]) == (0.0002, 100, 1)
    assert float(paid["venue_paid"]) == pytest.approx(0.0016)


def test_round_trips_and_scores(url):
    asyncio.run(made_by_hand(url))
    (trip,) = rows(url, "SELECT * FROM v_round_trips")
    assert (trip["fills"], trip["realized_pnl"], trip["held_ms"]) == (2, -0.30000001, 1000)
    first, second = rows(url, "SELECT * FROM v_predictions_scored ORDER BY position")
    assert (first["price_then"], first["is_right"], first["late_ms"]) == (102.0, 1, 6000)
    assert (second["price_then"], second["is_right"], second["late_ms"]) == (102.0, 0, 2000)


async def made_by_hand(url):
    engine = await open_ledger(url)
    await started(engine)
    async with engine.begin() as connection:
        for n, (qty, pnl, held) in enumerate(
            [("0.1", "0", "0.1"), ("0.1", "-0.30000001", "0"), ("0.2", "0", "0.2")]
        ):
            await connection.execute(
                text(
                    "INSERT INTO fills (run_id, n, position, ts, exchange_ts, answer_ts, fill_id,"
                    " order_id, strategy, symbol, side, price, qty, maker, fee, fee_coin, cause,"
                    " cause_seq, leaves, policy, realized_pnl, position_qty) VALUES ('r1', :n, 0,"
                    " 1, :ts, 1, :n, 1, 's', 'linear:X', 'Buy', '1', :qty, true, '0', 'USDT',"
                    " 'take', 1, '0', 'none', :pnl, :held)"
                ),
                {"n": n, "ts": T + n * 10**9, "qty": qty, "pnl": pnl, "held": held},
            )
        for at, (read, price, expected) in enumerate(
            [(0, 100.0, 0.01), (4, 101.0, -0.01), (11, 102.0, 0.0)]
        ):
            await connection.execute(
                text(
                    "INSERT INTO predictions (run_id, position, symbol, model, horizon, ts,"
                    " read_position, read_ts, ready_ts, price, trained, rebuilt, horizon_ns,"
                    " expected_return, up_probability, confidence) VALUES ('r1', :at, 'linear:X',"
                    " 'm', 0, 1, 1, :read, 1, :price, true, false, 5000000000, :expected, 0.5, 0)"
                ),
                {"at": at, "read": T + read * 10**9, "price": price, "expected": expected},
            )
    await engine.dispose()
