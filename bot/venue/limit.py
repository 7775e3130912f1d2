"""A sliding-window rate limit. Nothing here knows what is being limited."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable


class RateLimit:
    """At most ``most`` admissions in any ``window_s`` seconds, for one event loop."""

    def __init__(
        self,
        most: int,
        window_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if most < 1 or window_s <= 0:
            raise ValueError(f"a rate limit of {most} in {window_s} s admits nothing")
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._sleep = sleep
        self._admitted: deque[float] = deque()

    async def wait(self) -> None:
        """Return when one more is allowed, and count it."""
        while (delay_s := self._delay_s()) > 0:
            await self._sleep(delay_s)
        if len(self._admitted) == self._most:
            self._admitted.popleft()
        self._admitted.append(self._clock())

    def _delay_s(self) -> float:
        if len(self._admitted) < self._most:
            return 0.0
        return self._admitted[0] + self._window_s - self._clock()
