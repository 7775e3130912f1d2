"""How many requests a second the venue takes of one account, counted when they arrive.

https://bybit-exchange.github.io/docs/v5/rate-limit
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["create", "amend", "cancel"]

PER_S: dict[Kind, tuple[int, int]] = {"create": (10, 20), "amend": (10, 10), "cancel": (10, 20)}
"""(linear, spot)."""
WINDOW_NS = 10**9
REASON = "10006"


class RateLimits(Struct):
    """Arrival times of the last second's requests, by kind and category; a refused one is none."""

    seen: dict[str, list[int]] = {}

    def admits(self, kind: Kind, symbol: str, arrived_ns: int) -> bool:
        """Count a request, or refuse it."""
        category = symbol.partition(":")[0]
        seen = self.seen.setdefault(f"{kind} {category}", [])
        while seen and seen[0] <= arrived_ns - WINDOW_NS:
            del seen[0]
        if len(seen) >= PER_S[kind][category == "spot"]:
            return False
        seen.append(arrived_ns)
        return True
