"""How many requests a second the venue takes of one account, counted when they arrive.

https://bybit-exchange.github.io/docs/v5/rate-limit
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["create", "amend", "cancel"]

PER_S: dict[Kind, tuple[int, int]] = {"create": (10, 20), "amend": (10, 10), "cancel": (10, 20)}
"""(linear, spot)."""
WINDOW_NS = 10**9
REASON = "10006"


class Window:
    """A rolling second of one account's requests of one kind. One refused does not count."""

    __slots__ = ("_most", "_seen", "_window")

    def __init__(self, most: int, window: int) -> None:
        self._most = most
        self._window = window
        self._seen: deque[int] = deque()

    def admits(self, now: int) -> bool:
        """Count a request at ``now`` (in the window's unit), or refuse it."""
        if self.left(now) <= 0:
            return False
        self._seen.append(now)
        return True

    def left(self, now: int) -> int:
        """How many more would pass."""
        seen = self._seen
        while seen and seen[0] <= now - self._window:
            seen.popleft()
        return self._most - len(seen)

    @property
    def first(self) -> int:
        """When the oldest request counted came; there must be one."""
        return self._seen[0]


class RateLimits:
    """All kinds of requests of one account."""

    def __init__(self) -> None:
        self._windows = {
            (kind, is_spot): Window(most[is_spot], WINDOW_NS)
            for kind, most in PER_S.items()
            for is_spot in (False, True)
        }

    def admits(self, kind: Kind, symbol: str, arrived_ns: int) -> bool:
        """Whether a request that arrives at ``arrived_ns`` is taken; times never go back much."""
        return self._windows[kind, symbol.startswith("spot:")].admits(arrived_ns)
