"""Isolated margin: what a position needs, when the venue takes it over, and at what price.

Bybit's formula of 2026-05-27, with the position valued at the mark. A long of cost C at leverage L
holds C / L; it is taken over when what is left of that no longer covers the maintenance margin::

    C / L + (value at mark - C)  <=  value at mark * rate - deduction

(a short with the sign of the profit turned). The estimated closing fee stands on both sides and
cancels out; it is paid when the position is closed at its bankruptcy price, where the margin is 0.
https://www.bybit.com/en/help-center/article/Liquidation-Price-Calculation-under-Isolated-Mode-Unified-Trading-Account
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bot.core import native
from bot.core.events import E8, E12, RiskTier
from bot.core.instrument import UNIT, div_half_even, to_e8, to_e12

_E24_PER_E8 = 10**16


class Tier(Struct, frozen=True, gc=False):
    """A ``RiskTier`` in integers."""

    limit: E8
    maintenance_rate: E12
    initial_rate: E12
    deduction: E8


def tiers_of(tiers: Sequence[RiskTier]) -> tuple[Tier, ...]:
    """The venue's table in integers, from low to high."""
    return tuple(
        Tier(
            to_e8(tier.limit),
            to_e12(tier.maintenance_rate),
            to_e12(tier.initial_rate),
            to_e8(tier.deduction),
        )
        for tier in sorted(tiers, key=lambda tier: tier.limit)
    )


def exact_initial(value: E8, leverage: E12) -> E8:
    """The margin that opens ``value`` at ``leverage``."""
    return div_half_even(value * UNIT, leverage)


initial = native.initial or exact_initial
"""``exact_initial``, in C where that was built."""


def maintenance(value: E8, tiers: Sequence[Tier]) -> E8:
    """What a position worth ``value`` must keep; nothing where the venue's tiers are not known."""
    if not tiers:
        return 0
    tier = next((tier for tier in tiers if value <= tier.limit), tiers[-1])
    return max(0, div_half_even(value * tier.maintenance_rate, UNIT) - tier.deduction)


def most_value(leverage: E12, tiers: Sequence[Tier]) -> E8 | None:
    """The largest position that ``leverage`` may open; None where the tiers are not known."""
    if not tiers:
        return None
    allowed = [tier.limit for tier in tiers if tier.initial_rate * leverage <= UNIT * UNIT]
    return max(allowed, default=0)


def is_spent(qty: E12, cost: E8, mark_value: E8, leverage: E12, tiers: Sequence[Tier]) -> bool:
    """Whether the mark has reached the liquidation price of a position of signed ``qty``."""
    profit = mark_value - cost if qty > 0 else cost - mark_value
    return initial(cost, leverage) + profit <= maintenance(mark_value, tiers)


def bankruptcy_value(qty: E12, cost: E8, leverage: E12) -> E8:
    """What the position is worth when all of its margin is lost."""
    margin = initial(cost, leverage)
    return cost - margin if qty > 0 else cost + margin


def price_of(value: E8, qty: E12) -> E12:
    """The price at which ``qty`` is worth ``value``, to 1e-12."""
    return div_half_even(value * _E24_PER_E8, abs(qty))


def liquidation_price(qty: E12, cost: E8, leverage: E12, tiers: Sequence[Tier]) -> E12:
    """The mark at which a position is taken over; 0 for a long that cannot be.

    Solved tier by tier: the tier that is assumed must be that of the value found.
    """
    sign = 1 if qty > 0 else -1
    base = bankruptcy_value(qty, cost, leverage)
    for tier in tiers or (Tier(1 << 200, 0, 0, 0),):
        value = div_half_even(
            (base - sign * tier.deduction) * UNIT, UNIT - sign * tier.maintenance_rate
        )
        if value <= tier.limit:
            return max(0, price_of(value, qty))
    return max(0, price_of(value, qty))
