"""Shadow accounts in the ledger: a row per fact, and their profit beside the trading one."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import select

from bot.core.events import FundingPaid
from bot.ledger import queries, tables
from bot.ledger.runs import start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import BTC, T, accepted, fill, order

D = Decimal


@pytest.fixture
async def engine(url):
    engine = await open_ledger(url)
    yield engine
    await engine.dispose()


async def test_shadow_facts_are_rows_and_their_profit_is_named(engine):
    await start_run(
        engine, "r1", mode="paper", instance="test", started_ts=T,
        config={"exchange": {"policies": ["conservative", "none"]}}, code_version="0",
    )  # fmt: skip
    writer = LedgerWriter(engine, "r1")
    writer.add(1, None, [order(1, BTC, "Buy", "0.1", "100"), accepted(1, BTC, "0.1", "100")])
    told = [
        accepted(1, BTC, "0.1", "100"),
        fill(1, 1, (BTC, "Buy", "0.1", "100"), leaves="0", held="0.1", pnl="2.5", fee="0.01"),
        FundingPaid(T, T, BTC, T, D("0.0001"), D(101), D("0.1"), D("0.25")),
    ]
    writer.add_shadow(1, "none", 0, told)
    writer.add_shadow(1, "none", 0, told)
    writer.add_shadow_equity(1, "none", T, D(1), D(2))
    await writer.commit(None)

    def ask(connection):
        kinds = select(tables.shadow_outcomes.c.kind).order_by(tables.shadow_outcomes.c.n)
        return (
            queries.pnl(connection),
            list(connection.scalars(kinds)),
            connection.execute(select(tables.shadow_fills.c.qty)).all(),
        )

    async with engine.connect() as connection:
        rows, kinds, fills = await connection.run_sync(ask)
    assert kinds == ["Accepted", "FundingPaid"]
    assert [row[0] for row in fills] == [D("0.1")]
    assert [(row["policy"], row["symbol"], row["net_pnl"]) for row in rows] == [
        ("conservative", "total", "0"),
        ("none", BTC, "2.24"),
        ("none", "total", "2.24"),
    ]
