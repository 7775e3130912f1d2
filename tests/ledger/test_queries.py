import asyncio
import json
from decimal import Decimal

import pytest

from bot.ledger import queries
from bot.ledger.database import LedgerError
from bot.ledger.reading import read
from bot.ledger.runs import finish_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from tests.ledger.samples import BTC, ETH, FACTS, T, fed, started


async def fill(url):
    engine = await open_ledger(url)
    await started(engine, "r0", T - 1)
    await finish_run(engine, "r0", ended_ts=T)
    await started(engine)
    writer = fed(LedgerWriter(engine, "r1"))
    writer.add_equity(24, T + 5, Decimal("10000.10"), Decimal("1E+4"))
    await writer.commit(None)
    await engine.dispose()
    return writer.hexdigest()


@pytest.fixture
def ledger(url):
    """A ledger with one empty run and one full one."""
    asyncio.run(fill(url))
    return url


def picked(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def test_runs_come_newest_first_with_their_digest(ledger):
    rows = read(ledger, queries.runs)
    assert picked(rows, "id", "status", "facts") == [
        ("r1", "running", len(FACTS)),
        ("r0", "finished", 0),
    ]
    assert rows[0]["config"] == {"seed": 7}
    assert len(rows[0]["digest"]) == 64
    assert read(ledger, queries.runs, limit=1) == rows[:1]
    assert read(ledger, queries.latest_run) == "r1"
    assert read(ledger, queries.run, "r0") == rows[1]


def test_orders_say_what_became_of_them(ledger):
    rows = read(ledger, queries.orders)
    names = ("order_id", "status", "reason", "qty", "price", "filled_qty", "average_price")
    assert picked(rows, *names) == [
        (1, "Filled", None, "0.1", "100.5", "0.1", "100.5"),
        (2, "Cancelled", "EC_PerCancelRequest", "0.05", "101", "0.02", "101"),
        (3, "Refused", "size", "9", "100", "0", None),
        (4, "Rejected", "EC_PostOnlyWillTakeLiquidity", "1", "3000", "0", None),
        (5, "Filled", None, "1", "3000", "1", "3000"),
        (6, "Sent", None, "0.01", "99", "0", None),
    ]


def test_a_symbol_and_a_limit_keep_the_last_rows(ledger):
    assert picked(read(ledger, queries.orders, limit=2), "order_id") == [(5,), (6,)]
    assert picked(read(ledger, queries.orders, symbol=ETH), "order_id") == [(4,), (5,)]
    assert picked(read(ledger, queries.orders, symbol=BTC, limit=2), "order_id") == [(3,), (6,)]
    assert picked(read(ledger, queries.fills, limit=1), "fill_id") == [(4,)]
    assert picked(read(ledger, queries.fills, symbol=BTC), "fill_id") == [(1,), (2,), (3,)]
    assert read(ledger, queries.orders, symbol="linear:XRPUSDT") == []
    assert read(ledger, queries.fills, run="r0") == []


def test_fills_carry_their_cause(ledger):
    first = read(ledger, queries.fills)[0]
    assert first == {
        "n": 3,
        "position": 4,
        "ts": T,
        "exchange_ts": T + 1,
        "answer_ts": T + 2,
        "fill_id": 1,
        "order_id": 1,
        "strategy": "maker",
        "symbol": BTC,
        "side": "Buy",
        "price": "100.5",
        "qty": "0.04",
        "maker": True,
        "fee": "0.01",
        "fee_coin": "USDT",
        "cause": "queue",
        "cause_seq": 77,
        "ahead_at_arrival": "1.5",
        "leaves": "0.06",
        "policy": "conservative",
        "realized_pnl": "0",
        "position_qty": "0.04",
    }


def test_one_order_can_be_followed_through_its_life(ledger):
    life = read(ledger, queries.order, 2)
    assert life["order"]["order_id"] == 2
    assert [row["kind"] for row in life["events"]] == [
        "Accepted", "Amend", "Accepted", "Cancel", "Refusal", "Cancelled",
    ]  # fmt: skip
    assert picked(life["fills"], "fill_id") == [(3,)]
    with pytest.raises(LedgerError, match=r"has no order 99; `bot orders` lists them"):
        read(ledger, queries.order, 99)


def test_positions_and_profit_add_up(ledger):
    names = ("symbol", "position", "average_entry", "cost", "realized_pnl", "fees", "fills")
    assert picked(read(ledger, queries.positions), *names) == [
        (BTC, "0", None, "0", "-4.03", "0.018", 3),
        (ETH, "0.999", "3003.003003003003", "3000", "0", "3", 1),
    ]
    names = ("symbol", "realized_pnl", "fees", "funding", "net_pnl")
    assert picked(read(ledger, queries.pnl), *names) == [
        (BTC, "-4.03", "0.018", "0.000808", "-4.048808"),
        (ETH, "0", "3", "0", "-3"),
        ("total", "-4.03", "3.018", "0.000808", "-7.048808"),
    ]
    assert picked(read(ledger, queries.pnl, symbol=ETH), *names)[-1] == (
        "total",
        "0",
        "3",
        "0",
        "-3",
    )
    assert picked(read(ledger, queries.pnl, run="r0"), *names) == [("total", "0", "0", "0", "0")]


def test_gaps_have_a_length_unless_they_are_open(ledger):
    assert picked(
        read(ledger, queries.gaps), "symbol", "reason", "ts", "end_ts", "duration_ns"
    ) == [
        (BTC, "connecting", T, T + 5, 5),
        (BTC, "gap", T + 10, T + 30, 20),
        (ETH, "stale", T + 40, None, None),
    ]


def test_counts_are_of_rows_of_each_kind(ledger):
    assert read(ledger, queries.counts) == {
        "signals": 1,
        "orders": 6,
        "fills": 4,
        "funding_paid": 1,
        "liquidations": 1,
        "gaps": 3,
        "commands": 1,
        "predictions": 2,
        "accepted": 4,
        "amend": 1,
        "cancel": 1,
        "cancelled": 1,
        "refusal": 2,
        "rejected": 2,
    }


def test_predictions_and_equity_are_rows(ledger):
    rows = read(ledger, queries.predictions, symbol=BTC)
    assert picked(rows, "model", "horizon_ns", "quantiles") == [
        ("analyzer", 10**9, [-1e-3, 0.0, 1e-3]),
        ("analyzer", 5 * 10**9, []),
    ]
    assert picked(read(ledger, queries.equity), "ts", "equity", "wallet") == [
        (T + 5, "10000.1", "10000")
    ]


def test_every_answer_is_plain_json(ledger):
    for question in (
        queries.runs,
        queries.orders,
        queries.fills,
        queries.positions,
        queries.pnl,
        queries.gaps,
        queries.predictions,
        queries.equity,
        queries.counts,
    ):
        answer = read(ledger, question)
        assert json.loads(json.dumps(answer)) == answer
        assert answer


def test_a_missing_run_is_named(ledger):
    with pytest.raises(LedgerError, match=r"holds no run 'absent'; `bot runs` lists them"):
        read(ledger, queries.orders, run="absent")


async def test_a_ledger_without_runs_says_so(url):
    await (await open_ledger(url)).dispose()
    with pytest.raises(LedgerError, match="holds no run yet"):
        await asyncio.to_thread(read, url, queries.fills)
