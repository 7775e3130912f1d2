"""The liquidation formula against an independent search, and the tiers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core import margin
from bot.core.events import RiskTier
from bot.core.instrument import value_of
from tests.builders import e12

D = Decimal
TIERS = margin.tiers_of(
    [
        RiskTier(D(2_000_000), D("0.005"), D("0.01")),
        RiskTier(D(4_000_000), D("0.01"), D("0.02"), D(10_000)),
        RiskTier(D(8_000_000), D("0.015"), D("0.03"), D(30_000)),
    ]
)


def test_bybits_example_of_a_long_without_deduction() -> None:
    cost = 20_000 * 10**8
    found = margin.liquidation_price(e12(1), cost, e12(50), TIERS)
    assert Fraction(found, 10**12) == Fraction(
        round(Fraction(19_600 * 10**8) / Fraction("0.995")), 10**8
    )


def test_maintenance_is_continuous_where_a_tier_ends() -> None:
    for tier, after in pairwise(TIERS):
        assert margin.maintenance(tier.limit, TIERS) == margin.maintenance(tier.limit + 1, (after,))


def test_leverage_limits_the_position() -> None:
    assert margin.most_value(e12(100), TIERS) == TIERS[0].limit
    assert margin.most_value(e12(40), TIERS) == TIERS[1].limit
    assert margin.most_value(e12(101), TIERS) == 0
    assert margin.most_value(e12(10), ()) is None


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 10**5), st.integers(10, 50_000), st.integers(2, 25), st.booleans())
def test_the_mark_is_spent_exactly_beyond_the_liquidation_price(
    lots: int, entry: int, leverage: int, is_long: bool
) -> None:
    qty = lots * 10**9 * (1 if is_long else -1)
    cost = value_of(e12(entry), abs(qty))
    if cost > TIERS[-1].limit // 2 or cost < 10**8:
        return
    price = margin.liquidation_price(qty, cost, e12(leverage), TIERS)
    step = 10**12 * entry // 10_000
    for mark, spent in (
        (price - step, is_long),
        (price + step, not is_long),
    ):
        value = value_of(mark, abs(qty))
        assert margin.is_spent(qty, cost, value, e12(leverage), TIERS) == spent
