"""A day of a run, summed up: what the whole run's questions say, cut at midnight."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.core.events import FeedDown, FeedUp
from bot.ledger import queries
from bot.ledger.day import day
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import T, fed, started

FOREVER = {"start_ns": 0, "end_ns": 2**62}


@pytest.fixture
async def engine(url):
    engine = await open_ledger(url)
    await started(engine)
    yield engine
    await engine.dispose()


async def ask(engine, question, **words):
    async with engine.connect() as connection:
        return await connection.run_sync(lambda sync: question(sync, **words))


async def test_a_day_that_holds_everything_is_what_the_run_came_to(engine):
    await fed(LedgerWriter(engine, "r1")).commit(None)
    found = await ask(engine, day, run="r1", **FOREVER)
    counts = await ask(engine, queries.counts, run="r1")
    for name, other in (("orders", "orders"), ("fills", "fills"), ("gaps", "gaps"),
                        ("refusals", "refusal"), ("rejections", "rejected"),
                        ("predictions", "predictions"), ("commands", "commands")):  # fmt: skip
        assert found[name] == counts[other], name
    fills = await ask(engine, queries.fills, run="r1")
    assert Decimal(found["realized_pnl"]) == sum(Decimal(each["realized_pnl"]) for each in fills)
    assert Decimal(found["turnover"]) == sum(
        Decimal(each["price"]) * Decimal(each["qty"]) for each in fills
    )
    total = (await ask(engine, queries.pnl, run="r1"))[-1]
    assert (found["fees"], found["funding"]) == (total["fees"], total["funding"])
    assert Decimal(found["net_pnl"]) == (
        Decimal(found["realized_pnl"]) - Decimal(found["fees"]) - Decimal(found["funding"])
    )


async def test_what_was_before_or_after_is_not_in_it(engine):
    await fed(LedgerWriter(engine, "r1")).commit(None)
    before = await ask(engine, day, run="r1", start_ns=0, end_ns=T)
    assert (before["fills"], before["orders"], before["net_pnl"]) == (0, 0, "0")
    assert before["equity_start"] is None
    assert before["symbols"] == []


async def test_the_deepest_fall_is_from_the_peak_before_it(engine):
    writer = LedgerWriter(engine, "r1")
    for ts, worth in enumerate((100, 130, 110, 140, 115, 120)):
        writer.add_equity(ts, ts, Decimal(worth), Decimal(worth))
    await writer.commit(None)
    found = await ask(engine, day, run="r1", **FOREVER)
    assert (found["drawdown"], found["equity_start"], found["equity_end"]) == ("25", "100", "120")
    assert (await ask(engine, day, run="r1", start_ns=0, end_ns=3))["drawdown"] == "20"


async def test_a_gap_over_midnight_counts_on_both_days_with_what_lies_in_each(engine):
    writer = LedgerWriter(engine, "r1")
    btc, eth, s = "linear:BTCUSDT", "linear:ETHUSDT", 10**9
    for position, event in enumerate((
        FeedDown(10 * s, btc, "gap"), FeedUp(12 * s, btc), FeedDown(95 * s, btc, "stale"),
        FeedDown(98 * s, eth, "gap"), FeedUp(101 * s, eth),
    )):  # fmt: skip
        writer.add(position, event, [])
    await writer.commit(None)
    first = await ask(engine, day, run="r1", start_ns=0, end_ns=100 * s)
    assert (first["gaps"], first["gap_s"]) == (3, 9.0)
    assert first["gaps_by_symbol"] == [
        {"symbol": btc, "gaps": 2, "seconds": 7.0, "longest_s": 5.0,
         "reasons": {"gap": 1, "stale": 1}},
        {"symbol": eth, "gaps": 1, "seconds": 2.0, "longest_s": 2.0, "reasons": {"gap": 1}},
    ]  # fmt: skip
    second = await ask(engine, day, run="r1", start_ns=100 * s, end_ns=200 * s)
    assert (second["gaps"], second["gap_s"]) == (2, 101.0)  # the stale one has not ended
    third = await ask(engine, day, run="r1", start_ns=200 * s, end_ns=300 * s)
    assert [each["symbol"] for each in third["gaps_by_symbol"]] == [btc]
