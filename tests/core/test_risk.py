"""Every reason code, and what passes although a limit is met."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from bot.core.events import Amend, Refusal
from bot.core.risk import Reason, Risk, RiskLimits, State
from tests.builders import LINEAR, MS, NO_LIMITS, Paper, book, prediction, rules

USDT = 10**8
DAY_MS = 86_400_000


def limited(**limits: int) -> Paper:
    return Paper(limits=replace(NO_LIMITS, **limits))


def refused(paper: Paper) -> list[str]:
    return [fact.reason for fact in paper.made(Refusal)]


def test_a_refusal_says_whose_order_it_was_and_why() -> None:
    paper = limited(max_order_notional=999 * USDT)
    order = paper.place(1, "Buy", 10, "100.0")
    (refusal,) = paper.made(Refusal)
    assert (refusal.order_id, refusal.strategy, refusal.symbol) == (order, "script", LINEAR)
    assert refusal.detail == "1000.00 USDT, limit 999.00"
    assert len(paper.facts) == 2


def test_every_reason_is_shown_here() -> None:
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    assert [reason for reason in get_args(Reason) if f'"{reason}"' not in text] == []


# --- the switch -----------------------------------------------------------------------------------


def test_paused_only_what_reduces_passes() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.command(2, "pause")
    paper.place(3, "Buy", 1, "100.0")
    paper.place(4, "Sell", 4, "101.0")
    paper.place(5, "Sell", 6, "101.0")
    paper.place(6, "Sell", 1, "101.0")
    paper.place(7, "Sell", 1, "101.0", reduce_only=True)
    assert refused(paper) == ["RISK_PAUSED", "RISK_PAUSED"]
    paper.command(8, "resume")
    paper.place(9, "Sell", 1, "101.0")
    assert len(refused(paper)) == 2


@pytest.mark.parametrize(("first", "then"), [("Buy", "Sell"), ("Sell", "Buy")])
def test_paused_a_position_cannot_be_turned(first: str, then: str) -> None:
    paper = Paper()
    paper.place(1, first, 10)
    paper.command(2, "pause")
    paper.place(3, then, 11)
    paper.place(4, then, 20)
    assert refused(paper) == ["RISK_PAUSED", "RISK_PAUSED"]
    paper.place(5, then, 10)
    assert paper.account.qty(LINEAR) == 0


def test_halted_nothing_passes_but_cancels() -> None:
    paper = Paper(latency_ms=10)
    order = paper.place(1, "Buy", 10, "100.0")
    paper.engine.risk.state = "halted"
    paper.place(2, "Buy", 1, "100.0")
    paper.amend(3, order, qty=5)
    paper.place(4, "Sell", 1, reduce_only=True)
    paper.cancel(5, order)
    assert refused(paper) == ["RISK_HALTED"] * 3
    paper.book(50)
    assert [end[0] for end in paper.ends()] == ["Cancelled"]


@pytest.mark.parametrize(
    ("commands", "state"),
    [
        (["pause"], "reducing"), (["stop"], "reducing"), (["halt"], "halted"),
        (["flatten"], "halted"), (["pause", "resume"], "active"), (["stop", "resume"], "active"),
        (["resume"], "active"), (["cancel_all"], "active"), (["pause", "cancel_all"], "reducing"),
        (["halt", "resume"], "halted"), (["halt", "pause"], "halted"),
        (["halt", "stop", "resume"], "halted"), (["pause", "halt", "resume"], "halted"),
    ],
)  # fmt: skip
def test_only_resume_ends_a_pause_and_nothing_ends_a_halt(commands: list[str], state: str) -> None:
    paper = Paper()
    for t, name in enumerate(commands, 1):
        paper.command(t, name)
    assert paper.engine.risk.state == state


# --- what cannot be judged ------------------------------------------------------------------------


def test_without_a_quantity_there_is_no_order() -> None:
    paper = Paper()
    order = paper.place(1, "Buy", 5, "99.0")
    paper.place(2, "Buy", 0, "99.0")
    paper.say(3, Amend(3 * MS, order, LINEAR, qty=replace(paper.order(3, "Buy", 0)).qty))
    paper.amend(4, 4711, qty=1)
    assert refused(paper) == ["RISK_QUANTITY"] * 3
    assert paper.made(Refusal)[2].detail == "order 4711 is not open"


def test_without_a_price_or_rules_there_is_no_judgement() -> None:
    paper = Paper(start=None)
    paper.place(1, "Buy", 5)
    assert refused(paper) == ["RISK_NO_PRICE"]
    paper = Paper(instrument=rules("linear:OTHER"))
    paper.place(1, "Buy", 5, "100.0")
    assert refused(paper) == ["RISK_NO_PRICE"]


# --- limits ---------------------------------------------------------------------------------------


def test_one_order_may_not_be_worth_too_much() -> None:
    paper = limited(max_order_notional=1000 * USDT)
    paper.place(1, "Buy", 10, "100.0")
    paper.place(2, "Buy", 10, "100.1")
    paper.place(3, "Buy", 10)
    assert refused(paper) == ["RISK_ORDER_SIZE", "RISK_ORDER_SIZE"]


def test_a_sell_is_worth_what_it_fetches_however_low_its_limit() -> None:
    paper = limited(max_order_notional=1000 * USDT)
    paper.place(1, "Sell", 50, "1.0")
    assert refused(paper) == ["RISK_ORDER_SIZE"]


def test_position_and_open_orders_count_together() -> None:
    paper = limited(max_position_notional=2000 * USDT)
    paper.place(1, "Buy", 10, "100.0", "PostOnly")
    paper.place(2, "Buy", 9, "100.1", "IOC")
    paper.place(3, "Buy", 1, "100.0", "PostOnly")
    assert refused(paper) == []
    paper.place(4, "Buy", 1, "100.0", "PostOnly")
    assert refused(paper) == ["RISK_POSITION"]
    paper.place(5, "Sell", 29, "100.0", "IOC")
    assert refused(paper) == ["RISK_POSITION"] * 2
    paper.place(7, "Sell", 28, "100.0", "IOC")
    assert refused(paper) == ["RISK_POSITION"] * 2
    assert paper.account.qty(LINEAR) == -19 * 10**12


def test_reduce_only_orders_wait_for_nobody() -> None:
    paper = limited(max_position_notional=2010 * USDT)
    paper.place(1, "Sell", 10)
    paper.place(2, "Buy", 10, "99.0", reduce_only=True)
    paper.place(3, "Buy", 30, "99.0", "PostOnly")
    assert refused(paper) == []


def test_an_order_may_not_make_the_other_side_too_large() -> None:
    paper = limited(max_position_notional=1500 * USDT)
    paper.place(1, "Buy", 10)
    paper.place(2, "Sell", 25, "100.0", "IOC")
    assert refused(paper) == ["RISK_POSITION"]
    paper.place(3, "Sell", 24, "100.0", "IOC")
    assert paper.account.qty(LINEAR) == -14 * 10**12


def test_an_amendment_counts_in_place_of_its_order() -> None:
    paper = limited(max_position_notional=1000 * USDT)
    order = paper.place(1, "Buy", 8, "100.0")
    paper.amend(2, order, qty=10)
    assert refused(paper) == []
    paper.amend(3, order, qty=11)
    paper.amend(4, order, price="101.0")
    assert refused(paper) == ["RISK_POSITION", "RISK_POSITION"]


def test_an_amendment_of_a_partly_filled_order_counts_what_is_left() -> None:
    paper = Paper(limits=replace(NO_LIMITS, max_order_notional=600 * USDT), queue="none")
    order = paper.place(1, "Buy", 6, "100.0")
    paper.trade(2, "Sell", "100.0", 4)
    paper.amend(3, order, qty=10)
    assert refused(paper) == []
    paper.book(4)
    paper.amend(5, order, qty=11)
    paper.amend(6, order, qty=4)
    assert refused(paper) == ["RISK_ORDER_SIZE", "RISK_QUANTITY"]


def test_only_so_many_orders_a_second() -> None:
    paper = limited(max_orders_per_s=2)
    order = paper.place(1, "Buy", 1, "99.0")
    paper.amend(500, order, price="98.0")
    paper.place(1000, "Buy", 1, "99.0")
    paper.cancel(1000, order)
    assert refused(paper) == ["RISK_ORDER_RATE"]
    paper.place(1001, "Buy", 1, "99.0")
    paper.place(1002, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_ORDER_RATE"] * 2
    assert paper.made(Refusal)[0].detail == "2 in a second, limit 2"


def test_only_so_many_open_orders() -> None:
    paper = limited(max_open_orders=2)
    first = paper.place(1, "Buy", 1, "99.0")
    paper.place(2, "Buy", 1, "99.0")
    paper.place(3, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_OPEN_ORDERS"]
    paper.amend(4, first, price="98.0")
    assert refused(paper) == ["RISK_OPEN_ORDERS"]
    paper.cancel(5, first)
    paper.book(6)
    paper.place(7, "Buy", 1, "99.0")
    assert len(refused(paper)) == 1
    assert paper.made(Refusal)[0].detail == "2 open, limit 2"


def test_after_the_days_loss_only_what_reduces_passes_until_the_next_day() -> None:
    paper = limited(max_daily_loss=40 * USDT)
    paper.place(1, "Buy", 10)
    paper.ticker(2, mark="97")
    paper.place(3, "Buy", 1, "99.0")
    assert refused(paper) == []
    paper.ticker(4, mark="91")
    paper.place(5, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_DAILY_LOSS"]
    paper.place(6, "Sell", 5)
    paper.place(DAY_MS - 1, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_DAILY_LOSS"] * 2
    paper.place(DAY_MS, "Buy", 1, "99.0")
    assert len(refused(paper)) == 2


def test_the_day_counts_from_its_first_equity() -> None:
    paper = limited(max_daily_loss=50 * USDT)
    paper.place(1, "Buy", 10)
    paper.ticker(2, mark="200")
    paper.tick(DAY_MS)
    paper.ticker(DAY_MS + 1, mark="190")
    paper.place(DAY_MS + 2, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_DAILY_LOSS"]


def test_limits_are_judged_most_fundamental_first() -> None:
    paper = Paper(limits=RiskLimits(1, 1, -(10**30), 0, 0))
    paper.place(1, "Buy", 1, "100.0")
    paper.command(2, "pause")
    paper.engine.risk.total.limits = RiskLimits(1, 1, -(10**30), 9, 0)
    paper.place(3, "Buy", 1, "100.0")
    paper.command(4, "resume")
    paper.place(5, "Buy", 1, "100.0")
    paper.engine.risk.total.limits = RiskLimits(1, 10**30, -(10**30), 9, 0)
    paper.place(6, "Buy", 1, "100.0")
    paper.engine.risk.total.limits = RiskLimits(10**30, 10**30, -(10**30), 9, 0)
    paper.place(7, "Buy", 1, "100.0")
    paper.engine.risk.total.limits = RiskLimits(10**30, 10**30, 10**30, 9, 0)
    paper.place(8, "Buy", 1, "100.0")
    assert refused(paper) == [
        "RISK_ORDER_RATE", "RISK_PAUSED", "RISK_ORDER_SIZE", "RISK_POSITION", "RISK_DAILY_LOSS",
        "RISK_OPEN_ORDERS",
    ]  # fmt: skip


# --- wider limits ---------------------------------------------------------------------------------


def test_all_symbols_together_may_not_be_worth_too_much() -> None:
    other = "linear:ETHUSDT"
    paper = limited(max_total_notional=2050 * USDT)
    paper.step(rules(other))
    paper.step(book(0, "50.0x100", "50.1x100", snapshot=True, symbol=other))
    paper.say(1, replace(paper.order(1, "Buy", 20, "50.0"), symbol=other))
    paper.place(2, "Buy", 10, "100.0")
    assert refused(paper) == []
    paper.place(3, "Buy", 1, "100.0")
    assert refused(paper) == ["RISK_TOTAL"]


def test_a_price_far_from_the_market_is_refused() -> None:
    paper = limited(max_price_deviation=10**12 // 100)
    paper.place(1, "Buy", 1, "99.1")
    paper.place(2, "Buy", 1, "99.0")
    paper.place(3, "Sell", 1, "101.1")
    assert refused(paper) == ["RISK_PRICE"] * 2
    assert paper.made(Refusal)[0].detail == "1.05% from the market, limit 1.00%"


def test_an_order_on_old_data_is_refused() -> None:
    paper = limited(max_data_age_ns=10 * 10**9)
    paper.place(10_000, "Buy", 1, "99.0")
    assert refused(paper) == []
    paper.place(10_001, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_STALE_DATA"]


def test_a_model_that_missed_its_deadline_stops_new_positions() -> None:
    paper = limited(max_prediction_age=2 * 10**12)
    paper.place(1, "Buy", 1, "99.0")
    paper.step(prediction(2, 0.1))
    paper.place(120_002, "Buy", 1, "99.0")
    assert refused(paper) == []
    paper.place(120_003, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_PREDICTION"]


def test_a_fall_from_the_highest_equity_lasts_until_somebody_resumes() -> None:
    paper = limited(max_drawdown=50 * USDT)
    paper.place(1, "Buy", 10)
    paper.ticker(2, mark="110")
    paper.place(3, "Buy", 1, "99.0")
    paper.ticker(4, mark="104")
    paper.place(5, "Buy", 1, "99.0")
    paper.ticker(6, mark="110")
    paper.place(7, "Buy", 1, "99.0")
    assert refused(paper) == ["RISK_DRAWDOWN"] * 2
    paper.command(8, "resume")
    paper.place(9, "Buy", 1, "99.0")
    assert len(refused(paper)) == 2


def test_losses_in_a_row_end_with_a_win_a_day_or_a_resume() -> None:
    paper = limited(max_consecutive_losses=2)
    for t in (1, 3):
        paper.place(t, "Buy", 1)
        paper.place(t + 1, "Sell", 1)
    paper.place(5, "Buy", 1)
    assert refused(paper) == ["RISK_LOSSES"]
    paper.place(DAY_MS, "Buy", 1, "100.0", "PostOnly")
    assert len(refused(paper)) == 1


def test_a_strategy_has_limits_of_its_own() -> None:
    own = replace(NO_LIMITS, max_position_notional=1000 * USDT, max_daily_loss=5 * USDT)
    paper = Paper()
    risk = paper.engine.risk
    desks = {"script": paper.view.desk}
    paper.engine.risk = Risk(NO_LIMITS, paper.engine.market, paper.account, desks, {"script": own})
    paper.engine.risk.start_day(0)
    assert risk is not paper.engine.risk
    paper.place(1, "Buy", 9)
    paper.place(2, "Buy", 9)
    assert refused(paper) == ["RISK_POSITION"]
    paper.ticker(3, mark="99")
    paper.place(4, "Buy", 1, "99.0")
    assert refused(paper)[1:] == ["RISK_DAILY_LOSS"]
    paper.place(5, "Sell", 9)
    assert paper.account.qty(LINEAR) == 0


def test_the_page_on_risk_lists_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "risk.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(RISK_\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(get_args(Reason))
    assert [state for state in get_args(State) if f"| `{state}` |" not in page] == []
