"""A short run, step by step: (journal position, event, facts)."""

from decimal import Decimal
from random import Random

from sqlalchemy.ext.asyncio import AsyncEngine

from bot.core.events import (
    Accepted,
    Amend,
    Cancel,
    Cancelled,
    Command,
    FeedDown,
    FeedUp,
    Fill,
    FundingPaid,
    FundingRate,
    Horizon,
    Instrument,
    Liquidated,
    Order,
    Prediction,
    Refusal,
    Rejected,
    Signal,
    Tick,
    Triggered,
)
from bot.core.instrument import amount
from bot.ledger.bookkeeper import Bookkeeper
from bot.ledger.runs import start_run
from bot.ledger.writer import LedgerWriter
from bot.run import Run
from tests.core.lives import DEPOSIT, engine, feed

D = Decimal
BTC, ETH = "linear:BTCUSDT", "spot:ETHUSDT"
T = 1_700_000_000_000_000_000


def order(order_id, symbol, side, qty, price, tif="GTC"):
    kind = "Market" if price is None else "Limit"
    return Order(T, order_id, "maker", symbol, side, kind, tif, D(qty), price and D(price))


def accepted(order_id, symbol, qty, price):
    return Accepted(T, T + 1, T + 2, order_id, symbol, D(price), D(qty), D("1.5"))


def fill(fill_id, order_id, trade, *, leaves, held, pnl="0", fee="0.01", coin="USDT"):
    symbol, side, qty, price = trade
    return Fill(
        T, T + 1, T + 2, fill_id, order_id, "maker", symbol, side, D(price), D(qty), True, D(fee),
        coin, "queue", 77, D("1.5"), D(leaves), "conservative", D(pnl), D(held),
    )  # fmt: skip


def rules(ts, tick):
    return Instrument(
        ts, 0, BTC, "BTC", "USDT", D(tick), D("0.001"), D("0.001"), D(5),
        max_limit_qty=D("1190.000"), funding_interval_min=480,
    )  # fmt: skip


STEPS = [
    (0, rules(T, "0.10"), []),
    (1, FeedDown(T, BTC, "connecting"), []),
    (2, FeedUp(T + 5, BTC), []),
    (3, Tick(T), [Signal(T, "maker", BTC, 0.1, "up"), order(1, BTC, "Buy", "0.100", "100.50")]),
    (3, Tick(T), [accepted(1, BTC, "0.1", "100.5")]),
    (4, Tick(T), [fill(1, 1, (BTC, "Buy", "0.04", "100.5"), leaves="0.06", held="0.04")]),
    (5, Tick(T), [fill(2, 1, (BTC, "Buy", "0.06", "100.5"), leaves="0", held="0.1")]),
    (6, Tick(T), [order(2, BTC, "Sell", "0.05", "102"), accepted(2, BTC, "0.05", "102")]),
    (7, Tick(T), [Amend(T, 2, BTC, D(101), None), accepted(2, BTC, "0.05", "101")]),
    (
        8,
        Tick(T),
        [
            fill(
                3, 2, (BTC, "Sell", "0.02", "101"),
                leaves="0.03", held="0.08", pnl="0.01", fee="-0.002",
            )
        ],
    ),
    (9, Tick(T), [Cancel(T, 2, BTC), Refusal(T, 2, "maker", BTC, "rate", "20 a second")]),
    (10, Tick(T), [Cancelled(T, T, T, 2, BTC, D("0.03"), "EC_PerCancelRequest")]),
    (11, Tick(T), [order(3, BTC, "Buy", "9", "100"), Refusal(T, 3, "maker", BTC, "size", "9>5")]),
    (12, Tick(T), [order(4, ETH, "Buy", "1", "3000", "PostOnly")]),
    (13, Tick(T), [Rejected(T, T, T, 4, ETH, "EC_PostOnlyWillTakeLiquidity")]),
    (14, Tick(T), [order(5, ETH, "Buy", "1", None, "IOC"), accepted(5, ETH, "1", "3000")]),
    (
        14,
        Tick(T),
        [fill(4, 5, (ETH, "Buy", "1", "3000"), leaves="0", held="0.999", fee="0.001", coin="ETH")],
    ),
    (15, Tick(T), [order(6, BTC, "Buy", "0.01", "99"), Rejected(T, T, T, 6, BTC, "1", "cancel"),
                   Triggered(T, T, T, 6, BTC, D("98.5"))]),
    (16, FeedDown(T + 10, BTC, "gap"), []),
    (17, FeedUp(T + 30, BTC), []),
    (18, FeedDown(T + 40, ETH, "stale"), []),
    (
        19,
        Prediction(
            T, BTC, "analyzer", 18, T, T, 100.25,
            (
                Horizon(10**9, 1e-4, 0.6, 0.2, (-1e-3, 0.0, 1e-3)),
                Horizon(5 * 10**9, 2e-4, 0.7, 0.4),
            ),
            weight=0.5,
        ),
        [],
    ),
    (20, Prediction(T, ETH, "portfolio", 18, T, T, 3000.0, (), weight=-0.25, rebuilt=True), []),
    (21, Command(T, "pause", "operator", "lunch"), []),
    (22, rules(T + 9, "0.01"), []),
    (23, Tick(T), [FundingPaid(T, T, BTC, T, D("0.0001"), D(101), D("0.08"), D("0.000808"))]),
    (24, Tick(T), [Liquidated(T, T, BTC, D("0.08"), D(50), D("4.04"))]),
    (25, FundingRate(T + 9, T, BTC, D("0.00020"), T, D(100)), []),
]  # fmt: skip
FACTS = [fact for _, _, facts in STEPS for fact in facts]


async def started(engine, run_id="r1", started_ts=T):
    await start_run(
        engine,
        run_id,
        mode="paper",
        instance="test",
        started_ts=started_ts,
        config={"seed": 7},
        code_version="0.1.0",
        models={"analyzer": "abc"},
        journal="data/runs/r1",
    )


def fed(writer, steps=None):
    for position, event, facts in STEPS if steps is None else steps:
        writer.add(position, event, facts)
    return writer


async def life(ledger: AsyncEngine, run_id: str, seed: int, commits: Random) -> None:
    """A random life into ``ledger``, committed at moments of its own."""
    await start_run(ledger, run_id, mode="paper", instance="i", started_ts=1, config={},
                    code_version="x", deposits={"USDT": amount(DEPOSIT)})  # fmt: skip
    made = engine(seed)
    writer = LedgerWriter(ledger, run_id)
    run = Run(made, Bookkeeper(writer, made.market, made.account))
    for event in feed(seed):
        run.take(event)
        if commits.random() < 0.05:
            await writer.commit(run.position - commits.randint(0, 3))
    run.finish()
    await writer.commit(None)
