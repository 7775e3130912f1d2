"""The money, to the last digit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from bot.core.events import Fill, FundingPaid, FundingRate
from bot.core.instrument import amount
from tests.builders import LINEAR, MS, SPOT, Paper, e12, fees, rules


def spot(**how: object) -> Paper:
    return Paper(symbol=SPOT, instrument=rules(SPOT, qty_step="0.001", min_qty="0.001"), **how)


def money(paper: Paper) -> dict[str, Decimal]:
    account = paper.account
    return {
        name: amount(getattr(account, name)) for name in ("wallet", "realized", "fees", "funding")
    }


def assert_adds_up(paper: Paper, deposit: int = 1_000_000) -> None:
    """wallet = deposit + realized - fees - funding - what the coins held cost."""
    now = money(paper)
    coins = sum(p.cost for s, p in paper.account.positions.items() if s.startswith("spot:"))
    paid = now["fees"] + now["funding"] + amount(coins)
    assert now["wallet"] == deposit + now["realized"] - paid


def test_a_round_trip_is_exact() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.book(2, "100.0x0 100.4x70", "100.1x0 100.2x0 100.5x90")
    paper.place(3, "Sell", 10, "100.5")
    paper.trade(4, "Buy", "100.5", 100)
    assert money(paper) == {
        "wallet": Decimal("1000003.24845"),
        "realized": 4,
        "fees": Decimal("0.75155"),
        "funding": 0,
    }


def test_a_partial_close_takes_its_share_of_the_cost_and_leaves_the_rest() -> None:
    fine = rules(tick_size="0.00000001", min_notional=0)
    paper = Paper(start=None, instrument=fine)
    paper.book(0, "0.00000001x1", "0.00000003x1 0.00000004x2", snapshot=True)
    paper.place(1, "Buy", 3, "0.00000004", "IOC")
    paper.book(2, "0.00000005x1", "0.00000003x0 0.00000004x0")
    position = paper.account.positions[LINEAR]
    assert position.cost == 11
    paper.place(3, "Sell", 1, "0.00000005", "IOC")
    assert (position.cost, position.realized) == (7, 1)
    paper.book(4, "0.00000005x0")
    paper.book(5, "0.00000005x2")
    paper.place(6, "Sell", 2, "0.00000005", "IOC")
    assert (position.cost, position.qty, position.realized) == (0, 0, 4)


@pytest.mark.parametrize(("first", "then"), [("Buy", "Sell"), ("Sell", "Buy")])
def test_a_flip_closes_all_and_opens_the_rest(first: str, then: str) -> None:
    paper = Paper()
    paper.place(1, first, 10)
    paper.place(2, then, 25)
    position = paper.account.positions[LINEAR]
    sign = 1 if first == "Buy" else -1
    assert position.qty == -15 * sign * 10**12
    price = Decimal("100.0") if then == "Sell" else Decimal("100.1")
    assert amount(position.cost) == 15 * price
    assert amount(position.realized) == Decimal(-1)
    assert_adds_up(paper)


def test_positions_are_valued_at_mark_then_mid_then_the_last_trade() -> None:
    paper = Paper()
    assert paper.account.unrealized(LINEAR) == 0
    assert paper.account.qty(LINEAR) == 0
    paper.place(1, "Buy", 10)
    wallet = paper.account.wallet
    assert amount(paper.account.unrealized(LINEAR)) == Decimal("-0.5")
    paper.ticker(2, mark="110")
    assert amount(paper.account.unrealized(LINEAR)) == 99
    assert paper.account.equity() == wallet + 99 * 10**8
    paper = Paper()
    paper.place(1, "Sell", 10)
    paper.gap(2)
    assert paper.account.unrealized(LINEAR) == 0
    paper.trade(3, "Buy", "99", 1)
    assert amount(paper.account.unrealized(LINEAR)) == 10


def test_margin_is_cost_over_leverage() -> None:
    paper = Paper(leverage=3)
    paper.place(1, "Sell", 10)
    assert amount(paper.account.margin_used()) == Decimal("333.33333333")
    assert paper.account.margin_of(10**8) == 33_333_333


# --- spot -----------------------------------------------------------------------------------------


def test_spot_fees_are_paid_once_and_profit_is_without_them() -> None:
    paper = spot()
    paper.step(fees(SPOT, Decimal("0.001"), Decimal("0.001")))
    paper.place(1, "Buy", 10, "100.1", "IOC")
    bought, position = paper.made(Fill)[0], paper.account.positions[SPOT]
    assert (bought.fee, bought.fee_coin, position.qty) == (Decimal("0.01"), "BTC", e12("9.99"))
    assert_adds_up(paper)
    paper.book(2, "100.1x20", "100.1x0")
    paper.place(3, "Sell", "9.99", "100.1", "IOC")
    sold = paper.made(Fill)[1]
    assert (sold.fee, sold.fee_coin) == (Decimal("0.999999"), "USDT")
    assert (position.qty, position.cost, sold.realized_pnl) == (0, 0, 0)
    assert money(paper)["fees"] == Decimal("2.000999")
    assert_adds_up(paper)


def test_spot_equity_counts_the_coins() -> None:
    paper = spot()
    paper.place(1, "Buy", 10, "100.1", "IOC")
    held = Decimal(paper.account.positions[SPOT].qty) / 10**12
    paper.ticker(2, mark="200")
    assert amount(paper.account.equity()) == money(paper)["wallet"] + held * 200
    assert amount(paper.account.equity()) == 1_000_000 - 1001 + held * 200
    assert paper.account.margin_used() == 0


# --- funding --------------------------------------------------------------------------------------


def history(t: float, rate: str, due: float) -> FundingRate:
    return FundingRate(round(t * MS), round(t * MS), LINEAR, Decimal(rate), round(due * MS))


@pytest.mark.parametrize(
    ("side", "rate", "paid"),
    [("Buy", "0.0001", "0.1"), ("Sell", "0.0001", "-0.1"), ("Buy", "-0.0001", "-0.1"),
     ("Sell", "-0.0001", "0.1")],
)  # fmt: skip
def test_funding_is_positive_when_paid(side: str, rate: str, paid: str) -> None:
    paper = Paper()
    paper.place(1, side, 10)
    paper.ticker(2, mark="100")
    paper.step(history(3, rate, 3))
    (fact,) = paper.made(FundingPaid)
    assert fact.amount == Decimal(paid)
    assert (fact.funding_ts, fact.exchange_ts, fact.ts) == (3 * MS, 3 * MS, 3 * MS)
    assert fact.position == (10 if side == "Buy" else -10)
    assert_adds_up(paper)


def test_a_settlement_is_paid_once_whoever_tells_of_it() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, due=5, rate="0.0001", mark="100")
    paper.book(6)
    paper.step(history(7, "0.0001", 5))
    paper.step(history(8, "0.0001", 4))
    paper.ticker(9, due=5, rate="0.0001", mark="100")
    paper.book(10)
    assert len(paper.made(FundingPaid)) == 1
    paper.step(history(11, "0.0001", 10))
    assert len(paper.made(FundingPaid)) == 2


def test_a_settlement_of_the_history_is_paid_at_its_own_mark() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.ticker(2, mark="100")
    paper.step(replace(history(3, "0.0001", 3), mark=Decimal(90)))
    (fact,) = paper.made(FundingPaid)
    assert (fact.mark, fact.amount) == (90, Decimal("0.09"))
    assert_adds_up(paper)


def test_without_a_position_nothing_is_paid() -> None:
    paper = Paper()
    paper.step(history(3, "0.0001", 3))
    paper.ticker(4, due=5, rate="0.0001", mark="100")
    paper.book(6)
    assert paper.made(FundingPaid) == []


@pytest.mark.parametrize("first", [None, "Buy"])
def test_a_settlement_from_before_a_position_is_not_its_business(first: str | None) -> None:
    paper = Paper()
    if first is not None:
        paper.place(1, first, 10)
        paper.place(2, "Sell", 10)
    paper.place(10, "Buy", 10)
    paper.ticker(11, mark="100")
    paper.step(history(12, "0.0001", 8))
    assert paper.made(FundingPaid) == []
    paper.step(history(12, "0.0001", 11))
    assert len(paper.made(FundingPaid)) == 1


def test_a_position_that_turns_owes_the_settlements_since_it_turned() -> None:
    paper = Paper()
    paper.place(1, "Buy", 10)
    paper.place(10, "Sell", 20)
    paper.ticker(11, mark="100")
    paper.step(history(12, "0.0001", 8))
    assert paper.made(FundingPaid) == []
