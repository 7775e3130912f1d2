"""What the venue refuses on arrival: its limits, margin, and coins that are not held."""

from __future__ import annotations

import pytest

from bot.core.admission import MAX_ACTIVE_ORDERS
from bot.core.events import Accepted
from tests.builders import LINEAR, SPOT, Paper, e12, rules


def spot(**how: object) -> Paper:
    fine = rules(SPOT, qty_step="0.001", min_qty="0.001")
    return Paper(symbol=SPOT, instrument=fine, **how)


# --- the venue's rules ----------------------------------------------------------------------------


def test_the_number_of_active_orders_is_limited() -> None:
    paper = Paper()
    orders = [paper.order(1, "Buy", 1, "99.0") for _ in range(MAX_ACTIVE_ORDERS + 1)]
    paper.say(1, *orders)
    assert paper.ends() == [("Rejected", 1, orders[-1].id, "110020")]
    paper.cancel(2, orders[0].id)
    assert paper.amend(3, orders[1].id, qty=2)
    more = paper.place(4, "Buy", 1, "99.0")
    paper.amend(5, more, qty=2)
    assert [end[0] for end in paper.ends()] == ["Rejected", "Cancelled"]


def test_the_number_of_active_spot_orders_is_limited() -> None:
    paper = spot()
    orders = [paper.order(1, "Buy", 1, "99.0") for _ in range(MAX_ACTIVE_ORDERS + 1)]
    paper.say(1, *orders)
    assert [end[3] for end in paper.ends()] == ["170810"]


def test_reduce_only_needs_something_to_reduce() -> None:
    paper = Paper()
    paper.place(1, "Sell", 5, "100.1", reduce_only=True)
    paper.place(2, "Buy", 5)
    paper.place(3, "Buy", 5, "99.0", reduce_only=True)
    assert [end[3] for end in paper.ends()] == ["110017", "110017"]


def test_reduce_only_is_cut_to_the_position() -> None:
    paper = Paper()
    paper.place(1, "Buy", 5)
    order = paper.place(2, "Sell", 50, "100.5", reduce_only=True)
    assert paper.made(Accepted)[-1].qty == 5
    assert paper.resting(order).leaves == e12(5)


def test_an_order_without_margin_is_refused() -> None:
    paper = Paper(usdt=100)
    paper.place(1, "Buy", 10, "100.0")
    refused = paper.place(2, "Buy", 1, "99.9")
    assert paper.ends() == [("Rejected", 2, refused, "110007")]


def test_margin_held_by_positions_counts() -> None:
    paper = Paper(usdt=105)
    paper.place(1, "Buy", 10, "100.1")
    refused = paper.place(2, "Buy", 1, "99.9")
    assert paper.ends() == [("Rejected", 2, refused, "110007")]
    paper.place(3, "Sell", 20, "100.0", "IOC")
    assert len(paper.ends()) == 1
    assert paper.account.qty(LINEAR) == e12(-10)


def test_reduce_only_orders_hold_no_margin() -> None:
    paper = Paper(usdt=105)
    paper.place(1, "Buy", 5, "100.1")
    paper.place(2, "Sell", 5, "110", reduce_only=True)
    paper.place(3, "Buy", 5, "100.0")
    assert paper.ends() == []


@pytest.mark.parametrize("price", ["1.0", None])
def test_a_sell_needs_the_margin_of_what_it_will_fetch(price: str | None) -> None:
    paper = Paper(usdt=100)
    refused = paper.place(1, "Sell", 90, price, "IOC")
    assert paper.ends() == [("Rejected", 1, refused, "110007")]


def test_a_market_order_below_the_minimum_notional_is_refused_unless_it_reduces() -> None:
    fine = rules(qty_step="0.01", min_qty="0.01")
    paper = Paper(instrument=fine)
    refused = paper.place(1, "Buy", "0.04")
    assert paper.ends() == [("Rejected", 1, refused, "110094")]
    paper.place(2, "Buy", "0.06")
    paper.place(3, "Sell", "0.02", reduce_only=True)
    assert len(paper.ends()) == 1


# --- spot -----------------------------------------------------------------------------------------


def test_spot_is_paid_for_in_full() -> None:
    paper = spot(usdt=1000)
    paper.place(1, "Buy", 6, "100.0")
    refused = paper.place(2, "Buy", 6, "100.0")
    assert paper.ends() == [("Rejected", 2, refused, "170131")]


def test_a_spot_market_buy_is_paid_for_at_the_prices_it_takes() -> None:
    paper = spot(usdt=1000, start=("100.0x5", "100.1x1 104x50"))
    refused = paper.place(1, "Buy", 9.9)
    assert paper.ends() == [("Rejected", 1, refused, "170131")]
    paper.place(2, "Buy", 9.6)
    assert paper.account.wallet >= 0
    assert len(paper.fills()) == 2


def test_only_what_is_held_can_be_sold_on_spot() -> None:
    paper = spot()
    refused = paper.place(1, "Sell", 1)
    paper.place(2, "Buy", 2, "100.1")
    paper.place(3, "Sell", 1, "100.5")
    twice = paper.place(4, "Sell", 1, "100.5")
    assert [end[2:] for end in paper.ends()] == [(refused, "170131"), (twice, "170131")]
    paper.place(5, "Sell", "0.99")
    assert paper.account.qty(SPOT) == e12("1.0089")


def test_coins_offered_on_spot_hold_no_money() -> None:
    paper = spot(usdt=1000)
    paper.place(1, "Buy", 5, "100.1")
    paper.place(2, "Sell", "4.9", "200")
    paper.place(3, "Buy", "4.9", "100.1", "IOC")
    assert paper.ends() == []
