from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ledger.folds import Account, Position, average_price, fee_in_quote, order_outcome

TRADES = st.lists(
    st.tuples(
        st.sampled_from(("Buy", "Sell")),
        st.decimals("0.01", "99999", places=2),
        st.decimals("0.001", "9", places=3),
    ),
    max_size=12,
)


def rounded(value):
    """To 1e-8, half to even: Python's own rounding of fractions."""
    return Fraction(round(value * 10**8), 10**8)


def by_the_book(trades):
    """Size, cost and profit, in fractions and one coin amount at a time."""
    size = cost = realized = Fraction(0)
    for side, *numbers in trades:
        price, left = map(Fraction, numbers)
        sign = 1 if side == "Buy" else -1
        if size * sign < 0:
            closed = min(left, abs(size))
            share = rounded(cost * closed / abs(size))
            realized += sign * (share - rounded(price * closed))
            cost, size, left = cost - share, size + sign * closed, left - closed
        cost, size = cost + rounded(price * left), size + sign * left
    return size, cost, realized


@given(TRADES)
def test_positions_follow_the_rules_of_money(trades):
    position = Position()
    for trade in trades:
        position.trade(*trade)
    size, cost, realized = by_the_book(trades)
    assert Fraction(position.size, 10**12) == size
    assert Fraction(position.cost, 10**8) == cost
    assert Fraction(position.realized, 10**8) == realized
    assert (position.average_entry is None) == (not size)


@given(TRADES)
def test_a_closed_position_has_no_cost_and_its_profit_is_the_cash_that_moved(trades):
    position = Position()
    for trade in trades:
        position.trade(*trade)
    cash = Fraction(position.cost, 10**8) * (-1 if position.size > 0 else 1)
    total = sum(
        rounded(Fraction(price) * Fraction(qty)) * (-1 if side == "Buy" else 1)
        for side, price, qty in trades
    )
    # A trade through zero is rounded in two parts: at most 1e-8 of difference each.
    assert abs(Fraction(position.realized, 10**8) + cash - total) <= Fraction(len(trades), 10**8)
    if not position.size:
        assert position.cost == 0


@pytest.mark.parametrize(
    ("symbol", "fee", "coin", "expected"),
    [
        ("linear:BTCUSDT", "0.5", "USDT", 50_000_000),
        ("spot:BTCUSDT", "0.001", "BTC", 10_000_000_000),
        ("spot:BTCUSDT", "-0.001", "BTC", -10_000_000_000),
        ("spot:BTCUSDT", "-0.5", "USDT", -50_000_000),
    ],
)
def test_fees_are_counted_in_the_quote_coin(symbol, fee, coin, expected):
    assert fee_in_quote(symbol, Decimal(fee), coin, Decimal(100_000)) == expected


def test_the_average_price_is_weighed_by_quantity():
    rows = [{"price": Decimal(100), "qty": Decimal(1)}, {"price": Decimal(101), "qty": Decimal(2)}]
    assert average_price(rows) == Decimal("100.666666666667")
    assert average_price([]) is None


def test_a_liquidation_that_fills_have_closed_is_not_lost_twice():
    account = Account()
    row = {"symbol": "linear:X", "price": Decimal(10), "qty": Decimal(1), "fee": Decimal(0),
           "fee_coin": "USDT", "side": "Buy", "position_qty": Decimal(1),
           "realized_pnl": Decimal(0)}  # fmt: skip
    account.fill(row)
    account.fill({**row, "side": "Sell", "position_qty": Decimal(0), "realized_pnl": Decimal(-5)})
    account.liquidate(Decimal(5))
    assert account.realized == -5


def accepted(qty="2", price="10"):
    return {"kind": "Accepted", "qty": Decimal(qty), "price": Decimal(price)}


def execution(leaves):
    return {"price": Decimal(10), "qty": Decimal(1), "leaves": Decimal(leaves)}


CANCELLED = {"kind": "Cancelled", "reason": "EC_PerCancelRequest"}
REFUSED = {"kind": "Refusal", "reason": "size"}
REJECTED = {"kind": "Rejected", "reason": "170134", "request": "order"}
LATE = {"kind": "Rejected", "reason": "110001", "request": "cancel"}
AMEND, CANCEL = {"kind": "Amend"}, {"kind": "Cancel"}


@pytest.mark.parametrize(
    ("events", "executions", "status", "reason"),
    [
        ([], [], "Sent", None),
        ([accepted()], [], "New", None),
        ([accepted()], [execution(1)], "PartiallyFilled", None),
        ([accepted()], [execution(1), execution(0)], "Filled", None),
        ([], [execution(0)], "Filled", None),
        ([REJECTED], [], "Rejected", "170134"),
        ([REFUSED], [], "Refused", "size"),
        ([accepted(), CANCELLED], [], "Cancelled", "EC_PerCancelRequest"),
        ([accepted(), CANCELLED], [execution(1)], "Cancelled", "EC_PerCancelRequest"),
        ([accepted(), CANCEL, LATE], [execution(1), execution(0)], "Filled", None),
        ([accepted(), AMEND, REFUSED], [], "New", None),
        ([CANCEL, LATE], [], "Sent", None),
    ],
)
def test_an_orders_status_is_what_its_events_say(events, executions, status, reason):
    outcome = order_outcome({"qty": Decimal(2), "price": Decimal(10)}, events, executions)
    assert (outcome["status"], outcome["reason"]) == (status, reason)
    assert outcome["filled_qty"] == len(executions)


def test_an_accepted_amendment_changes_quantity_and_price():
    row = {"qty": Decimal(2), "price": Decimal(10)}
    outcome = order_outcome(row, [accepted(), accepted("1.5", "11")], [])
    assert (outcome["qty"], outcome["price"]) == (Decimal("1.5"), Decimal(11))
