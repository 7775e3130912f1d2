"""The tiers of ``/v5/market/risk-limit``: how much leverage a position of which size may have.

https://bybit-exchange.github.io/docs/v5/market/risk-limit
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

from bot.venue.emulator.listing import Listing

MAINTENANCE_RATE = Decimal("0.005")
"""The lowest tier's."""
PAGE_SYMBOLS = 15
_TIERS = 8
_FIRST_USDT = 2_000_000


@lru_cache(maxsize=1024)
def tiers(listing: Listing) -> tuple[dict[str, Any], ...]:
    """Each tier takes twice the value of the one before, at a rate half a percent higher.

    ``mmDeduction`` makes the margin continuous where one tier ends and the next begins.
    """
    found: list[dict[str, Any]] = []
    deduction = Decimal(0)
    for number in range(_TIERS):
        rate = MAINTENANCE_RATE * (number + 1)
        limit = _FIRST_USDT << number
        if number:
            deduction += MAINTENANCE_RATE * (limit // 2)
        initial = rate * 2
        found.append(
            {
                "id": number + 1,
                "symbol": listing.name,
                "riskLimitValue": str(limit),
                "maintenanceMargin": f"{rate:f}",
                "initialMargin": f"{initial:f}",
                "isLowestRisk": int(number == 0),
                "maxLeverage": f"{1 / initial:.2f}",
                "mmDeduction": f"{deduction.normalize():f}" if deduction else "",
            }
        )
    return tuple(found)
