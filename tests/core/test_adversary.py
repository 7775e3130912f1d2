"""Strategies that try to exploit the simulation gain nothing that the market data does not justify.

``docs/fills.md`` has a paragraph on each.
"""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.events import Cancelled, Fill, Rejected
from tests.builders import LINEAR, MS, TOUCH, Paper, e12, rules

POLICIES = ["conservative", "probabilistic", "none"]


# --- orders beyond the visible depth ------------------------------------------------------------


@pytest.mark.parametrize("queue", ["conservative", "probabilistic"])
def test_nobody_is_first_in_line_where_nothing_is_visible(queue: str) -> None:
    paper = Paper(start=("100.0x5 99.9x5", "100.1x5 100.2x5"), depth=2, queue=queue)
    order = paper.place(1, "Buy", 10, "99.0", "PostOnly")
    assert paper.ahead(order) is None
    paper.trade(2, "Sell", "99.0", 50)
    assert paper.fills() == []
    paper.book(3, "100.0x0 99.9x0 99.1x5 99.0x400")
    assert paper.ahead(order) == 400
    paper.trade(4, "Sell", "99.0", 400)
    assert paper.fills() == []


# --- stale prices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("latency_ms", [1, 20])
def test_a_price_that_was_good_is_taken_only_if_it_still_is(latency_ms: float) -> None:
    paper = Paper(latency_ms=latency_ms)
    paper.place(10, "Buy", 50, "100.1", "IOC")
    paper.book(10 + latency_ms / 2, "100.0x10", "100.1x0 100.2x0 103x50")
    paper.tick(50)
    assert paper.fills() == []


def test_nothing_is_had_at_the_prices_of_before_a_gap() -> None:
    paper = Paper()
    paper.gap(1)
    paper.place(2, "Buy", 50, "100.1", "IOC")
    paper.place(2, "Sell", 50, "100.0", "IOC")
    paper.tick(5)
    paper.book(6, "90.0x10", "90.1x10", snapshot=True)
    assert [fill[2:4] for fill in paper.fills()] == [("90.1", "10")]


# --- cancel storms around trades ----------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(POLICIES))
def test_cancelling_before_bad_trades_needs_to_have_known_them(seed: int, queue: str) -> None:
    """However an order is cancelled and placed again, each trade fills what it brought."""
    random = Random(seed)
    paper = Paper(latency_ms=5, queue=queue)
    open_order = paper.place(1, "Buy", 20, "100.0", "PostOnly")
    t, traded = 10.0, Fraction(0)
    for _ in range(40):
        t += random.randint(1, 8)
        kind = random.choice(("storm", "trade", "book"))
        if kind == "storm":
            paper.cancel(t, open_order)
            open_order = paper.place(t, "Buy", 20, "100.0", "PostOnly")
        elif kind == "trade":
            qty = random.randint(1, 60)
            before = sum(Fraction(fill.qty) for fill in paper.made(Fill))
            paper.trade(t, "Sell", "100.0", qty)
            after = sum(Fraction(fill.qty) for fill in paper.made(Fill))
            assert after - before <= qty
            traded += qty
        else:
            paper.book(t, f"100.0x{random.randint(0, 200)}")
    assert sum(Fraction(fill.qty) for fill in paper.made(Fill)) <= traded


def test_a_cancel_does_not_outrun_a_trade_that_was_before_it() -> None:
    paper = Paper(latency_ms=5, queue="none")
    order = paper.place(1, "Buy", 10, "100.0", "PostOnly")
    paper.tick(20)
    paper.cancel(30, order)
    paper.trade(34, "Sell", "100.0", 10)
    paper.tick(60)
    assert paper.filled() == [(34, "10")]


def test_placing_again_means_the_end_of_the_queue() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 10, "100.0", "PostOnly")
    paper.trade(2, "Sell", "100.0", 99)
    assert paper.ahead(order) == 1
    paper.cancel(3, order)
    again = paper.place(3, "Buy", 10, "100.0", "PostOnly")
    assert paper.ahead(again) == 100


# --- self-crossing --------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", POLICIES)
def test_crossing_oneself_trades_with_nobody(queue: str) -> None:
    paper = Paper(start=("99.0x100", "101.0x100"), queue=queue)
    paper.place(1, "Buy", 10, "100.0")
    paper.place(2, "Sell", 10, "100.0", "IOC")
    paper.place(3, "Sell", 10, "99.5")
    paper.book(4)
    assert paper.fills() == []
    paper.trade(5, "Sell", "99.4", 6)
    assert sum(int(qty) for _, qty in paper.filled()) == 6
    paper.book(6, "99.5x4")
    sold = [fill for fill in paper.made(Fill) if fill.side == "Sell"]
    assert sum(int(fill.qty) for fill in sold) == 4


# --- dust -----------------------------------------------------------------------------------------


def test_dust_below_the_smallest_value_is_rejected() -> None:
    paper = Paper(instrument=rules(qty_step="0.001", min_qty="0.001"))
    for t in range(1, 50):
        paper.place(t, "Buy", "0.001", "100.1", "IOC")
    assert {end[3] for end in paper.ends()} == {"110094"}
    assert paper.fills() == []


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400))
def test_many_small_fills_cost_what_one_large_one_costs(parts: int) -> None:
    """Within half a unit of 1e-8 each: rounding cannot be farmed."""
    fine = rules(qty_step="0.001", min_qty="0.001", min_notional="0", tick_size="0.1")
    many, one = (Paper(instrument=fine, start=("100.0x900", "100.1x900")) for _ in range(2))
    many.say(1, *(many.order(1, "Buy", "0.007", "100.1", "IOC") for _ in range(parts)))
    one.place(1, "Buy", f"{parts * 7 / 1000:.3f}", "100.1", "IOC")
    assert many.account.qty(LINEAR) == one.account.qty(LINEAR) == e12(f"{parts * 7 / 1000:.3f}")
    assert abs(many.account.wallet - one.account.wallet) <= parts // 2 + 1


# --- latency of zero ------------------------------------------------------------------------------


def test_without_latency_the_trade_that_was_seen_is_over() -> None:
    paper = Paper(queue="none")
    paper.trade(1, "Sell", "99.5", 50)
    order = paper.place(1, "Buy", 50, "100.0", "PostOnly")
    paper.trade(1, "Sell", "99.5", 50, seq=1)
    assert paper.resting(order).leaves == e12(50)


def test_without_latency_a_displayed_lot_is_taken_once() -> None:
    paper = Paper()
    for t in range(1, 20):
        paper.place(t, "Buy", 100, "100.1", "IOC")
        paper.book(t, *TOUCH)
    assert sum(int(qty) for _, qty in paper.filled()) == 100
    assert {type(fact) for fact in paper.facts} >= {Fill, Cancelled}
    assert not paper.made(Rejected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_buying_and_selling_at_once_never_earns_from_a_book_that_stands(seed: int) -> None:
    """Whatever is sent into a market that does not move, it costs the spread and the fees."""
    random = Random(seed)
    paper = Paper()
    for number in range(30):
        side = random.choice(("Buy", "Sell"))
        price = f"{100 + random.randint(-3, 3) / 10:.1f}"
        tif = random.choice(("GTC", "IOC", "FOK", "PostOnly"))
        paper.place(1 + number, side, random.randint(1, 50), price, tif)
        paper.book(1 + number, *TOUCH)
    paper.command(40, "cancel_all")
    paper.ticker(41, mark="100.05")
    assert paper.account.equity() <= 1_000_000 * 10**8
    assert paper.engine.market.listing(LINEAR).clock_ns <= 41 * MS
