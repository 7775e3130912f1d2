"""The market maker decides what its docstring says."""

from __future__ import annotations

from typing import Any

import pytest

from bot.core.events import Cancel, Fill, Order
from strategies.market_maker import MarketMaker
from tests.builders import LINEAR, Paper, prediction, rules

FINE = rules(tick_size="0.01", qty_step="0.001", min_qty="0.001")
BOOK = ("100.00x100 99.90x500", "100.10x100 100.20x500")


def paper(*, tick: bool = False, latency_ms: float = 0, **params: Any) -> Paper:
    settings = {"notional": 200.0, "half_spread": 0.001, "requote_ms": 100.0} | params
    maker = MarketMaker((LINEAR,), **settings)
    return Paper(instrument=FINE, script=maker, start=None, latency_ms=latency_ms)


def quotes(facts: list[Any]) -> dict[str, str]:
    return {f.side: f"{f.price}" for f in facts if type(f) is Order}


def start(made: Paper, t: float = 1000) -> list[Any]:
    return made.book(t, *BOOK, snapshot=True)


def test_it_quotes_both_sides_half_a_spread_from_the_mid() -> None:
    facts = start(paper())
    assert quotes(facts) == {"Buy": "99.95", "Sell": "100.15"}
    orders = [f for f in facts if type(f) is Order]
    assert {(o.tif, o.tag, str(o.qty)) for o in orders} == {("PostOnly", "quote", "1.999")}


def test_a_quote_never_goes_beyond_the_touch() -> None:
    assert quotes(start(paper(half_spread=0.0001))) == {"Buy": "100", "Sell": "100.1"}


@pytest.mark.parametrize(
    ("expected", "lean", "wanted"),
    [
        (0.0002, 0.5, {"Buy": "99.96", "Sell": "100.16"}),
        (-0.0002, 0.5, {"Buy": "99.94", "Sell": "100.14"}),
        (0.5, 0.5, {"Buy": "100", "Sell": "100.25"}),
        (-0.5, 0.5, {"Buy": "99.85", "Sell": "100.1"}),
        (0.5, 0.0, {"Buy": "99.95", "Sell": "100.15"}),
    ],
)
def test_it_leans_with_its_model_by_half_a_spread_at_most(
    expected: float, lean: float, wanted: dict[str, str]
) -> None:
    made = paper(lean=lean)
    made.step(prediction(1, expected, model="analyzer"))
    made.step(prediction(1, -9.0, model="other"))
    assert quotes(start(made)) == wanted


def test_it_looks_at_its_quotes_every_so_often() -> None:
    made = paper()
    start(made)
    assert made.book(1099, "100.05x1") == []
    assert quotes(made.book(1100, "100.05x1")) == {"Buy": "99.97", "Sell": "100.18"}
    assert made.book(1199, "100.05x0") == []


def test_a_quote_within_half_a_tick_stays_and_another_is_replaced() -> None:
    made = paper()
    start(made)
    assert [f for f in made.book(1200, "100.00x50") if type(f) in (Order, Cancel)] == []
    facts = made.book(1400, asks="100.10x0 100.12x10")
    assert [type(f).__name__ for f in facts if type(f) in (Order, Cancel)] == [
        "Cancel", "Order", "Cancel", "Order",
    ]  # fmt: skip
    assert quotes(facts) == {"Buy": "99.96", "Sell": "100.16"}


def filled_long(qty: str, **params: Any) -> tuple[Paper, dict[str, str]]:
    """A maker whose bid is filled; returns its next quotes."""
    made = paper(**params)
    start(made)
    made.trade(1001, "Sell", "99.90", qty)
    return made, quotes(made.book(1200, *BOOK, snapshot=True))


def test_it_leans_against_its_inventory() -> None:
    made, wanted = filled_long("1", max_inventory=1000.0)
    assert len(made.made(Fill)) == 1
    half = 100.05 * 0.001
    fair = 100.05 - half * 100.05 / 1000
    assert wanted == {"Buy": f"{fair - half:.2f}", "Sell": f"{fair + half:.2f}"}


def test_at_its_largest_inventory_it_only_quotes_to_get_out() -> None:
    _, wanted = filled_long("1.999", max_inventory=199.0)
    assert wanted == {"Sell": "100.1"}


def test_at_its_largest_short_it_only_quotes_to_get_back() -> None:
    made = paper(max_inventory=199.0)
    start(made)
    made.trade(1001, "Buy", "100.20", "1.999")
    assert quotes(made.book(1200, *BOOK, snapshot=True)) == {"Buy": "100"}


def test_it_does_not_quote_into_an_empty_book() -> None:
    made = paper()
    assert made.book(1000, "100.00x1", snapshot=True) == []


def test_a_lost_book_has_its_quotes_cancelled_once() -> None:
    made = paper(latency_ms=10)
    start(made)
    made.book(1020)
    assert [type(f) for f in made.gap(1030)] == [Cancel, Cancel]
    assert made.gap(1031) == []
    made.tick(1050)
    assert [end[3] for end in made.ends()] == ["EC_PerCancelRequest"] * 2


def test_a_cancelled_quote_is_replaced_once() -> None:
    made = paper(latency_ms=500)
    start(made)
    made.book(1510)
    assert len([f for f in made.book(1700, "100.08x1") if type(f) is Cancel]) == 2
    assert [f for f in made.book(1900) if type(f) is Cancel] == []
