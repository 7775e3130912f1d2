"""Bybit's price limits against the formula in fractions, and the premium of 30 seconds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.price_limits import Premium, futures_limit
from tests.builders import Paper, e12, rules

PRICES = st.integers(10**10, 10**15)


@given(st.sampled_from(["Buy", "Sell"]), PRICES, PRICES, st.integers(-(10**12), 10**12))
def test_futures_limits_are_bybits_formula(side: Any, mark: int, index: int, premium: int) -> None:
    tick, x, y = 10**9, Fraction("0.01"), Fraction("0.02")
    found = futures_limit(
        side, mark=mark, index=index, premium=premium, x=e12("0.01"), y=e12("0.02"), tick=tick
    )
    if side == "Buy":
        bound = min(mark * (1 + y), max(Fraction(index), mark * (1 + x) + max(0, premium)))
        assert found <= bound < found + tick
    else:
        bound = max(mark * (1 - y), min(Fraction(index), mark * (1 - x) + min(0, premium)))
        assert found - tick < bound <= found
    assert found % tick == 0


def test_the_premium_is_the_mean_of_a_sample_a_second_over_thirty() -> None:
    premium = Premium()
    assert premium.mean == 0
    for tenth in range(1000):
        premium.sample(10**9 + tenth * 10**8, tenth)
    assert premium.mean == sum(range(700, 1000, 10)) // 30


@pytest.mark.parametrize(("middle", "highest"), [("101.5x9", "101.3"), ("100.1x9", "101")])
def test_a_premium_lets_a_buyer_pay_more(middle: str, highest: str) -> None:
    paper = Paper(
        instrument=rules(price_limit_x="0.01", price_limit_y="0.02"), start=("99.1x9", middle)
    )
    paper.ticker(1000, mark="100")
    order = paper.place(1001, "Buy", 1, "200.0")
    accepted = [f for f in paper.facts if getattr(f, "order_id", 0) == order]
    assert str(getattr(accepted[0], "price", None)) == highest
