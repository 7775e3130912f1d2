"""How often a client may ask: rolling limits per API key, and the limit per address.

https://bybit-exchange.github.io/docs/v5/rate-limit. Times are the venue's, in ms.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from bot.core.rate_limits import PER_S, WINDOW_NS

WINDOW_MS = WINDOW_NS // 1_000_000
IP_REQUESTS = 600
IP_WINDOW_MS = 5000
BAN_MS = 600_000
_RESET_LEAST_MS = 100

# Requests a second: (linear, spot).
_PER_S = {
    "/v5/order/create": PER_S["create"],
    "/v5/order/amend": PER_S["amend"],
    "/v5/order/cancel": PER_S["cancel"],
    "/v5/order/cancel-all": PER_S["cancel"],
    "/v5/position/set-leverage": (10, 10),
    "/v5/position/trading-stop": (10, 10),
    "/v5/account/fee-rate": (5, 5),
}
_PER_S_ELSEWHERE = 50


class Allowance(Struct, frozen=True):
    """What the ``X-Bapi-Limit`` headers tell; ``ok`` says whether this request passes."""

    limit: int
    left: int
    reset_ms: int
    ok: bool

    def headers(self) -> dict[str, str]:
        return {
            "X-Bapi-Limit": str(self.limit),
            "X-Bapi-Limit-Status": str(self.left),
            "X-Bapi-Limit-Reset-Timestamp": str(self.reset_ms),
        }


class RollingLimits:
    """The last second of every (key, path, category)."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str, str], deque[int]] = {}

    def take(self, key: str, path: str, category: str, now_ms: int) -> Allowance:
        """Count a request, or refuse it; a refused one does not count."""
        linear, spot = _PER_S.get(path, (_PER_S_ELSEWHERE, _PER_S_ELSEWHERE))
        category = "spot" if category == "spot" else "linear"
        limit = spot if category == "spot" else linear
        seen = self._seen.setdefault((key, path, category), deque())
        while seen and seen[0] <= now_ms - WINDOW_MS:
            seen.popleft()
        if len(seen) >= limit:
            # Never too close: a client that sleeps until then must not find it past already.
            reset_ms = max(seen[0] + WINDOW_MS, now_ms + _RESET_LEAST_MS)
            return Allowance(limit, 0, reset_ms, ok=False)
        seen.append(now_ms)
        return Allowance(limit, limit - len(seen), now_ms, ok=True)


class AddressGuard:
    """Who asks too often from one address is not heard for ten minutes, whatever it asks."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[int]] = {}
        self._banned_until_ms: dict[str, int] = {}

    def admits(self, address: str, now_ms: int) -> bool:
        if now_ms < self._banned_until_ms.get(address, 0):
            return False
        seen = self._seen.setdefault(address, deque(maxlen=IP_REQUESTS + 1))
        seen.append(now_ms)
        if len(seen) > IP_REQUESTS and seen[0] > now_ms - IP_WINDOW_MS:
            self.ban(address, now_ms)
            return False
        return True

    def ban(self, address: str, now_ms: int) -> None:
        self._seen.pop(address, None)
        self._banned_until_ms[address] = now_ms + BAN_MS

    def pardon(self) -> int:
        """Let everybody in again; returns how many were out."""
        banned = len(self._banned_until_ms)
        self._banned_until_ms.clear()
        self._seen.clear()
        return banned
