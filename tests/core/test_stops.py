"""Conditional orders and exits: what the scenarios do not show."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from bot.core.events import Cancelled, Fill, Order, Triggered
from tests.builders import LINEAR, MS, Paper, e12


def test_a_strategy_adopts_the_exits_that_the_venue_makes() -> None:
    paper = Paper()
    order = replace(paper.order(1, "Buy", 10), stop_loss=paper.order(1, "Buy", 1, "99.0").price)
    paper.say(1, order)
    paper.tick(2)
    exits = [each for each in paper.view.orders(LINEAR) if each.tag == "StopLoss"]
    assert [(each.side, each.trigger, each.reduce_only) for each in exits] == [("Sell", 99.0, True)]
    paper.trade(3, "Sell", "99.0", 1)
    paper.book(4, "100.0x0 99.9x0 98.9x50")
    paper.tick(5)
    assert paper.view.orders(LINEAR) == []
    assert paper.view.position(LINEAR) == 0
    assert [f.price for f in paper.made(Triggered)] == [99]


@pytest.mark.parametrize(
    ("side", "trigger", "direction"), [("Buy", 101, "rise"), ("Sell", 99, "fall")]
)
def test_a_view_waits_for_the_side_on_which_the_trigger_lies(
    side: Any, trigger: float, direction: str
) -> None:
    paper = Paper()
    paper.trade(1, "Buy", "100.1", 1)
    order = paper.view.stop(LINEAR, side, 5, trigger)
    assert (order.trigger_direction, order.order_type) == (direction, "Market")
    limit = paper.view.stop(LINEAR, side, 5, trigger, price=trigger, by="mark")
    assert (limit.trigger_by, limit.tif) == ("mark", "GTC")


def test_an_exit_of_nothing_is_none_and_of_a_position_closes_it() -> None:
    paper = Paper()
    assert paper.view.exit(LINEAR, "StopLoss", 99.0) is None
    paper.place(1, "Sell", 7)
    stop = paper.view.exit(LINEAR, "StopLoss", 101.0, by="mark")
    assert stop is not None
    paper.say(2, stop)
    paper.ticker(3, mark="101")
    assert paper.account.qty(LINEAR) == 0
    assert paper.made(Fill)[-1].order_id == stop.id


def test_turning_the_position_clears_its_exits() -> None:
    paper = Paper()
    paper.place(1, "Buy", 5)
    stop = paper.view.exit(LINEAR, "StopLoss", 90.0)
    assert stop is not None
    paper.say(2, stop)
    paper.place(3, "Sell", 9)
    assert [(f.order_id, f.reason) for f in paper.made(Cancelled)] == [
        (stop.id, "CancelByTpSlTsClear")
    ]
    assert paper.account.qty(LINEAR) == e12(-4)


def test_a_partial_fill_makes_the_exits_once() -> None:
    paper = Paper(queue="none")
    order = replace(
        paper.order(1, "Buy", 10, "100.0"), take_profit=paper.order(1, "Buy", 1, "105.0").price
    )
    paper.say(1, order)
    paper.trade(2, "Sell", "100.0", 3)
    paper.trade(3, "Sell", "100.0", 3)
    assert [each.tag for each in paper.made(Order)].count("TakeProfit") == 1


def test_a_trade_that_the_book_shows_already_triggers_at_once() -> None:
    paper = Paper()
    paper.say(1, replace(
        paper.order(1, "Sell", 5), trigger_price=paper.order(1, "Buy", 1, "99.0").price,
        trigger_direction="fall",
    ))  # fmt: skip
    paper.book(2, seq=20)
    paper.trade(3, "Sell", "99.0", 1, seq=19)
    assert paper.filled() == [(3, "5")]


def test_a_trade_from_before_its_arrival_triggers_no_stop() -> None:
    paper = Paper()
    paper.trade(1, "Buy", "100.1", 1)
    paper.tick(5)
    stop = paper.view.stop(LINEAR, "Sell", 5, 99)
    paper.say(5, stop)
    paper.trade(4, "Sell", "98.9", 1)
    assert paper.made(Triggered) == []
    paper.trade(6, "Sell", "98.9", 1)
    assert [fact.exchange_ts / MS for fact in paper.made(Triggered)] == [6]


def test_a_mark_from_before_its_arrival_still_holds_when_the_stop_arrives() -> None:
    paper = Paper()
    paper.ticker(1, mark="100")
    paper.tick(5)
    stop = paper.view.stop(LINEAR, "Sell", 5, 99, by="mark")
    paper.say(5, stop)
    paper.ticker(4, mark="98")
    assert [fact.exchange_ts / MS for fact in (*paper.made(Triggered), *paper.made(Fill))] == [5, 5]
