"""Where an order stands in its level."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.queue import QueuePolicy, Resting, after_book, after_trade
from tests.builders import Paper


def standing(ahead: int | None, displayed: int = 0) -> Resting:
    order = Paper(start=None).order(0, "Buy", 5, "100")
    return Resting(order, 1, 100, 5, 5, 0, 0, ahead, ahead, displayed=displayed)


def seen(resting: Resting, displayed: int, policy: QueuePolicy, *, seq: int = 10) -> int | None:
    after_book(resting, displayed, seq, policy, 3)
    return resting.ahead


def test_a_trade_takes_what_is_ahead_and_the_excess_reaches_us() -> None:
    resting = standing(10)
    assert after_trade(resting, 4, 2, 1) == 0
    assert (resting.ahead, resting.traded) == (6, 4)
    assert after_trade(resting, 9, 3, 1) == 3
    assert resting.ahead == 0


def test_a_trade_at_an_unseen_level_reaches_nobody() -> None:
    resting = standing(None)
    assert after_trade(resting, 100, 2, 1) == 0
    assert resting.ahead is None


@pytest.mark.parametrize("policy", ["conservative", "probabilistic"])
def test_growth_is_behind_us(policy: QueuePolicy) -> None:
    assert seen(standing(10, 10), 25, policy) == 10


def test_conservative_a_shrink_is_behind_us_until_the_level_is_smaller_than_our_queue() -> None:
    resting = standing(10, 25)
    assert seen(resting, 10, "conservative") == 10
    assert seen(resting, 7, "conservative") == 7
    assert resting.erased == [(10, 3)]


def test_conservative_a_shrink_that_trades_explain_costs_nobody_twice() -> None:
    resting = standing(10, 10)
    after_trade(resting, 6, 2, 1)
    assert seen(resting, 4, "conservative") == 4
    assert (resting.erased, resting.traded) == ([], 0)


@pytest.mark.parametrize("policy", ["conservative", "probabilistic"])
def test_an_unseen_level_has_us_last_when_it_is_first_displayed(policy: QueuePolicy) -> None:
    resting = standing(None)
    assert seen(resting, 9, policy) == 9
    assert resting.ahead_at_arrival == 9


def test_an_empty_queue_stays_empty() -> None:
    resting = standing(0, 10)
    assert seen(resting, 3, "conservative") == 0
    assert (resting.displayed, resting.erased) == (3, [])


# --- late trades ----------------------------------------------------------------------------------


def test_a_late_trade_first_uses_up_what_its_book_erased() -> None:
    resting = standing(10, 10)
    seen(resting, 4, "conservative", seq=10)
    assert after_trade(resting, 5, 9, 10) == 0
    assert (resting.ahead, resting.erased) == (4, [(10, 1)])
    assert after_trade(resting, 7, 9, 10) == 2
    assert (resting.ahead, resting.erased) == (0, [])


def test_a_book_from_before_the_trade_explains_nothing_of_it() -> None:
    resting = standing(10, 10)
    seen(resting, 8, "conservative", seq=5)
    seen(resting, 6, "conservative", seq=10)
    assert after_trade(resting, 3, 7, 10) == 0
    assert (resting.ahead, resting.erased) == (5, [(5, 2)])


def test_a_trade_that_is_not_late_is_not_explained_by_a_book() -> None:
    resting = standing(10, 10)
    seen(resting, 4, "conservative", seq=10)
    assert after_trade(resting, 5, 11, 10) == 1


def test_a_late_trade_is_no_part_of_what_traded_since_the_book() -> None:
    resting = standing(50, 100)
    after_trade(resting, 10, 9, 10)
    assert (resting.ahead, resting.traded) == (40, 0)


def test_the_memory_of_erasures_is_bounded() -> None:
    resting = standing(1000, 1000)
    for seq in range(900):
        seen(resting, 999 - seq, "conservative", seq=seq)
    assert len(resting.erased) == 16
    assert resting.erased[-1] == (899, 1)


# --- the probabilistic policy against its formula -------------------------------------------------


@given(
    st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 500), st.integers(0, 2000),
    st.integers(1, 5),
)  # fmt: skip
def test_probabilistic_is_the_formula_of_its_source(
    front: int, back: int, traded: int, new: int, power: int
) -> None:
    """chg = prev - new - traded; p = back^n / (back^n + front^n); front - (1-p) chg + min(...)."""
    traded = min(traded, front - 1)
    resting = standing(front, front + back)
    after_trade(resting, traded, 2, 1)
    ahead = front - traded
    behind = front + back - ahead
    change = front + back - new - traded
    after_book(resting, new, 3, "probabilistic", power)
    assert resting.ahead is not None
    assert 0 <= resting.ahead <= min(ahead, new)
    if change <= 0:
        assert resting.ahead == min(ahead, new)
        return
    p = Fraction(behind**power, behind**power + ahead**power)
    estimate = ahead - (1 - p) * change + min(behind - p * change, Fraction(0))
    assert abs(resting.ahead - max(Fraction(0), min(estimate, Fraction(new)))) <= 1


def test_probabilistic_all_behind_us_shrinks_behind_us() -> None:
    assert seen(standing(10**12, 10**18), 5 * 10**17, "probabilistic") == 10**12 - 1


def test_probabilistic_nobody_behind_us_shrinks_ahead() -> None:
    assert seen(standing(10, 10), 4, "probabilistic") == 4
