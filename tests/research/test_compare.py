"""Two runs that part by one cause: it is the one that is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.core.engine import Engine
from bot.core.events import Event, Prediction, Trade
from bot.core.instrument import to_e8
from bot.core.latency import Latency
from bot.core.matching import FillPolicy
from bot.ledger import reading
from bot.ledger.bookkeeper import Bookkeeper
from bot.ledger.runs import finish_run, start_run
from bot.ledger.schema import open_ledger
from bot.ledger.writer import LedgerWriter
from bot.research import compare, report
from bot.research.backtest import Stop, step_through
from bot.run import Run
from tests.builders import LINEAR, MS, NO_LIMITS, TOUCH, book, fees, prediction, rules, trade

SLOW = FillPolicy(order_latency=Latency(20 * MS))


class Joiner:
    """Joins the bid where the first book shows one, and takes where a model expects a rise."""

    def __init__(self) -> None:
        self.state = False

    def on_event(self, event, view):
        if isinstance(event, Prediction) and event.horizons[0].expected_return > 0:
            yield view.market(LINEAR, "Buy", 2)
        elif not self.state and view.bid(LINEAR) is not None:
            self.state = True
            yield view.limit(LINEAR, "Buy", 10, view.bid(LINEAR), tif="PostOnly")


def market() -> list[Event]:
    """A level of 100 that 40 leave at 60 ms; trades at 90 and 120 ms; a prediction at 150."""
    return [
        rules(), fees(),
        book(0, *TOUCH, snapshot=True), book(30, "99.8x1"), book(60, "100.0x60", seq=2),
        trade(90, "Sell", "100.0", 50, seq=3), book(95, "100.0x10", seq=4),
        trade(120, "Sell", "100.0", 40, seq=5), book(125, "100.0x5", seq=6),
        prediction(150, 0.001), book(200, "99.8x2", seq=7), trade(210, "Sell", "99.9", 1, seq=8),
        book(230, "99.8x3", seq=9),
    ]  # fmt: skip


class Played:
    """Runs in one ledger."""

    def __init__(self, folder: Path) -> None:
        self.db = f"sqlite:///{folder}/compared.db"

    def play(
        self, name: str, events: Iterable[Event], policy: FillPolicy = SLOW, mode: str = "paper",
        **config: Any,
    ) -> None:  # fmt: skip
        asyncio.run(self._play(name, events, policy, mode, config))

    async def _play(
        self, name: str, events: Iterable[Event], policy: FillPolicy, mode: str, more: Any
    ) -> None:
        ledger = await open_ledger(self.db)
        try:
            writer = LedgerWriter(ledger, name)
            engine = Engine([("joiner", (LINEAR,), Joiner())], usdt=to_e8(Decimal(10_000)),
                            leverage=10**13, policy=policy, limits=NO_LIMITS)  # fmt: skip
            run = Run(engine, Bookkeeper(writer, engine.market, engine.account))
            await start_run(ledger, name, mode=mode, instance="t", started_ts=1,
                            config={"account": {"usdt": "10000"}, **more},
                            code_version="1")  # fmt: skip
            await step_through(events, run, writer, stop=Stop())
            await finish_run(ledger, name, ended_ts=2, status="finished", summary={})
        finally:
            await ledger.dispose()

    def pair(self) -> dict[str, Any]:
        (pair,) = reading.read(self.db, compare.compare, ("paper", "backtest"))["pairs"]
        return dict(pair)


def without(events: Sequence[Event], seq: int) -> list[Event]:
    return [event for event in events if not (type(event) is Trade and event.seq == seq)]


CAUSES = {
    "latency": ((market(), FillPolicy(order_latency=Latency(70 * MS))), 1),
    "queue": ((market(), FillPolicy(queue="none", order_latency=Latency(20 * MS))), 1),
    "data": ((without(market(), 5), SLOW), 1),
    "prediction": (([*market()[:9], prediction(150, -0.001), *market()[10:]], SLOW), 1),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_what_differs_is_named_and_nothing_else(tmp_path, cause):
    (events, policy), count = CAUSES[cause]
    played = Played(tmp_path)
    played.play("paper", market())
    played.play("backtest", events, policy, mode="backtest")
    pair = played.pair()
    assert pair["first_divergence"].startswith("fact ")
    assert pair["causes"] == {cause: count}


def test_the_same_market_and_latencies_leave_nothing_to_explain(tmp_path):
    played = Played(tmp_path)
    played.play("paper", market())
    played.play("backtest", market(), mode="backtest")
    pair = played.pair()
    assert pair["first_divergence"] == "none: the facts are the same"
    assert (pair["same_orders"], pair["causes"]) == (2, {})


def test_orders_of_other_settings_are_put_down_to_them(tmp_path):
    played = Played(tmp_path)
    played.play("paper", market(), risk={"max": 1})
    played.play("backtest", [*market()[:9], *market()[10:]], mode="backtest", risk={"max": 2})
    assert played.pair()["causes"] == {"settings": 1}


def test_slippage_of_a_paper_run_comes_from_the_quotes_beside_its_orders(tmp_path):
    played = Played(tmp_path)
    played.play("paper", market())
    found = reading.read(played.db, report.gather, "paper")["metrics"]
    # the taker pays 100.1 where the mid was 100.05; the maker gets 100.0: 2 * 0.05 - 10 * 0.05
    assert Decimal(found["slippage"]) == Decimal("-0.4")
