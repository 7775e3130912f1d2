"""What a strategy sees, what it has, and how it speaks."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.core.events import Candle, FeedDown, Refusal, Ticker
from tests.builders import LINEAR, MS, SPOT, Paper, e12, fees, prediction, rules

NOTHING = "linear:XUSDT"


# --- the market -----------------------------------------------------------------------------------


def test_a_trusted_book_is_seen() -> None:
    view = Paper().view
    assert (view.bid(LINEAR), view.ask(LINEAR), view.mid(LINEAR)) == (100.0, 100.1, 100.05)
    book = view.book(LINEAR)
    assert book is not None
    assert book.best_bid == e12(100)
    assert view.tick_size(LINEAR) == 0.1
    assert view.taker_rate(LINEAR) == 0.00055


def test_an_untrusted_or_unknown_or_empty_book_is_not() -> None:
    paper = Paper()
    for symbol in (LINEAR, NOTHING):
        paper.step(FeedDown(MS, symbol, "gap"))
    for symbol in (LINEAR, NOTHING, "linear:NEVER"):
        view = paper.view
        assert view.book(symbol) is view.bid(symbol) is view.ask(symbol) is view.mid(symbol) is None
    empty = Paper(start=None)
    empty.book(1, snapshot=True)
    assert empty.view.bid(LINEAR) is empty.view.ask(LINEAR) is empty.view.mid(LINEAR) is None


def test_the_newest_ticker_candle_and_prediction_are_seen() -> None:
    paper = Paper()
    view, one = paper.view, Decimal(1)
    assert view.ticker(LINEAR) is view.candle(LINEAR) is view.prediction(LINEAR, "x") is None
    ticker = Ticker(1, 1, LINEAR, mark=one)
    candle = Candle(1, 1, LINEAR, "1", 0, one, one, one, one, one, one)
    said = prediction(1, 0.1, model="x")
    for event in (ticker, candle, said):
        paper.step(event)
    assert view.ticker(LINEAR) is ticker
    assert view.candle(LINEAR) is candle
    assert view.prediction(LINEAR, "x") is said
    assert view.prediction(LINEAR, "y") is None


def test_equity_is_the_accounts() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, mark="200")
    assert paper.view.equity() == pytest.approx(1_000_000 + 999 - 0.55055)


# --- decisions ------------------------------------------------------------------------------------


def test_an_order_is_put_on_the_grid() -> None:
    paper = Paper(instrument=rules(qty_step="0.001"))
    paper.tick(7)
    order = paper.view.limit(LINEAR, "Buy", 1.2349, 99.96, tif="PostOnly", tag="quote")
    assert (order.price, order.qty) == (Decimal(100), Decimal("1.234"))
    assert (order.ts, order.id, order.strategy, order.symbol) == (7 * MS, 1, "script", LINEAR)
    assert (order.order_type, order.tif, order.reduce_only, order.tag) == (
        "Limit", "PostOnly", False, "quote",
    )  # fmt: skip
    market = paper.view.market(LINEAR, "Sell", 2.0009, reduce_only=True, tag="out")
    assert (market.id, market.price, market.qty) == (2, None, Decimal(2))
    assert (market.order_type, market.tif, market.reduce_only, market.tag) == (
        "Market", "IOC", True, "out",
    )  # fmt: skip


def test_changes_of_an_order_are_put_on_the_grid() -> None:
    paper = Paper()
    paper.place(1, "Buy", 5, "99.0")
    (order,) = paper.view.orders(LINEAR)
    amend = paper.view.amend(order, qty=3.7, price=99.04)
    assert (amend.order_id, amend.symbol, amend.price, amend.qty) == (1, LINEAR, 99, 3)
    nothing = paper.view.amend(order)
    assert (nothing.price, nothing.qty) == (None, None)
    assert paper.view.cancel(order).order_id == 1


def test_a_signal_is_put_on_record() -> None:
    paper = Paper()
    paper.tick(3)
    signal = paper.view.signal(LINEAR, -2.5, "because")
    assert (signal.ts, signal.strategy, signal.target, signal.reason) == (
        3 * MS, "script", -2.5, "because",
    )  # fmt: skip


def test_without_rules_no_order_can_be_made() -> None:
    with pytest.raises(LookupError, match=NOTHING):
        Paper().view.limit(NOTHING, "Buy", 1, 1)


# --- what we have ---------------------------------------------------------------------------------


def test_an_open_order_is_known_from_its_sending_to_its_end() -> None:
    paper = Paper(queue="none")
    first = paper.place(1, "Buy", 5, "100.0")
    paper.place(1, "Buy", 7, "99.0")
    order = paper.view.orders(LINEAR)[0]
    assert (order.id, order.side, order.price, order.leaves) == (first, "Buy", 100.0, 5.0)
    assert (order.is_accepted, order.is_changing) == (True, False)
    paper.trade(2, "Sell", "100.0", 2)
    assert (order.leaves, paper.view.position(LINEAR)) == (3.0, 2.0)
    paper.trade(3, "Sell", "100.0", 3)
    assert [each.leaves for each in paper.view.orders(LINEAR)] == [7.0]
    assert paper.view.position(LINEAR) == 5.0
    assert paper.view.orders(NOTHING) == []
    assert paper.view.position(NOTHING) == 0.0


def test_what_has_not_been_heard_is_not_known() -> None:
    paper = Paper(latency_ms=5, response_ms=10)
    paper.place(1, "Buy", 5)
    paper.book(6)
    (order,) = paper.view.orders(LINEAR)
    assert (order.is_accepted, order.price, order.leaves) == (False, 0.0, 5.0)
    assert (paper.view.position(LINEAR), paper.account.qty(LINEAR)) == (0.0, e12(5))
    paper.book(16)
    assert (paper.view.orders(LINEAR), paper.view.position(LINEAR)) == ([], 5.0)


def test_an_amendment_is_known_when_it_is_answered() -> None:
    paper = Paper(latency_ms=5, queue="none")
    order_id = paper.place(1, "Buy", 5, "100.0")
    paper.trade(6, "Sell", "100.0", 2)
    (order,) = paper.view.orders(LINEAR)
    paper.amend(7, order_id, qty=9, price="99.9")
    assert (order.is_amending, order.leaves, order.price) == (True, 3.0, 100.0)
    paper.book(20)
    assert (order.is_amending, order.leaves, order.price) == (False, 7.0, 99.9)


def test_an_amendment_sent_before_the_order_is_accepted_is_not_taken_for_it() -> None:
    paper = Paper(latency_ms=5)
    order_id = paper.place(1, "Buy", 5, "100.0")
    paper.amend(2, order_id, qty=3)
    paper.book(6)
    (order,) = paper.view.orders(LINEAR)
    assert (order.is_accepted, order.is_amending, order.leaves) == (True, True, 5.0)
    paper.book(7)
    assert (order.is_amending, order.leaves) == (False, 3.0)


def test_a_rejected_change_leaves_the_order_open() -> None:
    paper = Paper(latency_ms=5)
    order_id = paper.place(1, "Buy", 5, "100.0")
    paper.book(6)
    paper.amend(7, order_id, price="100.05")
    (order,) = paper.view.orders(LINEAR)
    assert order.is_amending
    paper.book(20)
    assert (order.is_amending, order.price) == (False, 100.0)
    paper.gap(21)
    paper.cancel(22, order_id)
    assert order.is_cancelling
    paper.view.desk.hear(Refusal(0, order_id, "script", LINEAR, "RISK_PAUSED"))
    assert paper.view.orders(LINEAR) == [order]


def test_a_rejected_cancel_of_a_live_order_lets_it_be_cancelled_again() -> None:
    paper = Paper()
    order_id = paper.place(1, "Buy", 5, "100.0")
    (order,) = paper.view.orders(LINEAR)
    order.is_cancelling = True
    answers = paper.engine.exchange._answers
    paper.view.desk.hear(answers.rejected("cancel", order_id, LINEAR, 0, 0, "110001"))
    assert not order.is_cancelling


@pytest.mark.parametrize("tif", ["PostOnly", "FOK"])
def test_an_order_that_did_not_go_in_is_no_longer_open(tif: str) -> None:
    paper = Paper()
    paper.place(1, "Buy", 500, "100.1", tif)
    assert len(paper.view.orders(LINEAR)) == 1
    paper.book(2)
    assert paper.view.orders(LINEAR) == []


def test_a_rejected_order_is_no_longer_open() -> None:
    paper = Paper(usdt=1)
    paper.place(1, "Buy", 5, "100.1")
    paper.book(2)
    assert paper.view.orders(LINEAR) == []


def test_changes_of_unknown_orders_are_nobodys() -> None:
    paper = Paper()
    paper.cancel(1, 4711)
    assert paper.ends() == [("Rejected", 1, 4711, "110001")]
    paper.book(2)
    assert paper.view.orders(LINEAR) == []


def test_a_spot_position_is_what_came_in_after_the_fee() -> None:
    paper = Paper(symbol=SPOT, instrument=rules(SPOT, qty_step="0.001", min_qty="0.001"))
    paper.step(fees(SPOT, Decimal("0.001"), Decimal("0.001")))
    paper.place(1, "Buy", 10, "100.1", "IOC")
    paper.book(2)
    assert paper.view.position(SPOT) == 9.99
    paper.place(3, "Sell", "9.99", "100.0", "IOC")
    paper.book(4)
    assert paper.view.position(SPOT) == 0.0
    assert paper.account.qty(SPOT) == 0
