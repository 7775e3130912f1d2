"""Settlements by the exchange clock, in order with everything else."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bot.core.events import Fill, FundingPaid, FundingRate
from tests.builders import LINEAR, MS, Paper, e12


def funded(paper: Paper) -> list[tuple[float, float, str]]:
    return [(f.ts / MS, f.exchange_ts / MS, f"{f.amount:f}") for f in paper.made(FundingPaid)]


def test_funding_is_paid_when_the_clock_reaches_it_at_the_last_rate_and_mark() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.ticker(3, due=50, rate="0.0002", mark="101")
    paper.book(49)
    assert funded(paper) == []
    paper.trade(51, "Buy", "100.1", 1)
    paper.trade(52, "Buy", "100.1", 1)
    assert funded(paper) == [(51, 50, "0.202")]


def test_a_ticker_that_speaks_of_the_next_settlement_does_not_lose_this_one() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.ticker(51, due=1000, rate="0.5", mark="200")
    assert funded(paper) == [(51, 50, "0.1")]
    paper.book(1001)
    assert funded(paper)[1:] == [(1001, 1000, "1000")]


def test_a_settlement_that_was_moved_is_paid_at_its_new_time() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.ticker(3, due=90, rate="0.0001", mark="100")
    paper.book(60)
    assert funded(paper) == []
    paper.book(90)
    assert funded(paper) == [(90, 90, "0.1")]


def test_a_ticker_without_a_rate_keeps_the_last_one() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.ticker(3, mark="110")
    paper.book(50)
    assert funded(paper) == [(50, 50, "0.11")]


@pytest.mark.parametrize("latency_ms", [0, 5])
def test_an_order_due_at_the_settlement_comes_after_it(latency_ms: float) -> None:
    paper = Paper(latency_ms=latency_ms)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.place(50 - latency_ms, "Buy", 10)
    paper.book(60)
    assert funded(paper) == []
    assert paper.account.qty(LINEAR) == e12(10)


def test_an_order_without_latency_is_not_charged_for_a_settlement_before_it() -> None:
    paper = Paper()
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    order = paper.order(55, "Buy", 10)
    paper.engine.exchange.submit(order, 55 * MS, paper.facts)
    paper.book(60)
    assert funded(paper) == []


def test_an_order_due_before_the_settlement_pays_it() -> None:
    paper = Paper(latency_ms=5)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.place(44, "Buy", 10)
    paper.book(60)
    assert funded(paper) == [(60, 50, "0.1")]
    assert [type(f) for f in paper.facts if type(f) in (Fill, FundingPaid)] == [Fill, FundingPaid]


def test_funding_is_settled_in_a_gap() -> None:
    paper = Paper()
    paper.place(1, "Sell", 10)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.gap(3)
    paper.book(60)
    assert funded(paper) == [(60, 50, "-0.1")]


def test_the_history_of_a_settlement_costs_nothing_who_bought_after_it() -> None:
    paper = Paper()
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.ticker(51, due=1000, rate="0.0001", mark="100")
    paper.place(52, "Buy", 10)
    paper.step(FundingRate(60 * MS, 50 * MS, LINEAR, Decimal("0.0002"), 50 * MS))
    assert paper.account.qty(LINEAR) == e12(10)
    assert funded(paper) == []


def test_the_history_of_a_settlement_that_was_paid_at_another_rate_pays_nothing_more() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, due=50, rate="0.0001", mark="100")
    paper.trade(51, "Buy", "100.1", 1)  # the ticker is late: the last rate settles
    paper.step(FundingRate(60 * MS, 50 * MS, LINEAR, Decimal("0.0002"), 50 * MS))
    paper.ticker(61, due=1000, rate="0.0003", mark="100")
    assert funded(paper) == [(51, 50, "0.1")]
