"""Orders, amendments and cancels from their sending to their end."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from bot.core.events import Accepted, Amend, Cancel, ClockOffset, Fill, Rejected
from tests.builders import LINEAR, MS, SPOT, TOUCH, Paper, book, e12, rules, trade


def spot(**how: object) -> Paper:
    fine = rules(SPOT, qty_step="0.001", min_qty="0.001")
    return Paper(symbol=SPOT, instrument=fine, **how)


# --- takers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "tif", "price", "qty", "fills", "end"),
    [
        ("Buy", "IOC", "100.1", 150, [("100.1", "100")], "EC_NoImmediateQtyToFill"),
        ("Buy", "IOC", "100.0", 150, [], "EC_NoImmediateQtyToFill"),
        ("Sell", "IOC", "99.9", 150, [("100", "100"), ("99.9", "50")], None),
        ("Buy", "FOK", "100.2", 600, [("100.1", "100"), ("100.2", "500")], None),
        ("Buy", "FOK", "100.2", 601, [], "EC_CancelForNoFullFill"),
        ("Sell", "FOK", "99.9", 601, [], "EC_CancelForNoFullFill"),
        ("Buy", "PostOnly", "100.1", 1, [], "EC_PostOnlyWillTakeLiquidity"),
        ("Sell", "PostOnly", "100.0", 1, [], "EC_PostOnlyWillTakeLiquidity"),
        ("Buy", "GTC", "100.1", 150, [("100.1", "100")], None),
        ("Buy", "IOC", None, 150, [("100.1", "100"), ("100.2", "50")], None),
        ("Sell", "IOC", None, 150, [("100", "100"), ("99.9", "50")], None),
        ("Buy", "FOK", None, 601, [], "EC_CancelForNoFullFill"),
    ],
)
def test_an_order_that_meets_the_book(
    side: str, tif: str, price: str | None, qty: int, fills: list[tuple[str, str]], end: str | None
) -> None:
    paper = Paper()
    order = paper.place(1, side, qty, price, tif)
    assert [(p, q) for _, _, p, q, _ in paper.fills()] == fills
    assert paper.ends() == ([] if end is None else [("Cancelled", 1, order, end)])
    assert not any(fill.maker for fill in paper.made(Fill))


def test_a_gtc_remainder_rests_with_nobody_ahead() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 150, "100.1")
    assert paper.resting(order).leaves == e12(50)
    assert paper.ahead(order) == 0


def test_post_only_is_judged_on_what_is_left_for_us() -> None:
    paper = Paper()
    paper.place(1, "Buy", 100, "100.1", "IOC")
    order = paper.place(2, "Buy", 5, "100.1", "PostOnly")
    assert paper.ends() == []
    assert paper.ahead(order) == 0


def test_fok_counts_what_we_took_as_gone() -> None:
    paper = Paper()
    paper.place(1, "Buy", 1, "100.1", "IOC")
    order = paper.place(2, "Buy", 100, "100.1", "FOK")
    assert paper.ends() == [("Cancelled", 2, order, "EC_CancelForNoFullFill")]


@pytest.mark.parametrize(
    ("side", "far", "reached"), [("Buy", "105.1x9 105.2x9", "105.1"), ("Sell", "95x9 94.9x9", "95")]
)
def test_a_market_order_is_bounded_from_the_best_price(side: str, far: str, reached: str) -> None:
    paper = Paper(start=None)
    if side == "Buy":
        paper.book(0, "100.0x1", f"100.1x1 {far}", snapshot=True)
    else:
        paper.book(0, f"100.0x1 {far}", "100.1x1", snapshot=True)
    order = paper.place(1, side, 50)
    assert [price for _, _, price, _, _ in paper.fills()][1:] == [reached]
    assert paper.ends() == [("Cancelled", 1, order, "EC_NoImmediateQtyToFill")]


@pytest.mark.parametrize(("side", "book"), [("Buy", ("100.0x1", "")), ("Sell", ("", "100.1x1"))])
def test_a_market_order_into_nothing_is_cancelled(side: str, book: tuple[str, str]) -> None:
    paper = Paper(start=None)
    paper.book(0, *book, snapshot=True)
    order = paper.order(1, side, 1)
    paper.send(1, order)
    order = order.id
    paper.send(2, paper.order(2, side, 1, "100", "IOC"))
    assert paper.ends()[0] == ("Cancelled", 1, order, "EC_NoImmediateQtyToFill")
    assert paper.fills() == []
    assert paper.made(Accepted)[0].price is None


# --- arrival --------------------------------------------------------------------------------------


def test_an_order_arrives_before_the_first_event_at_its_due_time() -> None:
    paper = Paper(latency_ms=10)
    paper.place(1, "Buy", 5, "100.1", "IOC")
    paper.book(10.9, asks="100.1x3")
    assert paper.fills() == []
    paper.book(11, asks="100.1x0")
    assert paper.fills() == [(11, 1, "100.1", "3", "take")]


def test_what_is_due_is_never_before_the_exchange_clock() -> None:
    paper = Paper(latency_ms=10)
    paper.step(trade(50, "Buy", 100.1, 1, seq=5))
    paper.place(1, "Buy", 5, "100.1", "IOC")
    paper.book(51, asks="100.1x0")
    assert paper.filled() == [(50, "5")]


def test_the_clock_offset_is_taken_off_the_local_stamp_and_put_back_on_the_answer() -> None:
    paper = Paper(latency_ms=10, response_ms=4)
    paper.step(ClockOffset(0, -100 * MS))
    paper.place(1, "Buy", 5, "100.1", "IOC")
    paper.book(110.9)
    assert paper.fills() == []
    paper.book(111)
    (fill,) = paper.made(Fill)
    assert (fill.exchange_ts, fill.answer_ts) == (111 * MS, 15 * MS)


def test_with_latency_what_is_left_arrives_at_the_end_of_input() -> None:
    paper = Paper(latency_ms=10)
    paper.place(1, "Buy", 5, "100.1", "IOC")
    paper.finish()
    assert paper.fills() == [(11, 1, "100.1", "5", "take")]


def test_requests_of_a_symbol_arrive_in_due_order() -> None:
    paper = Paper(latency_ms=10)
    order = paper.place(1, "Buy", 5, "100.0")
    paper.amend(2, order, qty=4)
    paper.cancel(3, order)
    paper.cancel(4, order)
    paper.book(50)
    kinds = [(type(f).__name__, f.exchange_ts / MS) for f in paper.facts if hasattr(f, "answer_ts")]
    assert kinds == [("Accepted", 11), ("Accepted", 12), ("Cancelled", 13), ("Rejected", 14)]


def test_a_tick_of_exchange_time_lets_every_symbol_arrive() -> None:
    paper = Paper(latency_ms=10)
    paper.place(1, "Buy", 5, "100.1", "IOC")
    paper.tick(11)
    assert paper.filled() == [(11, "5")]


def test_accepted_says_what_is_ahead() -> None:
    paper = Paper(depth=2)
    for price in ("100.0", "99.9", "99.8", "99.95"):
        paper.place(1, "Buy", 5, price)
    assert [a.ahead for a in paper.made(Accepted)] == [100, 500, None]
    assert paper.ends()[0][3] == "10001"


def test_a_request_in_another_symbol_waits_for_its_own_clock() -> None:
    paper = Paper(latency_ms=10)
    paper.place(1, "Buy", 5, "100.1", "IOC")
    paper.step(trade(100, "Sell", "5", 1, symbol="linear:ETHUSDT", seq=9))
    assert paper.fills() == []


def test_a_cancel_travels_like_its_order() -> None:
    paper = Paper(latency_ms=10)
    order = paper.order(1, "Buy", 5, "100.0")
    paper.say(1, order, Cancel(1 * MS, order.id, LINEAR))
    paper.book(20)
    assert [type(f).__name__ for f in paper.facts[-2:]] == ["Accepted", "Cancelled"]
    assert paper.facts[-1].leaves == Decimal(5)


# --- gaps -----------------------------------------------------------------------------------------


def test_an_order_sent_into_a_gap_waits_for_the_snapshot() -> None:
    paper = Paper()
    paper.gap(1)
    order = paper.place(2, "Buy", 5, "100.1", "IOC")
    paper.trade(3, "Buy", "100.1", 1)
    paper.book(4, asks="100.1x50")
    assert paper.fills() == []
    paper.book(5, *TOUCH, snapshot=True)
    assert paper.fills() == [(5, order, "100.1", "5", "take")]


def test_a_request_due_after_the_snapshot_is_not_early() -> None:
    paper = Paper(latency_ms=10)
    paper.gap(1)
    paper.place(2, "Buy", 5, "100.1", "IOC")
    paper.book(5, *TOUCH, snapshot=True)
    assert paper.fills() == []
    paper.book(20)
    assert paper.filled() == [(12, "5")]


def test_a_cancel_that_is_due_in_a_gap_cancels() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0")
    paper.gap(2)
    paper.cancel(3, order)
    assert paper.ends() == [("Cancelled", 3, order, "EC_PerCancelRequest")]
    paper.book(5, "98x1", "99x100", snapshot=True)
    assert paper.fills() == []


def test_a_cancel_with_latency_in_a_gap_comes_before_the_snapshot_that_crosses() -> None:
    paper = Paper(latency_ms=10)
    order = paper.place(1, "Buy", 50, "100.0")
    paper.book(12)
    paper.gap(20)
    paper.cancel(21, order)
    paper.book(40, "98x1", "99x100", snapshot=True)
    assert paper.fills() == []
    assert paper.ends() == [("Cancelled", 31, order, "EC_PerCancelRequest")]


def test_a_cancel_does_not_overtake_its_order_in_a_gap() -> None:
    paper = Paper(latency_ms=10)
    resting = paper.place(1, "Buy", 50, "100.0")
    paper.book(12)
    paper.gap(20)
    order = paper.place(21, "Buy", 5, "99.9")
    paper.cancel(22, order)
    paper.cancel(23, resting)
    paper.tick(40)
    assert paper.ends() == [("Cancelled", 33, resting, "EC_PerCancelRequest")]
    paper.book(50, *TOUCH, snapshot=True)
    assert paper.ends()[1:] == [("Cancelled", 50, order, "EC_PerCancelRequest")]
    assert paper.made(Accepted)[-1].order_id == order


def test_a_crossed_book_is_a_gap_until_a_snapshot() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0")
    paper.book(2, asks="99.9x9")
    paper.trade(3, "Sell", "100.0", 500)
    paper.book(4, asks="99.9x0")
    paper.trade(5, "Sell", "100.0", 500)
    assert paper.fills() == []
    paper.book(6, "100.0x60", "100.1x5", snapshot=True)
    paper.trade(7, "Sell", "100.0", 61)
    assert paper.fills() == [(7, order, "100", "1", "queue")]


def test_the_end_of_input_in_a_gap_leaves_no_request_unanswered() -> None:
    paper = Paper(latency_ms=10)
    resting = paper.place(1, "Buy", 5, "100.0")
    other = paper.place(1, "Buy", 5, "99.9")
    paper.book(12)
    paper.gap(13)
    paper.cancel(14, resting)
    paper.amend(15, other, qty=3)
    limit = paper.place(16, "Buy", 5, "99.9")
    market = paper.order(17, "Buy", 5)
    paper.send(17, market)
    paper.finish()
    assert sorted(paper.ends(), key=lambda end: end[1]) == [
        ("Cancelled", 24, resting, "EC_PerCancelRequest"),
        ("Rejected", 25, other, "NoMarketData"),
        ("Cancelled", 26, limit, "NoMarketData"),
        ("Cancelled", 27, market.id, "NoMarketData"),
    ]


# --- amend and cancel -----------------------------------------------------------------------------


def test_less_quantity_keeps_the_place() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0")
    paper.trade(2, "Sell", "100.0", 70)
    paper.amend(3, order, qty=20)
    assert paper.ahead(order) == 30
    assert paper.resting(order).leaves == e12(20)


@pytest.mark.parametrize("change", [{"qty": 51}, {"price": "99.9"}, {"price": "99.9", "qty": 20}])
def test_any_other_change_loses_it(change: dict[str, object]) -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.0")
    behind = paper.place(1, "Buy", 5, "100.0")
    paper.trade(2, "Sell", "100.0", 70)
    paper.amend(3, order, **change)
    assert paper.ahead(order) == (100 if "price" not in change else 500)
    assert paper.ahead(behind) == 30
    assert paper.resting(order).number > paper.resting(behind).number


def test_the_total_of_an_amendment_counts_what_is_filled() -> None:
    paper = Paper(queue="none")
    order = paper.place(1, "Buy", 50, "100.0")
    paper.trade(2, "Sell", "100.0", 20)
    paper.amend(3, order, qty=30)
    assert paper.resting(order).leaves == e12(10)
    paper.send(4, Amend(4 * MS, order, LINEAR, qty=Decimal(20)))
    assert paper.ends() == [("Rejected", 4, order, "10001")]


def test_the_answer_to_an_amendment_is_heard_after_the_amendment() -> None:
    paper = Paper(latency_ms=10, response_ms=5)
    order = paper.place(1, "Buy", 50, "100.0")
    paper.book(20)
    paper.amend(30, order, qty=20)
    paper.book(40)
    placed, amended = paper.made(Accepted)
    assert (placed.exchange_ts, placed.answer_ts) == (11 * MS, 16 * MS)
    assert (amended.exchange_ts, amended.answer_ts, amended.qty) == (40 * MS, 45 * MS, 20)


def test_a_reduce_only_order_is_not_amended_beyond_the_position() -> None:
    paper = Paper(queue="none")
    paper.place(1, "Buy", 10)
    order = paper.place(2, "Sell", 4, "100.5", reduce_only=True)
    paper.trade(3, "Buy", "100.5", 1)
    paper.amend(4, order, qty=50)
    assert (paper.resting(order).qty, paper.resting(order).leaves) == (e12(10), e12(9))


def test_an_amendment_may_take_or_be_refused_like_an_order() -> None:
    paper = Paper()
    gtc = paper.place(1, "Buy", 50, "100.0")
    post_only = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.amend(2, gtc, price="100.1")
    paper.amend(3, post_only, price="100.1", qty=51)
    assert paper.fills() == [(2, gtc, "100.1", "50", "take")]
    assert paper.ends() == [("Cancelled", 3, post_only, "EC_PostOnlyWillTakeLiquidity")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"price": "100.05"}, "10001"), ({"price": "0"}, "10001"), ({"qty": "1.5"}, "10001"),
     ({"qty": "0"}, "10001"), ({"price": "0.1", "qty": "7"}, "110094"),
     ({"qty": "100000000"}, "110007")],
)  # fmt: skip
def test_an_amendment_is_judged_like_an_order(change: dict[str, str], reason: str) -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "99.0")
    price, qty = (Decimal(change[key]) if key in change else None for key in ("price", "qty"))
    paper.send(2, Amend(2 * MS, order, LINEAR, price, qty))
    assert paper.ends() == [("Rejected", 2, order, reason)]
    assert paper.made(Rejected)[0].request == "amend"
    assert (paper.resting(order).price, paper.resting(order).qty) == (e12(99), e12(50))


def test_an_amendment_does_not_pay_for_its_own_margin_twice() -> None:
    paper = Paper(usdt=1000)
    order = paper.place(1, "Buy", 60, "100.0")
    paper.amend(2, order, qty=90)
    paper.amend(3, order, qty=110)
    assert paper.ends() == [("Rejected", 3, order, "110007")]
    assert paper.resting(order).qty == e12(90)


def test_a_spot_sell_is_not_amended_beyond_what_is_held() -> None:
    paper = spot()
    paper.place(1, "Buy", 10, "100.1")
    order = paper.place(2, "Sell", 5, "100.5")
    paper.amend(3, order, qty=10)
    assert paper.ends() == [("Rejected", 3, order, "170131")]
    paper.amend(4, order, qty="9.9")
    assert paper.resting(order).qty == e12("9.9")


@pytest.mark.parametrize("request_", ["amend", "cancel"])
def test_what_is_not_open_cannot_be_changed(request_: str) -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 50, "100.1", "IOC")
    if request_ == "amend":
        paper.send(2, Amend(2 * MS, order, LINEAR))
    else:
        paper.cancel(2, order)
    (rejected,) = paper.made(Rejected)
    assert (rejected.reason, rejected.request) == ("110001", request_)


def test_a_cancel_of_a_partly_filled_order_says_what_was_left() -> None:
    paper = Paper(queue="none")
    order = paper.place(1, "Sell", 50, "100.1")
    paper.trade(2, "Buy", "100.1", 20)
    facts = paper.cancel(3, order)
    assert (facts[-1].leaves, facts[-1].reason) == (30, "EC_PerCancelRequest")


def test_a_symbol_without_rules_is_refused() -> None:
    paper = Paper()
    unknown = "linear:XUSDT"
    paper.step(book(0, *TOUCH, snapshot=True, symbol=unknown))
    order = replace(paper.order(1, "Buy", 1, "100.0"), symbol=unknown)
    paper.send(1, order)
    assert paper.ends() == [("Rejected", 1, order.id, "10029")]
