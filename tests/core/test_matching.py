"""Fills of resting orders: queue, through, cross, what was taken, who shares a trade."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.core.events import ClockOffset, Fill, Tick
from tests.builders import LINEAR, MS, SPOT, Paper, e12, fees, rules, trade

# --- the queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "price", "taker", "policy", "filled"),
    [
        ("Buy", "100.0", "Sell", "conservative", [(3, "10"), (4, "40")]),
        ("Sell", "100.1", "Buy", "conservative", [(3, "10"), (4, "40")]),
        ("Buy", "100.0", "Sell", "probabilistic", [(3, "10"), (4, "40")]),
        ("Buy", "100.0", "Sell", "none", [(2, "50")]),
    ],
)
def test_trades_eat_the_queue_then_us(
    side: str, price: str, taker: str, policy: str, filled: list[tuple[float, str]]
) -> None:
    paper = Paper(queue=policy)
    paper.place(1, side, 50, price, "PostOnly")
    for t, qty in ((2, 80), (3, 30), (4, 50)):
        paper.trade(t, taker, price, qty)
    assert paper.filled() == filled


def test_a_fill_says_what_caused_it() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.trade(2, "Sell", "100.0", 130, seq=77)
    (fill,) = paper.made(Fill)
    assert (fill.cause, fill.cause_seq, fill.order_id, fill.maker) == ("queue", 77, order, True)
    assert (fill.ahead_at_arrival, fill.leaves, fill.policy) == (100, 20, "conservative")
    assert (fill.fee, fill.fee_coin, fill.position) == (Decimal("0.6"), "USDT", 30)


def test_the_other_side_of_a_trade_leaves_us_alone() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.trade(2, "Buy", "100.0", 500)
    paper.trade(3, "Sell", "100.1", 500)
    assert paper.filled() == []
    assert paper.ahead(order) == 100


@pytest.mark.parametrize("kind", ["block", "rpi"])
def test_block_and_rpi_trades_never_match(kind: str) -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.trade(2, "Sell", "99.0", 500, **{kind: True})
    assert paper.filled() == []
    assert paper.ahead(order) == 100


def test_a_queue_without_trades_shrinks_only_to_what_is_shown() -> None:
    paper = Paper()
    order = paper.place(1, "Sell", 50, "100.1", "PostOnly")
    paper.book(2, asks="100.1x150")
    assert paper.ahead(order) == 100
    paper.book(3, asks="100.1x30")
    assert paper.ahead(order) == 30
    paper.book(4, asks="100.1x0")
    assert paper.ahead(order) == 0


def test_probabilistic_counts_the_trades_since_the_last_book() -> None:
    paper = Paper(queue="probabilistic")
    order = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.book(2, "100.0x200")
    paper.trade(3, "Sell", "100.0", 40)
    paper.book(4, "100.0x160")
    assert paper.ahead(order) == 60


def test_probabilistic_a_snapshot_is_judged_conservatively() -> None:
    paper = Paper(queue="probabilistic")
    order = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.gap(2)
    paper.book(3, "100.0x90", "100.1x1", snapshot=True)
    assert paper.ahead(order) == 90
    paper.book(4, "100.0x95", "100.1x1")
    paper.gap(5)
    paper.book(6, "100.0x91", "100.1x1", snapshot=True)
    assert paper.ahead(order) == 90


# --- beyond the visible depth ---------------------------------------------------------------------


def test_an_order_at_an_unseen_level_stands_behind_what_is_first_displayed() -> None:
    paper = Paper(depth=2)
    order = paper.place(1, "Buy", 30, "99.8")
    paper.book(2, "100.0x90")
    assert paper.ahead(order) is None
    paper.trade(3, "Sell", "99.8", 500)
    assert paper.fills() == []
    paper.book(4, "100.0x0 99.8x200")
    assert paper.ahead(order) == 200
    paper.trade(5, "Sell", "99.8", 201)
    (fill,) = paper.made(Fill)
    assert (fill.qty, fill.ahead_at_arrival) == (1, 200)


@pytest.mark.parametrize(("event", "ahead"), [("through", None), ("cross", 0)])
def test_an_order_at_an_unseen_level_is_filled_by_what_goes_beyond_it(
    event: str, ahead: int | None
) -> None:
    paper = Paper(depth=2)
    paper.place(1, "Sell", 30, "100.3")
    if event == "through":
        paper.trade(2, "Buy", "100.4", 5)
    else:
        paper.book(2, "100.3x5", "100.1x0 100.2x0 100.4x1 100.5x1")
    (fill,) = paper.made(Fill)
    assert (fill.cause, fill.qty, fill.ahead_at_arrival) == (event, 5, ahead)


def test_a_level_that_leaves_the_view_keeps_its_queue() -> None:
    paper = Paper(depth=2)
    order = paper.place(1, "Sell", 30, "100.2")
    paper.book(2, asks="100.0x0 99.9x0 100.05x1 100.2x0", bids="100.0x100")
    paper.book(3, asks="100.05x2")
    assert paper.ahead(order) == 500
    paper.book(4, asks="100.05x0 100.2x520")
    assert paper.ahead(order) == 500
    paper.book(5, asks="100.2x0")
    assert paper.ahead(order) == 0


def test_without_a_queue_policy_an_unseen_level_is_empty() -> None:
    paper = Paper(depth=2, queue="none")
    paper.place(1, "Buy", 30, "99.8")
    paper.trade(2, "Sell", "99.8", 5)
    assert paper.filled() == [(2, "5")]


# --- our own orders share -------------------------------------------------------------------------


def test_a_lot_that_fills_one_of_our_orders_is_gone_for_the_next() -> None:
    paper = Paper(queue="none")
    first = paper.place(1, "Buy", 5, "100.0")
    second = paper.place(2, "Buy", 5, "100.0")
    paper.trade(3, "Sell", "100.0", 7)
    assert paper.fills() == [(3, first, "100", "5", "queue"), (3, second, "100", "2", "queue")]


def test_price_goes_before_arrival() -> None:
    paper = Paper(queue="none")
    worse = paper.place(1, "Buy", 5, "99.9")
    better = paper.place(2, "Buy", 5, "100.0")
    paper.trade(3, "Sell", "99.9", 7)
    assert paper.fills() == [(3, better, "100", "5", "through"), (3, worse, "99.9", "2", "queue")]


def test_our_fill_does_not_move_the_queue_of_our_next_order() -> None:
    paper = Paper()
    first = paper.place(1, "Buy", 5, "100.0")
    second = paper.place(2, "Buy", 5, "100.0")
    paper.trade(3, "Sell", "100.0", 103)
    assert paper.fills() == [(3, first, "100", "3", "queue")]
    assert paper.ahead(second) == 0
    paper.trade(4, "Sell", "100.0", 4)
    assert [f[1:4] for f in paper.fills()[1:]] == [(first, "100", "2"), (second, "100", "2")]


def test_what_our_order_took_of_a_trade_is_no_queue_that_went() -> None:
    paper = Paper(queue="conservative")
    paper.place(1, "Buy", 60, "100.0")
    paper.trade(2, "Sell", "100.0", 100)
    paper.book(3, "100.0x80")
    second = paper.place(4, "Buy", 5, "100.0")
    paper.trade(5, "Sell", "100.0", 70)
    assert paper.ahead(second) == 70
    assert paper.filled() == [(5, "60")]


# --- through --------------------------------------------------------------------------------------


def test_a_trade_through_fills_its_own_quantity_once() -> None:
    paper = Paper()
    first = paper.place(1, "Buy", 5, "100.0")
    second = paper.place(2, "Buy", 5, "99.9")
    paper.trade(3, "Sell", "99.8", 8)
    assert paper.fills() == [(3, first, "100", "5", "through"), (3, second, "99.9", "3", "through")]
    assert paper.ahead(second) == 0


def test_full_through_fills_everything_better_than_the_trade() -> None:
    paper = Paper(through="full")
    paper.place(1, "Sell", 50, "100.1")
    paper.place(2, "Sell", 50, "100.2")
    paper.trade(3, "Buy", "100.3", 1)
    assert paper.filled() == [(3, "50"), (3, "50")]


def test_full_through_leaves_the_trade_to_those_at_its_price() -> None:
    paper = Paper(through="full", queue="none")
    paper.place(1, "Buy", 50, "100.0")
    at_price = paper.place(2, "Buy", 50, "99.9")
    paper.trade(3, "Sell", "99.9", 8)
    assert paper.filled() == [(3, "50"), (3, "8")]
    assert paper.resting(at_price).leaves == e12(42)


# --- late and early trades ------------------------------------------------------------------------


def test_a_trade_that_the_book_at_arrival_shows_already_is_not_news() -> None:
    paper = Paper()
    paper.book(1, "100.0x5", seq=10)
    order = paper.place(2, "Buy", 50, "100.0")
    paper.trade(3, "Sell", "100.0", 60, seq=9)
    paper.trade(3, "Sell", "99.9", 60, seq=10)
    assert paper.filled() == []
    assert paper.ahead(order) == 5
    paper.trade(3, "Sell", "100.0", 6, seq=11)
    assert paper.filled() == [(3, "1")]


def test_an_order_that_lost_its_place_met_the_book_anew() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "99.9")
    paper.book(2, "100.0x5", seq=10)
    paper.amend(3, order, price="100.0")
    paper.trade(4, "Sell", "100.0", 60, seq=9)
    assert paper.filled() == []
    assert paper.ahead(order) == 5


def test_a_late_print_from_inside_a_gap_does_not_fill() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0")
    paper.gap(2)
    paper.book(5, "100.0x80", "100.1x100", snapshot=True, seq=50)
    paper.trade(6, "Sell", "100.0", 500, seq=45)
    paper.trade(6, "Sell", "99.0", 500, seq=46)
    assert paper.filled() == []
    assert paper.ahead(order) == 80


def test_a_trade_of_unknown_seq_counts() -> None:
    paper = Paper()
    paper.place(1, "Buy", 50, "100.0")
    paper.trade(2, "Sell", "100.0", 101, seq=0)
    assert paper.filled() == [(2, "1")]


def test_a_trade_from_before_the_arrival_moves_the_queue_and_fills_nothing() -> None:
    paper = Paper(latency_ms=10)
    order = paper.place(1, "Buy", 50, "100.0")
    paper.book(20, "99.9x501")
    paper.trade(8, "Sell", "100.0", 130)
    assert paper.filled() == []
    assert paper.ahead(order) == 0
    paper.trade(21, "Sell", "100.0", 3)
    assert paper.filled() == [(21, "3")]


def test_a_through_trade_from_before_the_arrival_proves_nothing() -> None:
    paper = Paper(latency_ms=10)
    order = paper.place(1, "Buy", 50, "100.0")
    paper.book(20, "99.9x501")
    paper.trade(8, "Sell", "99.0", 130)
    assert paper.filled() == []
    assert paper.ahead(order) == 100


# --- the book meets us, and what we took stays taken ----------------------------------------------


@pytest.mark.parametrize(
    ("side", "price", "book"),
    [("Buy", "100.0", {"asks": "100.0x1"}), ("Sell", "100.1", {"bids": "100.1x1"})],
)
def test_a_book_that_meets_our_price_fills_us_once_per_lot(
    side: str, price: str, book: dict[str, str]
) -> None:
    paper = Paper()
    paper.place(1, side, 50, price)
    paper.book(2, **book)
    paper.book(3, **book)
    paper.book(4, **{key: text.replace("x1", "x3") for key, text in book.items()})
    assert paper.filled() == [(2, "1"), (4, "2")]
    assert {fill.maker for fill in paper.made(Fill)} == {True}


def test_a_crossing_book_is_shared_by_price_then_arrival() -> None:
    paper = Paper()
    first = paper.place(1, "Buy", 5, "100.0")
    second = paper.place(2, "Buy", 5, "100.0")
    paper.book(3, "100.0x0 99.9x0", "99.9x4 100.0x3")
    assert paper.fills() == [(3, first, "100", "5", "cross"), (3, second, "100", "2", "cross")]


def test_a_book_from_before_the_arrival_does_not_cross_us() -> None:
    paper = Paper()
    paper.step(ClockOffset(0, -10 * MS))
    order = paper.order(1, "Buy", 5, "100.0")
    paper.step(Tick(1 * MS))
    paper.send(1, order)
    assert paper.resting(order.id).arrived_ns == 11 * MS
    paper.book(10.9, asks="100.0x3")
    assert paper.fills() == []
    paper.book(11)
    assert paper.filled() == [(11, "3")]


def test_only_levels_that_gave_something_are_marked() -> None:
    paper = Paper()
    paper.place(1, "Buy", 3, "100.0")
    paper.book(2, "100.0x0 99.9x0", "99.8x3 99.9x5 100.0x7")
    marks = paper.engine.exchange._symbols[LINEAR].taken_asks.marks
    assert marks == {e12("99.8"): e12(3)}


def test_a_lot_taken_by_a_taker_does_not_cross_us_later() -> None:
    paper = Paper()
    paper.place(1, "Buy", 150, "100.1")
    paper.book(2, asks="100.1x100")
    assert paper.filled() == [(1, "100")]
    paper.book(3, asks="100.1x90")
    paper.book(4, asks="100.1x100")
    assert paper.filled() == [(1, "100"), (4, "10")]


def test_two_takers_do_not_get_the_same_lot() -> None:
    paper = Paper()
    paper.place(1, "Sell", 80, "100.0", "IOC")
    paper.place(2, "Sell", 80, "100.0", "IOC")
    assert paper.filled() == [(1, "80"), (2, "20")]


# --- reduce-only ----------------------------------------------------------------------------------


def test_a_reduce_only_order_fills_no_more_than_the_position() -> None:
    paper = Paper(queue="none")
    paper.place(1, "Buy", 10)
    paper.place(2, "Sell", 10, "100.2", reduce_only=True)
    paper.place(3, "Sell", 4, "100.0", "IOC")
    paper.trade(4, "Buy", "100.2", 50)
    assert paper.filled() == [(1, "10"), (3, "4"), (4, "6")]
    assert paper.account.qty(LINEAR) == 0
    assert paper.ends() == [("Cancelled", 4, 2, "CancelByReduceOnly")]


def test_a_reduce_only_order_goes_when_the_position_goes() -> None:
    paper = Paper(queue="none")
    paper.place(1, "Sell", 10)
    reducing = paper.place(2, "Buy", 10, "100.0", reduce_only=True)
    paper.place(3, "Buy", 10)
    assert paper.ends() == [("Cancelled", 3, reducing, "CancelByReduceOnly")]
    assert paper.made(Fill)[-1].position == 0


def test_of_two_reduce_only_orders_the_second_is_gone_with_the_position() -> None:
    paper = Paper(queue="none")
    paper.place(1, "Buy", 5)
    paper.place(2, "Sell", 5, "100.2", reduce_only=True)
    second = paper.place(3, "Sell", 5, "100.2", reduce_only=True)
    paper.trade(4, "Buy", "100.3", 50)
    assert paper.filled() == [(1, "5"), (4, "5")]
    assert paper.ends() == [("Cancelled", 4, second, "CancelByReduceOnly")]


# --- money of a fill ------------------------------------------------------------------------------


def test_a_rebate_is_a_negative_fee() -> None:
    paper = Paper(queue="none")
    paper.step(fees(maker=Decimal("-0.0001")))
    paper.place(1, "Buy", 10, "100.0")
    paper.trade(2, "Sell", "100.0", 10)
    (fill,) = paper.made(Fill)
    assert fill.fee == Decimal("-0.1")
    assert paper.account.wallet == 1_000_000 * 10**8 + 10**7


def test_a_spot_buy_pays_its_fee_in_the_coin() -> None:
    paper = Paper(symbol=SPOT, instrument=rules(SPOT, qty_step="0.001", min_qty="0.001"))
    paper.place(1, "Buy", "2", "100.1")
    (fill,) = paper.made(Fill)
    assert (fill.fee, fill.fee_coin, fill.position) == (Decimal("0.0011"), "BTC", Decimal("1.9989"))


def test_trades_of_another_symbol_leave_us_alone() -> None:
    paper = Paper(queue="none")
    paper.place(1, "Buy", 10, "100.0")
    paper.step(trade(2, "Sell", "100.0", 10, symbol="linear:ETHUSDT", seq=9))
    assert paper.filled() == []
